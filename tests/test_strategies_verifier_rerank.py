"""Verifier-weighted vote beyond the laws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from ttscale.engines import Engine
from ttscale.errors import EngineStopped, InvalidInput, ScoreError
from ttscale.strategies import VerifierRerank
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Candidate, Prompt, Usage
from ttscale.verifiers import CallableVerifier, CandidateScore, ScoreSheet

TEXTS = [r"\boxed{9}", r"\boxed{7}", r"So \boxed{7}", "Hmm."]


@dataclass(frozen=True)
class FixedVerifier:
    """Returns one sheet, or raises one error."""

    sheet: ScoreSheet | Exception
    low: float = 0.0
    high: float = 10.0
    name: str = "fixed"

    async def ascore(
        self, prompt: Prompt, candidates: Sequence[Candidate], engine: Engine
    ) -> ScoreSheet:
        if isinstance(self.sheet, Exception):
            raise self.sheet
        return self.sheet


def sheet(*values: float) -> ScoreSheet:
    """A sheet of these scores, in order, that cost ten tokens."""
    scores = tuple(CandidateScore(i, value) for i, value in enumerate(values))
    return ScoreSheet(scores, Usage(10, 0))


def test_answer_weighs_the_sum_of_its_rescaled_scores() -> None:
    """Two fair samples beat one good one, and the better of them is handed back."""
    strategy = VerifierRerank(FixedVerifier(sheet(8, 5, 6, 10)), n=4)

    outcome = strategy.run(ScriptedEngine(TEXTS), "q")

    assert outcome.answer == "7"
    assert outcome.candidate is not None
    assert outcome.candidate.index == 2
    assert [vote.answer for vote in outcome.votes] == ["7", "9"]
    assert [vote.weight for vote in outcome.votes] == pytest.approx([1.1, 0.8])


def test_scores_are_the_full_ranking() -> None:
    """Every sample is ranked by its own score, in the verifier's units, those without last."""
    scores = (CandidateScore(0, error="lost"), *sheet(0, 5, 6, 10).scores[1:])

    outcome = VerifierRerank(FixedVerifier(ScoreSheet(scores)), n=4).run(ScriptedEngine(TEXTS), "q")

    assert [(s.index, s.value) for s in outcome.scores] == [(3, 10), (2, 6), (1, 5), (0, None)]


@pytest.mark.parametrize("value", [float("nan"), -0.1, 10.5, float("inf")])
def test_impossible_score_is_an_error_of_that_sample(value: float) -> None:
    """A score that is no number in the declared range is an error, and the others stand."""
    strategy = VerifierRerank(FixedVerifier(sheet(value, 1, 1, 1)), n=4)

    outcome = strategy.run(ScriptedEngine(TEXTS), "q")

    assert outcome.answer == "7"
    assert outcome.scores[-1].index == 0
    assert "the score must be in [0, 10]" in (outcome.scores[-1].error or "")


def test_missing_score_is_an_error_of_that_sample() -> None:
    """A verifier that leaves candidates out leaves them without a score, not with a default."""
    strategy = VerifierRerank(FixedVerifier(sheet(3)), n=4)

    outcome = strategy.run(ScriptedEngine(TEXTS), "q")

    assert outcome.answer == "9"
    assert {s.error for s in outcome.scores[1:]} == {"the verifier returned no score"}


def test_score_of_no_candidate_is_refused() -> None:
    """A sheet with a fifth score for four candidates is a bug of the verifier."""
    strategy = VerifierRerank(FixedVerifier(sheet(1, 2, 3, 4, 5)), n=4)

    with pytest.raises(InvalidInput, match="each of the candidates 0 to 3"):
        strategy.run(ScriptedEngine(TEXTS), "q")


@pytest.mark.parametrize("error", [ScoreError("no judge"), EngineStopped("no judge")])
def test_samples_survive_a_verifier_that_fails(error: Exception) -> None:
    """When nothing could be scored there is no answer, and the samples are still there."""
    outcome = VerifierRerank(FixedVerifier(error), n=4).run(ScriptedEngine(TEXTS), "q")

    assert outcome.answer is None
    assert outcome.returned == 4
    assert outcome.reason == "no sample that states an answer has a score: no judge"


def test_verifier_tokens_are_counted() -> None:
    """The usage holds the verifier's tokens beside those of the samples."""
    strategy = VerifierRerank(FixedVerifier(sheet(1, 1, 1, 1)), n=4)

    outcome = strategy.run(ScriptedEngine([candidate("a", token_count=5)]), "one word")

    assert outcome.usage == Usage(2 + 10, 4 * 5)


def test_bad_range_is_refused() -> None:
    """A verifier whose range is empty is refused at construction."""
    with pytest.raises(InvalidInput, match="low < high"):
        VerifierRerank(FixedVerifier(sheet(1), low=1.0, high=1.0))
    with pytest.raises(InvalidInput, match="low < high"):
        CallableVerifier(lambda question, text: 1.0, low=0.0, high=float("inf"))
