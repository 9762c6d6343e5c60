"""`ttscale solve` with every strategy, their settings and budgets, on a scripted engine."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from ttscale import LocalEngine
from ttscale.cli import main
from ttscale.cli.engine import EngineFactory
from ttscale.engines import Engine
from ttscale.strategies import NAMES
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt


def script(prompt: Prompt, index: int) -> Scripted:
    """Answers 7; as a judge says Yes, or prefers the first."""
    top = {"Yes": -0.1, "No": -3.0, "A": -0.5, "B": -1.0}
    return candidate(r"It is \boxed{7}.", logprob=-1.0, confidences=[3.0], top_logprobs=top)


def on(engine: Engine) -> EngineFactory:
    """A factory that gives this engine, whatever the model."""
    return lambda model: nullcontext(engine)


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_solves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each name answers a question, judging itself where it needs a verifier."""
    engine = ScriptedEngine(script)
    options = ["--strategy", name, "--n", "3", "--seed", "1", "--json"]

    assert main(["solve", "What is 3 + 4?", *options], on(engine)) == 0

    record = json.loads(capsys.readouterr().out)
    assert record["strategy"] == name
    assert "7" in record["answer"]


def test_settings_and_budgets_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """`--set` reaches the strategy; a budget stops it, and the output says so."""
    options = ["--strategy", "adaptive", "--n", "9", "--set", "batch=2", "--set", "alpha=null"]

    assert main(["solve", "q", *options, "--max-samples", "3"], on(ScriptedEngine(script))) == 0

    out = capsys.readouterr().out
    assert "best so far: the budget's max_samples=3 is used up" in out
    assert "counted 3" in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "keep"], "--set takes NAME=VALUE"),
        (["--set", "keeep=1"], "has no setting 'keeep'"),
        (["--set", "n=1"], "--set cannot set 'n'"),
        (["--set", "kind=[1]"], "--set cannot set 'kind'"),
        (["--strategy", "medoid", "--verifier", "self-judge"], "uses no verifier"),
        (["--max-samples", "0"], "max_samples must be a whole number"),
        (["--deadline", "nan"], "deadline_seconds must be a number"),
    ],
)
def test_bad_settings_are_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong is said before an engine is started."""
    engine = ScriptedEngine(script)

    assert main(["solve", "q", *options], on(engine)) == 2

    assert words in capsys.readouterr().err
    assert engine.calls == []


@pytest.mark.engine
@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_runs_on_the_embedded_model(
    name: str, engine: LocalEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ESamp samples of the real engine each strategy comes to an end, and tells its cost."""
    options = ["--strategy", name, "--n", "2", "--max-tokens", "24", "--seed", "1", "--json"]

    assert main(["solve", "What is 3 + 4?", *options], on(engine)) == 0

    record = json.loads(capsys.readouterr().out)
    assert record["spent"]["samples"] >= 2
    assert record["spent"]["failed"] == 0
