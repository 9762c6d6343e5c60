"""What a verifier answers: one score or one error for each candidate, never a made-up number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Real

from ttscale.errors import InvalidInput, ScoreError
from ttscale.types import Usage


@dataclass(frozen=True, slots=True)
class CandidateScore:
    """The score of one candidate, or why it has none.

    Attributes:
        index: Place of the candidate in the sequence that was scored.
        value: The score, in the verifier's own units; None when there is none.
        error: Why there is no score; None when there is one.

    Raises:
        InvalidInput: Both or neither of `value` and `error` are given.
    """

    index: int
    value: float | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.error is None):
            raise InvalidInput(
                f"a candidate's score is either a value or an error, got value={self.value!r} "
                f"and error={self.error!r}"
            )


@dataclass(frozen=True, slots=True)
class ScoreSheet:
    """One `CandidateScore` for each candidate, in their order, and the tokens that it cost."""

    scores: tuple[CandidateScore, ...]
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def failed(cls, count: int, reason: str) -> ScoreSheet:
        """A sheet on which none of `count` candidates has a score, all for the same reason."""
        return cls(tuple(CandidateScore(place, error=reason) for place in range(count)))


def check_range(low: float, high: float) -> None:
    """Raise InvalidInput unless `low` and `high` are finite and in that order."""
    numbers = all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high))
    if not numbers or low >= high:
        raise InvalidInput(
            f"a verifier's range must be two finite numbers with low < high, got {low!r} to "
            f"{high!r}"
        )


def checked_value(value: object, low: float, high: float) -> float:
    """Return `value` as a float if it is a number in [low, high].

    Truth values count as 1 and 0, so that a plain check can serve as a verifier.

    Raises:
        ScoreError: It is no number, not finite, or out of range.
    """
    if not isinstance(value, Real):
        raise ScoreError(f"the score must be a number, got {value!r}")
    number = float(value)
    if not low <= number <= high:  # also refuses NaN
        raise ScoreError(f"the score must be in [{low:g}, {high:g}], got {number!r}")
    return number


def score_of(place: int, value: object, low: float, high: float) -> CandidateScore:
    """`checked_value` as the score, or the error, of the candidate at `place`."""
    try:
        return CandidateScore(place, checked_value(value, low, high))
    except ScoreError as error:
        return CandidateScore(place, error=str(error))


def conform(sheet: ScoreSheet, count: int, low: float, high: float) -> ScoreSheet:
    """The sheet with exactly one entry for each of `count` candidates, in order.

    A missing entry and a value outside [low, high] become errors of that candidate alone.

    Raises:
        InvalidInput: The sheet scores a candidate twice, or one that does not exist.
    """
    given = {score.index: score for score in sheet.scores}
    if len(given) != len(sheet.scores) or not set(given) <= set(range(count)):
        indexes = [score.index for score in sheet.scores]
        raise InvalidInput(
            f"a score sheet must score each of the candidates 0 to {count - 1} at most once, "
            f"got the indexes {indexes}"
        )
    return replace(sheet, scores=_every_place(given, count, low, high))


def _every_place(
    given: dict[int, CandidateScore], count: int, low: float, high: float
) -> tuple[CandidateScore, ...]:
    missing = "the verifier returned no score"
    entries = (given.get(i, CandidateScore(i, error=missing)) for i in range(count))
    return tuple(
        entry if entry.value is None else score_of(entry.index, entry.value, low, high)
        for entry in entries
    )


def values(scores: Sequence[CandidateScore]) -> tuple[float | None, ...]:
    """The bare values of scores that are in the order of their candidates."""
    return tuple(score.value for score in scores)
