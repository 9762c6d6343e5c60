"""DSPy on the real engine with the embedded model; nothing depends on what it answers."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils.exceptions import ContextWindowExceededError

from ttscale import ESamp, LocalEngine, Sampler
from ttscale.evaluation import from_reasoning_gym
from ttscale.integrations.dspy import ESampLM, ProseAdapter, SelfConsistency

pytestmark = pytest.mark.engine

EXAMPLE = Path(__file__).parent.parent / "examples" / "dspy_optimize.py"
SIGNATURE = dspy.Signature("question -> answer", "Answer briefly.")


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """A cache in memory only, and empty: nothing reaches the user's home or another test."""
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.configure_cache(enable_disk_cache=False)


@pytest.fixture
def lm(engine: LocalEngine) -> Iterator[ESampLM]:
    """The embedded model, in use; with kind text any text that it writes is an answer."""
    sampler = Sampler(max_tokens=12, seed=1)
    exploring = ESampLM(engine, sampler=sampler, esamp=ESamp(beta=0.25))
    with dspy.context(lm=exploring, adapter=ProseAdapter("text"), track_usage=True):
        yield exploring


def facts(lm: ESampLM) -> list[dict[str, Any]]:
    """What the LM has recorded of the answers of its latest call."""
    answers: list[dict[str, Any]] = lm.history[-1]["ttscale"]["answers"]
    return answers


def test_predict_draws_from_the_model(lm: ESampLM) -> None:
    """One prediction is one sample, with real token counts and log-probabilities."""
    prediction = dspy.Predict(SIGNATURE)(question="What colour is the sky?")

    usage = prediction.get_lm_usage()[lm.model]
    assert prediction.answer
    assert usage["prompt_tokens"] > 5
    assert 1 <= usage["completion_tokens"] <= 12
    assert facts(lm)[0]["logprob"] < 0


def test_self_consistency_draws_eight_samples_that_share_a_distiller(lm: ESampLM) -> None:
    """Eight candidates are one request: one prompt paid, one distiller for all rows."""
    prediction = SelfConsistency(SIGNATURE, n=8)(question="Name any animal.")

    assert prediction.choice.drawn == 8
    assert len(prediction.completions) + len(prediction.choice.dropped) == 8
    assert len(lm.history) == 1
    reports = [fact["esamp"] for fact in facts(lm)]
    assert reports == [reports[0]] * 8
    assert reports[0]["rows_mixed"] > 8
    assert reports[0]["steps_trained"] > 0
    tokens = sum(fact["token_count"] for fact in facts(lm))
    assert prediction.get_lm_usage()[lm.model]["completion_tokens"] == tokens


def test_program_is_compiled_saved_and_loaded(lm: ESampLM, tmp_path: Path) -> None:
    """Demonstrations are winners of real votes on a reasoning-gym task; loading brings them back.

    The metric accepts everything, so that the number of demonstrations is certain.
    """
    task = from_reasoning_gym("chain_sum", 3, seed=0)
    trainset = [
        dspy.Example(question=p.question, answer=p.gold).with_inputs("question")
        for p in task.problems
    ]
    winners = []

    def accept(gold: Any, pred: Any, trace: Any = None) -> bool:
        winners.append(pred.answer)
        return True

    optimizer = dspy.BootstrapFewShot(metric=accept, max_bootstrapped_demos=2, max_labeled_demos=1)
    compiled = optimizer.compile(SelfConsistency(SIGNATURE, n=3), trainset=trainset)
    compiled.set_lm(lm)
    compiled.save(tmp_path / "program.json")
    loaded = SelfConsistency(SIGNATURE)
    loaded.load(tmp_path / "program.json", allow_unsafe_lm_state=True)

    assert [demo["answer"] for demo in loaded.inner.predict.demos] == winners
    assert loaded.settings.n == 3
    assert loaded.get_lm().engine.engine is lm.engine.engine
    again = [program(question="1 + 1 =").answer for program in (compiled, loaded)]
    assert again[0] == again[1]


def test_example_compiles_on_the_embedded_model(
    engine: LocalEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small run of the example prints both scores with intervals, and loses no ground."""
    main = runpy.run_path(str(EXAMPLE))["main"]
    monkeypatch.setitem(main.__globals__, "LocalEngine", lambda **settings: nullcontext(engine))
    main(["--small"])

    shown = capsys.readouterr().out
    scores = re.findall(r"(before|after ): (\d)/4 right = \d+% \[\d+%, \d+%\]", shown)
    assert [name for name, _ in scores] == ["before", "after "]
    assert int(scores[0][1]) <= int(scores[1][1])
    assert "n = 3 votes per question" in shown


def test_prompt_beyond_the_models_length_is_named_as_such(lm: ESampLM) -> None:
    """DSPy's own error for a full context window is raised, without a retry."""
    with pytest.raises(ContextWindowExceededError):
        lm("word " * 3000)
