"""The programs of docs/verifiers.md and docs/answers.md print what the pages say."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from ttscale.sandbox import isolation

DOCS = Path(__file__).resolve().parent.parent / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(*match.groups(), id=f"{page}-{number}")
    for page in ("verifiers", "answers")
    for number, match in enumerate(EXAMPLE.finditer((DOCS / f"{page}.md").read_text("utf-8")))
]


@pytest.mark.parametrize(("program", "printed"), EXAMPLES)
def test_example_prints_what_the_page_says(program: str, printed: str) -> None:
    """Word for word, but for what isolation this machine has."""
    if "sandbox" in program and isolation().level != "full":
        pytest.skip("this machine cannot isolate programs")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, "example.py", "exec"), {})  # noqa: S102 - our own documentation

    assert _without_isolation(output.getvalue()) == _without_isolation(printed)


def _without_isolation(text: str) -> str:
    return re.sub(r"^full: .*; holds", "full: ...; holds", text, flags=re.MULTILINE)


def test_every_page_has_examples() -> None:
    """An example that the pattern misses would not be run."""
    assert len(EXAMPLES) == 3
