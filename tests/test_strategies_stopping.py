"""The rules by which the adaptive vote stops."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscale.strategies.stopping import decided, evidence, significant

STEPS = 20_000


@pytest.mark.parametrize(
    ("counts", "left", "settled"),
    [
        ([], 0, False),
        ([], 5, False),
        ([3], 2, True),
        ([3], 3, False),
        ([5, 2], 2, True),
        ([5, 3], 2, False),
        ([2, 5, 1], 2, True),
        ([1, 1], 0, False),
    ],
)
def test_lead_must_exceed_what_is_left(counts: list[int], left: int, settled: bool) -> None:
    """The exact rule stops only when neither a loss nor a tie is possible any more."""
    assert decided(counts, left) is settled


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 11))
def test_decided_vote_is_never_overturned(votes: list[int], at: int) -> None:
    """Whatever the remaining votes are, the winner of a decided vote stays the only winner."""
    seen, rest = votes[:at], votes[at:]
    counts = [seen.count(answer) for answer in range(4)]
    if decided(counts, len(rest)):
        leader = counts.index(max(counts))
        final = [votes.count(answer) for answer in range(4)]
        assert final[leader] > max(final[:leader] + final[leader + 1 :])


@pytest.mark.parametrize(("for_it", "against"), [(0, 0), (5, 0), (0, 4), (7, 3), (40, 30)])
def test_evidence_is_the_integral_that_it_claims_to_be(for_it: int, against: int) -> None:
    """The closed form agrees with the integral, computed by the midpoint rule."""
    width = 0.5 / STEPS
    points = (0.5 + (i + 0.5) * width for i in range(STEPS))
    integral = sum((2 * p) ** for_it * (2 * (1 - p)) ** against for p in points) * width

    assert float(evidence(for_it, against)) == pytest.approx(2 * integral, rel=1e-4)


@pytest.mark.parametrize("total", [1, 2, 5, 12])
@pytest.mark.parametrize("share", [Fraction(1, 2), Fraction(1, 3), Fraction(0)])
def test_expected_evidence_is_at_most_one_while_the_rival_is_as_likely(
    total: int, share: Fraction
) -> None:
    """An e-value: under the null its expectation does not exceed 1, for any number of votes."""

    def chance(hits: int) -> Fraction:
        ways = Fraction(1)
        for i in range(hits):
            ways = ways * (total - i) / (i + 1)
        return ways * share**hits * (1 - share) ** (total - hits)

    mean = sum(chance(hits) * evidence(hits, total - hits) for hits in range(total + 1))

    assert mean <= 1


def test_unanimous_votes_are_enough_at_nine() -> None:
    """For alpha 0.05 nine equal votes suffice and eight do not; abstentions do not count."""
    assert not significant([0] * 8, 0.05)
    assert significant([0] * 9, 0.05)
    assert significant([None, 0] * 9, 0.05)
    assert not significant([], 0.05)


def test_answer_that_came_late_needs_more_evidence() -> None:
    """The second answer to appear must reach a bound three times as high."""
    votes = [1] + [0] * 9

    assert not significant(votes, 0.05)
    assert significant([*votes, 0, 0, 0, 0], 0.05)


def test_tie_is_never_significant() -> None:
    """Without a single leader nothing is accepted."""
    assert not significant([0] * 40 + [1] * 40, 0.05)


def test_wrong_answers_are_accepted_as_rarely_as_stated() -> None:
    """Over 2,000 seeded votes of up to 60, a less probable answer stops at most 5 % of them."""
    dice = random.Random(0)  # noqa: S311 - reproducible, not secret
    wrong = 0
    for _ in range(2_000):
        votes: list[int | None] = []
        while len(votes) < 60 and not significant(votes, 0.05):
            votes.append(dice.choices([0, 1, 2], [0.36, 0.34, 0.30])[0])
        if significant(votes, 0.05):
            counts = [votes.count(answer) for answer in range(3)]
            wrong += counts.index(max(counts)) != 0
    assert wrong <= 2_000 * 0.05
