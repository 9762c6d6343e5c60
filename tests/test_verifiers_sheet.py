"""Score sheets: one score or one error each."""

from __future__ import annotations

import math

import pytest

from ttscale.errors import InvalidInput
from ttscale.types import Usage
from ttscale.verifiers import CandidateScore, ScoreSheet
from ttscale.verifiers.sheet import conform


@pytest.mark.parametrize(("value", "error"), [(None, None), (0.5, "and an error")])
def test_score_is_a_value_or_an_error(value: float | None, error: str | None) -> None:
    """Both and neither are refused."""
    with pytest.raises(InvalidInput, match="either a value or an error"):
        CandidateScore(0, value, error)


def test_conform_fills_sorts_and_checks() -> None:
    """The sheet comes out with one entry per candidate, in order, and its usage kept."""
    given = ScoreSheet((CandidateScore(2, math.nan), CandidateScore(0, 0.5)), Usage(1, 2))

    sheet = conform(given, 3, 0.0, 1.0)

    assert sheet.usage == Usage(1, 2)
    assert sheet.scores[0] == CandidateScore(0, 0.5)
    assert sheet.scores[1] == CandidateScore(1, error="the verifier returned no score")
    assert "got nan" in (sheet.scores[2].error or "")


@pytest.mark.parametrize("indexes", [(0, 0), (2,), (-1,)])
def test_conform_refuses_scores_of_no_candidate(indexes: tuple[int, ...]) -> None:
    """A second score of one candidate, or one of none, is refused with the indexes."""
    sheet = ScoreSheet(tuple(CandidateScore(i, 0.5) for i in indexes))

    with pytest.raises(InvalidInput, match="candidates 0 to 1 at most once"):
        conform(sheet, 2, 0.0, 1.0)
