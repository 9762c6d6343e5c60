"""Best-of-N beyond the laws."""

from __future__ import annotations

import math

import pytest

from ttscale.errors import InvalidInput
from ttscale.strategies import BestOfN
from ttscale.testing import ScriptedEngine, candidate
from ttscale.verifiers import CallableVerifier


def test_scores_by_mean_log_probability() -> None:
    """Without a verifier the highest log-probability per token wins, not the highest sum."""
    short = candidate(r"\boxed{1}", token_count=2, logprob=-2.0)
    long = candidate(r"\boxed{2}", token_count=10, logprob=-5.0)

    outcome = BestOfN(n=2).run(ScriptedEngine([short, long]), "q")

    assert outcome.answer == "2"
    assert [(s.index, s.value) for s in outcome.scores] == [(1, -0.5), (0, -1.0)]
    assert outcome.margin == 0.5


@pytest.mark.parametrize("logprob", [math.nan, math.inf, -math.inf])
def test_impossible_log_probability_is_an_error_of_that_sample(logprob: float) -> None:
    """A log-probability that is no finite number cannot win, and harms no other sample."""
    broken = candidate(r"\boxed{1}", logprob=logprob)
    sound = candidate(r"\boxed{2}", logprob=-30.0)

    outcome = BestOfN(n=2).run(ScriptedEngine([broken, sound]), "q")

    assert outcome.answer == "2"
    assert [s.index for s in outcome.scores] == [1, 0]
    assert outcome.scores[1].error == f"its log-probability is no finite number: {logprob!r}"


def test_without_any_score_there_is_no_answer() -> None:
    """An engine without log-probabilities leaves nothing to choose by, and that is said."""
    outcome = BestOfN(n=2).run(ScriptedEngine([r"\boxed{1}"]), "q")

    assert (outcome.answer, outcome.candidate) == (None, None)
    assert outcome.reason == (
        "no sample that states an answer has a score: the engine gives no log-probability for it"
    )


def test_winner_without_an_answer_is_still_handed_back() -> None:
    """The best sample may state nothing; the others' answers do not take its place."""
    texts = {"A poem.": 0.9, r"\boxed{1}": 0.1}
    strategy = BestOfN(n=2, verifier=CallableVerifier(lambda question, text: texts[text]))

    outcome = strategy.run(ScriptedEngine(list(texts)), "q")

    assert outcome.answer is None
    assert outcome.candidate is not None
    assert outcome.candidate.text == "A poem."
    assert outcome.reason == "the best-scored sample states no answer"


def test_verifier_that_fails_on_one_sample_loses_no_other() -> None:
    """A sample whose scoring raised has an error; the best of the others wins."""

    def brittle(question: str, text: str) -> float:
        if "9" in text:
            raise ZeroDivisionError("nine")
        return 0.5

    strategy = BestOfN(n=2, verifier=CallableVerifier(brittle))
    outcome = strategy.run(ScriptedEngine([r"\boxed{9}", r"\boxed{7}"]), "q")

    assert outcome.answer == "7"
    assert outcome.scores[1].error == "ZeroDivisionError: nine"


def test_something_that_is_no_verifier_is_refused() -> None:
    """A bare function is refused with the way to wrap it."""
    with pytest.raises(InvalidInput, match="wrap a plain function in CallableVerifier"):
        BestOfN(verifier=lambda question, text: 1.0)  # type: ignore[arg-type]
