"""The pages about strategies: one for each, and every program on them runs."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

import ttscale
from ttscale import LocalEngine
from ttscale.strategies import NAMES
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [DOCS / "strategies.md", *sorted((DOCS / "strategies").glob("*.md"))]
PROGRAM = re.compile(r"```python\n(.*?)```", re.DOTALL)
REAL = ("confidence-vote", "in-turn")


def script(prompt: Prompt, index: int) -> Scripted:
    """Answers 12; as a judge says Yes, or prefers the first."""
    top = {"Yes": -0.1, "No": -3.0, "A": -0.5, "B": -1.0}
    return candidate(r"It is \boxed{12}.", logprob=-1.0, confidences=[3.0], top_logprobs=top)


@pytest.fixture
def programs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, object], int]:
    """Runs the programs of a page in an empty folder, on an engine that is there already."""

    def run(page: Path, engine: object) -> int:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(ttscale, "LocalEngine", lambda: nullcontext(engine), raising=False)
        programs = PROGRAM.findall(page.read_text(encoding="utf-8"))
        for number, program in enumerate(programs):
            path = tmp_path / f"program{number}.py"
            path.write_text(program, encoding="utf-8")
            runpy.run_path(str(path), run_name="__main__")
        return len(programs)

    return run


def test_every_strategy_has_a_page() -> None:
    """A page for each name, and a row for it in the overview."""
    overview = PAGES[0].read_text(encoding="utf-8")

    assert {page.stem for page in PAGES[1:]} == {*NAMES, "in-turn"}
    assert all(f"(strategies/{name}.md)" in overview for name in NAMES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_run(
    page: Path,
    programs_run: Callable[[Path, object], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every page has a program, and it prints an outcome."""
    assert programs_run(page, ScriptedEngine(script)) > 0
    assert "12" in capsys.readouterr().out


@pytest.mark.engine
@pytest.mark.parametrize("name", REAL)
def test_programs_run_on_the_embedded_model(
    name: str,
    engine: LocalEngine,
    programs_run: Callable[[Path, object], int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Programs run on the real engine as they stand; tests of `solve` run every strategy on it."""
    assert programs_run(DOCS / "strategies" / f"{name}.md", engine) > 0
    assert capsys.readouterr().out
