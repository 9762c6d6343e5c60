"""Selectors: plain functions that pick one of the candidates that a sampler has drawn.

Every one of them is deterministic, and picks the same answer whatever the order of the candidates.
Ties are broken by `ttscale.strategies.vote.draw_lot` over the answers, and are reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ttscale.answers import Answer
from ttscale.strategies.vote import Tally, Vote, draw_lot, rounded, tally
from ttscale.types import Candidate


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selector decided.

    Attributes:
        place: Place of the winner among the candidates; None when nobody can win.
        answer: The winner's answer, in the spelling of its class; None when it has none.
        votes: Every class of answers, best first.
        tie: Whether the result was decided by lot.
        margin: Lead over the runner-up; see the selector for its unit.
    """

    place: int | None = None
    answer: str | None = None
    votes: tuple[Vote, ...] = ()
    tie: bool = False
    margin: float = 0.0


def majority(
    candidates: Sequence[Candidate], answers: Sequence[Answer | None], seed: int = 0
) -> Selection:
    """The most frequent answer; of its members the one with the best mean log-probability.

    `margin` is the winner's lead over the next answer as a share of all votes, 0 to 1.
    """
    count = tally(answers, [1.0] * len(candidates), seed)
    if not count.decided:
        return Selection(votes=count.votes)
    place = best_member(count.votes[0].members, candidates, [None] * len(candidates))
    return _elected(count, place)


def weighted_vote(
    candidates: Sequence[Candidate],
    answers: Sequence[Answer | None],
    scores: Sequence[float | None],
    *,
    low: float,
    high: float,
    seed: int = 0,
) -> Selection:
    """The answer whose members' scores, rescaled from [low, high] to [0, 1], sum to the most.

    Of its members the best-scored one is picked. A candidate without a score adds nothing, and an
    answer of which no candidate has a score cannot win. `margin` is the winner's lead over the next
    answer as a share of all weight, 0 to 1.
    """
    weights = [None if s is None else (s - low) / (high - low) for s in scores]
    count = tally(answers, weights, seed)
    if not count.decided:
        return Selection(votes=count.votes)
    place = best_member(count.votes[0].members, candidates, scores)
    return _elected(count, place)


def argmax(
    candidates: Sequence[Candidate],
    answers: Sequence[Answer | None],
    scores: Sequence[float | None],
    seed: int = 0,
) -> Selection:
    """The candidate with the highest score, whether it has an answer or not.

    A candidate without a score cannot win. The weight of a vote is its best member's score. Rivals
    are the candidates with another answer than the winner (among those without an answer, with
    another text): it is a tie when one of them has the same score, and `margin` is the lead over
    the best of them in units of the score, 0 when there are none.
    """
    votes = tally(answers, scores, seed, pool=max).votes
    label = {place: vote.answer for vote in votes for place in vote.members}
    known = {
        i: (score, draw_lot(seed, label.get(i, candidates[i].text)))
        for i, score in enumerate(scores)
        if score is not None
    }
    if not known:
        return Selection(votes=votes)
    _, lot = min(known.values(), key=lambda entry: (-rounded(entry[0]), entry[1]))
    place = best_member([i for i in known if known[i][1] == lot], candidates, scores)
    best, rivals = known[place][0], [score for score, other in known.values() if other != lot]
    return Selection(
        place=place,
        answer=label.get(place),
        votes=votes,
        tie=any(rounded(score) == rounded(best) for score in rivals),
        margin=max(0.0, best - max(rivals)) if rivals else 0.0,
    )


def best_member(
    places: Sequence[int], candidates: Sequence[Candidate], scores: Sequence[float | None]
) -> int:
    """The place with the best score, then the best mean log-probability, then the lowest."""

    def rank(place: int) -> tuple[float, float, int]:
        return (-_or_worst(scores[place]), -_or_worst(candidates[place].mean_logprob), place)

    return min(places, key=rank)


def _or_worst(value: float | None) -> float:
    """The value, or minus infinity for one that is unknown or no number."""
    return -math.inf if value is None or math.isnan(value) else value


def _elected(count: Tally, place: int) -> Selection:
    total = math.fsum(vote.weight for vote in count.votes)
    lead = count.votes[0].weight if count.lead is None else count.lead
    return Selection(
        place=place,
        answer=count.votes[0].answer,
        votes=count.votes,
        tie=count.tie,
        margin=lead / total if total > 0 else 0.0,
    )
