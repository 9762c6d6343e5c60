"""The one vote layer: equivalent answers pooled into classes, weighed and ranked."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ttscale.answers import Answer, classes

WEIGHT_DIGITS = 9
"""Weights that agree to this many decimal places are equal; sums of floats differ by less."""

Pool = Callable[[Iterable[float]], float]


@dataclass(frozen=True, slots=True)
class Vote:
    """What one class of equivalent answers has received.

    Attributes:
        answer: The spelling that most members use; of equally frequent ones the shortest, then the
            first in the alphabet.
        count: Number of members.
        weight: What the strategy ranks by; 0 when no member has a weight.
        members: Places of the members in `Outcome.candidates`, ascending.
    """

    answer: str
    count: int
    weight: float
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """All votes, best first, and how clear the result is.

    Attributes:
        votes: Best first. Classes without a weighted member come last and cannot win.
        decided: Whether there is a class that can win.
        tie: Whether several classes share the highest weight.
        lead: Weight of the first class minus that of the next that can win; None when there is
            no such other class.
    """

    votes: tuple[Vote, ...] = ()
    decided: bool = False
    tie: bool = False
    lead: float | None = None


def tally(
    answers: Sequence[Answer | None],
    weights: Sequence[float | None],
    seed: int,
    pool: Pool = math.fsum,
) -> Tally:
    """Pool answers into classes and rank these by the pooled weights of their members.

    A candidate without an answer does not vote; one without a weight counts as a member and adds
    no weight. Classes of equal weight are ordered by `draw_lot`.

    Args:
        answers: One per candidate; None abstains.
        weights: One per candidate, in any unit; None for unknown.
        seed: Seed of the order among equal classes.
        pool: What makes one weight of the members' weights; `math.fsum` or `max`.
    """
    entries = [_entry(members, answers, weights, pool) for members in _members(answers)]
    entries.sort(key=lambda entry: _rank(entry[0], entry[1], seed))
    weighted = [vote.weight for vote, known in entries if known]
    lead = weighted[0] - weighted[1] if len(weighted) > 1 else None
    return Tally(
        votes=tuple(vote for vote, _ in entries),
        decided=bool(weighted),
        tie=lead is not None and rounded(weighted[0]) == rounded(weighted[1]),
        lead=lead,
    )


def draw_lot(seed: int, label: str) -> str:
    """The lot of `label`: among equals the smallest lot comes first.

    A hash of the seed and the label, so it is the same on every machine and does not depend on
    the order in which candidates came.
    """
    return hashlib.sha256(f"{seed}\0{label}".encode("utf-8", "surrogatepass")).hexdigest()


def rounded(weight: float) -> float:
    """The weight as it is compared."""
    return round(weight, WEIGHT_DIGITS)


def _members(answers: Sequence[Answer | None]) -> list[tuple[int, ...]]:
    """Places of the candidates of each class."""
    voters = [(place, answer) for place, answer in enumerate(answers) if answer is not None]
    groups = classes([answer for _, answer in voters])
    return [tuple(sorted(voters[i][0] for i in group)) for group in groups]


def _entry(
    members: tuple[int, ...],
    answers: Sequence[Answer | None],
    weights: Sequence[float | None],
    pool: Pool,
) -> tuple[Vote, bool]:
    """The vote of one class, and whether any of its members has a weight."""
    known = [weight for place in members if (weight := weights[place]) is not None]
    spellings = [answer.value for place in members if (answer := answers[place]) is not None]
    weight = pool(known) if known else 0.0
    return Vote(_spelling(spellings), len(members), weight, members), bool(known)


def _spelling(spellings: Sequence[str]) -> str:
    counts = Counter(spellings)
    return min(counts, key=lambda text: (-counts[text], len(text), text))


def _rank(vote: Vote, known: bool, seed: int) -> tuple[bool, float, str]:
    return (not known, -rounded(vote.weight), draw_lot(seed, vote.answer))
