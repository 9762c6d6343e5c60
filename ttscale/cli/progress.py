"""How far the work has come, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from ttscale.cli.screen import Screen
from ttscale.types import Candidate


class Progress:
    """Counts finished samples and questions; `sample` may be called from any thread."""

    def __init__(self, screen: Screen, questions: int, n: int) -> None:
        self._screen = screen
        self._questions = questions
        self._samples = 0
        self._done = 0
        self._bar = self._make_bar() if screen.err.is_terminal else None
        if self._bar is not None:
            self._task = self._bar.add_task("", total=questions * n)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def sample(self, _: Candidate) -> None:
        """One sample has finished."""
        self._samples += 1
        if self._bar is not None:
            self._bar.advance(self._task)

    def question(self) -> None:
        """One question has been answered or lost."""
        self._done += 1
        text = f"{self._done} of {self._questions} questions, {self._samples} samples"
        if self._bar is not None:
            self._bar.update(self._task, description=text)
        elif self._questions > 1:
            self._screen.note(text)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bar off the terminal while something else is printed."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    def _make_bar(self) -> Bar:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        # Redirecting would send results, which belong to stdout, to stderr.
        return Bar(
            *columns,
            console=self._screen.err,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
