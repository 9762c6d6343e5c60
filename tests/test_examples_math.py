"""The maths example and the README's program, on the real engine."""

from __future__ import annotations

import contextlib
import re
import runpy
from pathlib import Path

import pytest

import ttscale
from ttscale import LocalEngine

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parent.parent


def test_the_example_prints_votes_accuracies_and_what_esamp_did(
    engine: LocalEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small run of `make demo` shows every line of its summary, with work done."""
    names = runpy.run_path(str(ROOT / "examples" / "math_majority_vote.py"))
    names["main"](engine, count=2, samples=4)
    printed = capsys.readouterr().out

    assert printed.count("votes:") == 2
    for line in ("majority vote", "mean single sample", "oracle (any sample)"):
        assert re.search(rf"^{re.escape(line)} .* of \d+", printed, re.MULTILINE)
    work = re.search(r"ESamp: (\d+) rows mixed, (\d+) steps trained, 0 fallbacks", printed)
    assert work is not None
    assert int(work[1]) > int(work[2]) > 0


def test_the_program_of_the_readme_runs(
    engine: LocalEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines run as they stand (with the session's engine) and print as many lines as shown."""
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    program, shown = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)[:2]
    monkeypatch.setattr(
        ttscale, "LocalEngine", lambda: contextlib.nullcontext(engine), raising=False
    )
    exec(compile(program, "README.md", "exec"), {})  # noqa: S102 - our own page
    printed = capsys.readouterr().out

    assert len(printed.splitlines()) == len(shown.splitlines()) == 2
    assert int(printed.splitlines()[1].split()[0]) > 0
