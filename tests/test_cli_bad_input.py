"""`ttscale solve` refuses bad input before any engine is made, and says when none can be."""

from __future__ import annotations

import sys
import types
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ttscale.cli import main
from ttscale.engines import Engine
from ttscale.errors import EngineError, MissingDependency, ModelNotFound
from ttscale.testing import ScriptedEngine


def never(model: str) -> Any:
    """A factory for runs that must end before an engine is made."""
    raise RuntimeError("an engine was asked for")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["q", "--n", "0"], "n must be a whole number of at least 1, got 0"),
        (["q", "--n", "x"], "invalid int value: 'x'"),
        (["q", "--beta", "-1"], "beta must be a number in [0, 4], got -1"),
        (["q", "--beta", "nan"], "beta must be a number in [0, 4], got nan"),
        (["q", "--strategy", "magic"], "invalid choice: 'magic'"),
        (["q", "--kind", "poem"], "invalid choice: 'poem'"),
        (["q", "--temperature", "0"], "n must be 1 at temperature 0"),
        (["q", "--concurrency", "0"], "concurrency must be a whole number of at least 1"),
        (["q", "--seed", "-1"], "seed must be a whole number"),
        (["q", "--no-esamp", "--beta", "0.5"], "--beta has no meaning with --no-esamp"),
        (["q", "--count", "3"], "--count has no meaning with a single question"),
        (["--task", "word_problems", "--count", "0"], "count must be a whole number"),
        (["--task", "gsm_symbolc"], "unknown task 'gsm_symbolc'; close names are"),
        (["--task", "countdown"], "runs the answer as Python"),
        (["--file", "/no/such.jsonl"], "cannot read '/no/such.jsonl': No such file"),
        (["q", "--task", "word_problems"], "give one of a question, --file and --task; got 2"),
        ([], "give one of a question, --file and --task; got none"),
        (["  "], "a question must not be empty"),
        (["q", "--nonsense"], "unrecognized arguments: --nonsense"),
    ],
)
def test_bad_input_is_one_line_and_starts_no_engine(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input ends with 2 and one line on stderr, before an engine is made."""
    assert main(["solve", *argv], never) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.startswith("ttscale: error: ")
    assert captured.err.count("\n") == 1


def test_file_without_a_problem_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file of broken lines only is refused, with the first of them."""
    path = tmp_path / "questions.jsonl"
    path.write_text("{broken\n[]\n")
    assert main(["solve", "--file", str(path)], never) == 2
    assert "holds no problem that can be read; line 1: " in capsys.readouterr().err


def test_folder_that_is_no_model_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real factory refuses it by what it lacks, without loading vLLM."""
    assert main(["solve", "q", "--model", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "holds no config.json" in error
    assert error.count("\n") == 1


def test_local_engine_gets_the_models_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that may be one is handed on as it was given."""
    seen: list[str] = []
    module = types.ModuleType("ttscale.worker.engine")

    def engine(model: str) -> nullcontext[Engine]:
        seen.append(model)
        return nullcontext(ScriptedEngine(["It is 7."]))

    module.LocalEngine = engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ttscale.worker.engine", module)
    assert main(["solve", "q", "--model", "some/model"]) == 0
    assert seen == ["some/model"]


@pytest.mark.parametrize(
    "error",
    [ModelNotFound("no model"), MissingDependency("no vllm"), EngineError("no memory\nat all")],
)
def test_engine_that_cannot_be_made_ends_with_3(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stops the engine from being made is shown in one line."""

    def factory(model: str) -> Any:
        raise error

    assert main(["solve", "q"], factory) == 3
    assert capsys.readouterr().err == f"ttscale: error: {' '.join(str(error).split())}\n"
