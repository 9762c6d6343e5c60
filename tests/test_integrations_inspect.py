"""inspect_ai runs its tasks through a strategy, and its logs become a pool."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("inspect_ai", reason="needs inspect_ai: pip install 'ttscale[inspect]'")

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import GenerateConfig, Model, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import tool

from ttscale.errors import InvalidInput
from ttscale.evaluation import inspect_files
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.summary import summarise
from ttscale.integrations.inspect import TTScaleAPI
from ttscale.testing import ScriptedEngine

pytestmark = pytest.mark.filterwarnings("default")  # the framework warns of its own code

REPLIES = [r"So \boxed{4}.", r"So \boxed{5}.", r"Well, \boxed{4}."]
WORDS = sum(len(text.split()) for text in REPLIES)  # the scripted engine's tokens


def model(engine: ScriptedEngine, **words: Any) -> Model:
    """The provider over a scripted engine, found by inspect_ai under its name."""
    return get_model("ttscale/scripted", memoize=False, engine=engine, **words)


def run(made: Model, folder: Path, *solvers: Any, **settings: Any) -> EvalLog:
    """Run one small task to its log."""
    samples = [Sample(input=f"{i} + 2?", target=str(i + 2), id=f"p{i}") for i in (2, 3)]
    task = Task(
        dataset=samples,
        solver=[*solvers, generate()],
        scorer=includes(),
        name="tiny",
        config=GenerateConfig(**settings),
    )
    (log,) = evaluate(task, model=made, log_dir=str(folder), display="none", log_format="eval")
    return log


def test_a_task_runs_through_a_strategy(tmp_path: Path) -> None:
    """The majority of three samples answers, and all three are in the usage."""
    engine = ScriptedEngine(REPLIES)
    made = model(engine, strategy="self-consistency", n=3, esamp=False)
    log = run(made, tmp_path, system_message("Be brief."), max_tokens=33, temperature=0.4)
    assert log.status == "success"
    assert log.results is not None
    assert log.results.scores[0].metrics["accuracy"].value == 0.5
    assert [call.n for call in engine.calls] == [3, 3]
    turns = [(m.role, m.content) for m in engine.calls[0].prompt.messages]
    assert turns[0] == ("system", "Be brief.")
    assert turns[1][0] == "user"
    assert {call.sampler.max_tokens for call in engine.calls} == {33}
    assert {call.sampler.temperature for call in engine.calls} == {0.4}
    assert log.samples is not None
    output = log.samples[0].output
    assert output.completion in (REPLIES[0], REPLIES[2])
    assert output.usage is not None
    assert output.usage.output_tokens == WORDS
    assert output.metadata is not None
    assert output.metadata["ttscale"]["samples"] == 3
    assert output.metadata["ttscale"]["answer"] == "4"


def test_its_log_becomes_a_pool(tmp_path: Path) -> None:
    """Question, text, tokens and score, and a report can be made of them."""
    log = run(model(ScriptedEngine(REPLIES), n=3), tmp_path, temperature=0.4)
    done = inspect_files.load(Path(log.location))
    pool = Pool()
    for record in done.records:
        pool.add(record)
    sampler = "ttscale/scripted@0.4"
    sample = pool.samples["tiny", "p2", sampler, 0]
    assert sample.text in (REPLIES[0], REPLIES[2])
    assert (sample.tokens, sample.finish) == (WORDS, "stop")
    assert pool.problems["tiny", "p2"].question == "2 + 2?"
    assert pool.problems["tiny", "p2"].gold == "4"
    assert pool.grades["tiny", "p2", sampler, 0].correct is True
    assert pool.grades["tiny", "p3", sampler, 0].correct is False
    assert pool.draws[0].completion_tokens == WORDS
    (task,) = summarise(pool, None, 20).tasks
    assert task.arms[0].figures["pass@1"].value == 0.5
    assert done.lost


def test_tools_are_refused_with_a_reason(tmp_path: Path) -> None:
    """A strategy chooses among texts; the log says why the sample failed."""

    def add() -> Any:
        async def execute(x: int) -> int:
            """Add one.

            Args:
                x: A number.
            """
            return x + 1

        return execute

    engine = ScriptedEngine(REPLIES)
    log = run(model(engine), tmp_path, use_tools(tool(add)()))
    assert log.status == "error"
    assert log.error is not None
    assert "takes no tools" in log.error.message
    assert engine.calls == []


@pytest.mark.parametrize(
    ("words", "message"),
    [({"strategy": "magic"}, "strategy must be one of"), ({"samples": 3}, "unknown argument")],
)
def test_wrong_arguments_are_refused(words: dict[str, Any], message: str) -> None:
    """As `-M` gives them."""
    with pytest.raises(InvalidInput, match=message):
        TTScaleAPI("scripted", engine=ScriptedEngine(REPLIES), **words)


def test_the_module_is_not_the_standard_librarys() -> None:
    """Its name is that of a module of Python, which stays what it is."""
    import inspect

    assert "ttscale" not in str(inspect.__file__)
    assert sys.modules["ttscale.integrations.inspect"] is not inspect
