"""Verifiers as DSPy metrics and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from ttscale.errors import InvalidInput, ScoreError
from ttscale.integrations.dspy import (
    ESampLM,
    VerifierRerank,
    metric_verifier,
    verifier_metric,
)
from ttscale.strategies import BestOfN
from ttscale.testing import ScriptedEngine, candidate
from ttscale.verifiers import CallableVerifier, SelfJudge

GOLD = dspy.Example(question="3 + 4?", answer="7").with_inputs("question")


def chat(answer: object) -> str:
    """What a model writes in DSPy's chat format."""
    return f"[[ ## reasoning ## ]]\nso\n\n[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]"


def exact(gold: Any, pred: Any, trace: Any = None) -> bool:
    """A metric that needs a label."""
    return bool(pred.answer == gold.answer)


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    """A cache in memory only, and empty: nothing reaches the user's home or another test."""
    dspy.configure_cache(enable_disk_cache=False)
    yield
    dspy.configure_cache(enable_disk_cache=False)


def test_verifier_sees_question_and_fields() -> None:
    """The inputs are the question and the output fields are the text."""
    seen = []

    def score(question: str, text: str) -> float:
        seen.append((question, text))
        return 1.0

    verifier_metric(CallableVerifier(score))(GOLD, dspy.Prediction(reasoning="so", answer=7))

    assert seen == [("3 + 4?", "reasoning: so\n\nanswer: 7")]


def test_score_is_rescaled_from_the_verifiers_range() -> None:
    """2 on a scale from -2 to 6 is one half."""
    metric = verifier_metric(CallableVerifier(lambda q, t: 2.0, low=-2.0, high=6.0))

    assert metric(GOLD, dspy.Prediction(answer="7")) == 0.5


def test_optimizer_that_collects_demonstrations_gets_a_verdict() -> None:
    """With a trace the metric says whether the score reaches the threshold."""
    verifier = CallableVerifier(lambda q, t: 0.4)

    assert verifier_metric(verifier)(GOLD, dspy.Prediction(answer="7"), []) is False
    assert verifier_metric(verifier, threshold=0.4)(GOLD, dspy.Prediction(answer="7"), []) is True


def test_gepa_gets_a_score_with_feedback() -> None:
    """Who names a predictor gets feedback: the score, what was answered and what was expected."""
    metric = verifier_metric(CallableVerifier(lambda q, t: 0.25, name="strict"))
    own = verifier_metric(CallableVerifier(lambda q, t: 0.0), feedback=lambda g, p, s: f"got {s}")

    given = metric(GOLD, dspy.Prediction(answer="9"), None, "inner.predict", [])

    assert given.score == 0.25
    assert given.feedback == (
        "strict scores this 0.25 on a scale from 0 to 1. Answered: 9. Expected: 7."
    )
    assert own(GOLD, dspy.Prediction(answer="9"), None, "p", None).feedback == "got 0.0"


def test_verifier_that_asks_a_model_uses_the_current_lm() -> None:
    """SelfJudge works as a metric, with the engine of the ESampLM, or with one that is given."""
    engine = ScriptedEngine([candidate("Yes", top_logprobs={"Yes": -0.1, "No": -2.4})])
    pred = dspy.Prediction(answer="7")

    with dspy.context(lm=ESampLM(engine)):
        by_lm = verifier_metric(SelfJudge())(GOLD, pred)

    assert by_lm == pytest.approx(0.909, abs=0.001)
    assert verifier_metric(SelfJudge(), engine=engine)(GOLD, pred) == by_lm


def test_prediction_without_a_score_is_an_error() -> None:
    """No score is made up when the verifier has none."""
    metric = verifier_metric(CallableVerifier(lambda q, t: float("nan")))

    with pytest.raises(ScoreError, match="callable has no score"):
        metric(GOLD, dspy.Prediction(answer="7"))


def test_evaluate_takes_a_verifier() -> None:
    """`dspy.Evaluate` computes the mean score in percent."""
    program = dspy.Predict("question -> answer")
    verifier = CallableVerifier(lambda q, t: float(t == "7"))
    devset = [GOLD, dspy.Example(question="3 + 5?").with_inputs("question")]
    engine = ScriptedEngine(lambda prompt, i: chat(7 if "3 + 4" in prompt.question else 9))

    with dspy.context(lm=ESampLM(engine)):
        result = dspy.Evaluate(devset=devset, metric=verifier_metric(verifier))(program)

    assert result.score == 50.0


async def test_metric_scores_the_stated_answer() -> None:
    """A metric as a verifier finds the example of the question and the answer in the text."""
    verifier = metric_verifier(exact, [GOLD])
    texts = [r"So it is \boxed{7}.", "reasoning: hm\n\nanswer: 7", "answer: 8"]
    engine = ScriptedEngine(texts)

    outcome = await BestOfN(n=3, verifier=verifier).arun(engine, "3 + 4?")

    assert [s.value for s in sorted(outcome.scores, key=lambda s: s.index)] == [1.0, 1.0, 0.0]
    assert verifier.name == "exact"


async def test_metric_without_a_label_is_an_error_of_its_candidate() -> None:
    """A question outside the examples, or a text without an answer, has no score."""
    verifier = metric_verifier(exact, [GOLD], kind="number")

    for question, text, reason in (
        ("5 + 5?", "10", "none of the 1 examples"),
        ("3 + 4?", "hm", ""),
    ):
        engine = ScriptedEngine([text])
        outcome = await BestOfN(n=1, verifier=verifier).arun(engine, question)
        assert outcome.scores[0].value is None
        assert (reason or "states no answer") in str(outcome.scores[0].error)


def test_metric_without_examples_gets_the_question() -> None:
    """A metric that needs no labels gets the question in its field and the answer in its own."""

    def brief(gold: Any, pred: Any) -> Any:
        return dspy.Prediction(score=float(gold.task == "3 + 4?" and pred.result == "7"))

    verifier = metric_verifier(brief, input_field="task", output_field="result", name="brief")
    outcome = BestOfN(n=1, verifier=verifier).run(ScriptedEngine(["7"]), "3 + 4?")

    assert outcome.scores[0].value == 1.0


def test_metric_reranks_in_a_module() -> None:
    """Both ways meet: a DSPy metric as the verifier of a module."""
    engine = ScriptedEngine([chat(9), chat(9), chat("7.0")])
    module = VerifierRerank("question -> answer", metric_verifier(exact, [GOLD]), n=3)

    with dspy.context(lm=ESampLM(engine)):
        assert module(question="3 + 4?").answer == "7.0"


def test_wrong_settings_are_refused() -> None:
    """What cannot work is refused when metric or verifier are made."""
    with pytest.raises(InvalidInput, match="threshold"):
        verifier_metric(SelfJudge(), threshold=2)
    with pytest.raises(InvalidInput, match="verifier must have"):
        verifier_metric(exact)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="metric must be callable"):
        metric_verifier("exact")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="kind must be"):
        metric_verifier(exact, kind="poem")
