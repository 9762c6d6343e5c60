"""When more votes are not needed: an exact rule, and a sequential test with a stated error rate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction


def decided(counts: Sequence[int], left: int) -> bool:
    """Whether `left` more votes cannot change the winner, nor bring it to a tie.

    Args:
        counts: Votes of each answer.
        left: Votes that are still to be drawn; any of them may abstain or name a new answer.
    """
    first, second = _two_largest(counts)
    return first - second > left


def evidence(for_it: int, against: int) -> Fraction:
    """The e-value of `for_it` votes against `against`: the factor by which the data favour it.

    With p the chance of a vote for the answer among votes for it and its rival, this is the
    likelihood averaged over p uniform in [1/2, 1], divided by that of p = 1/2:

        E = 2 * integral from 1/2 to 1 of (2p)^a (2(1-p))^b dp
          = sum over j <= a of C(a+b+1, j), divided by (a+b+1) C(a+b, a)

    While p <= 1/2 the chance that E ever reaches x, however often one looks, is at most 1/x
    (Ville's inequality).
    """
    total = for_it + against + 1
    tail = sum(math.comb(total, j) for j in range(for_it + 1))
    return Fraction(tail, total * math.comb(total - 1, for_it))


def significant(order: Sequence[int | None], alpha: float) -> bool:
    """Whether the sequential test names the leader the most probable answer.

    Answers are numbered k = 1, 2, ... as they first appear. The k-th is accepted when, among the
    votes after its first one, the evidence for it against the strongest rival reaches
    k (k + 1) / alpha. For independent votes the chance of ever accepting an answer other than the
    most probable one is at most alpha, since the sum over k of alpha / (k (k + 1)) is alpha.

    Args:
        order: The class of each vote in the order of drawing; None abstains.
        alpha: Bound of the error rate, in (0, 1).
    """
    votes = [vote for vote in order if vote is not None]
    counts = Counter(votes)
    first, second = _two_largest(list(counts.values()))
    if first == second:
        return False
    leader = max(counts, key=counts.__getitem__)
    rank = list(counts).index(leader) + 1  # a Counter keeps the order of first appearance
    later = Counter(votes[votes.index(leader) + 1 :])
    rival = max((count for answer, count in later.items() if answer != leader), default=0)
    return evidence(later[leader], rival) * Fraction(alpha) >= rank * (rank + 1)


def _two_largest(counts: Sequence[int]) -> tuple[int, int]:
    first, second, *_ = [*sorted(counts, reverse=True), 0, 0]
    return first, second
