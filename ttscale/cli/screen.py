"""The two streams: results go to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

FILE_WIDTH = 240  # columns of a table that goes to a file or a pipe


class Screen:
    """Writes results to stdout and notes to stderr; texts are shown as they are, without markup."""

    def __init__(self) -> None:
        self.out = _console(sys.stdout)
        self.err = _console(sys.stderr)

    def line(self, text: str) -> None:
        """Write one line to stdout, however wide."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def show(self, *contents: RenderableType) -> None:
        """Write tables and texts to stdout; a text stays on one line."""
        for content in contents:
            _print(self.out, content)

    def note(self, *contents: RenderableType) -> None:
        """Write to stderr; a text stays on one line."""
        for content in contents:
            _print(self.err, content)

    def error(self, error: Exception | str) -> None:
        """Write an error to stderr, in one line."""
        self.note(f"ttscale: error: {visible(' '.join(str(error).split()))}")


def _console(stream: TextIO) -> Console:
    """A console; where nobody looks at the width of a line, tables are not cut to it."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() else FILE_WIDTH)


def _print(console: Console, content: RenderableType) -> None:
    if isinstance(content, str):
        console.print(Text(content), soft_wrap=True)
    else:
        console.print(content)


def visible(text: str, limit: int | None = None) -> str:
    """The text with unprintable characters escaped, and cut to `limit` characters.

    Model texts may hold terminal commands; a terminal must show and not obey them.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if limit is not None and len(shown) > limit:
        return shown[: limit - 3] + "..."
    return shown
