"""From candidates to the one prediction that a program goes on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.primitives.prediction import Completions

from ttscale.answers import Answer
from ttscale.integrations._dspy_draw import Attempt, Batch
from ttscale.integrations._dspy_fields import answer_of, voting_field
from ttscale.integrations._dspy_settings import Settings
from ttscale.strategies import Vote
from ttscale.strategies.select import Selection, best_member
from ttscale.types import Candidate
from ttscale.verifiers import CandidateScore


@dataclass(frozen=True)
class Choice:
    """How the winner of a module's candidates was chosen.

    Attributes:
        place: Place of the winner in `.completions`.
        answer: The winner's answer; None when no candidate states one (`abstained`).
        votes: Every class of equivalent answers, best first.
        tie: Whether the result was decided by lot.
        margin: Lead over the runner-up, as in `ttscale.strategies.Outcome`.
        scores: One for each completion; empty when nothing was scored.
        drawn: Number of candidates that were drawn.
        dropped: Why candidates are missing from `.completions`.
        abstained: Whether nothing could be chosen, so that the likeliest candidate (without
            log-probabilities the first) was taken.
    """

    place: int
    answer: str | None
    votes: tuple[Vote, ...]
    tie: bool
    margin: float
    scores: tuple[CandidateScore, ...]
    drawn: int
    dropped: tuple[str, ...]
    abstained: bool


class ChosenPrediction(dspy.Prediction):  # type: ignore[misc]
    """The winner; all candidates are in `.completions`, and `.choice` tells how it was chosen."""

    _choice: Choice

    @property
    def choice(self) -> Choice:
        """How this candidate was chosen."""
        return self._choice


def candidates_of(batch: Batch) -> tuple[Candidate, ...]:
    """The candidates as ttscale's selectors take them."""
    return tuple(attempt.candidate for attempt in batch.attempts)


def answers_of(batch: Batch, settings: Settings) -> tuple[Answer | None, ...]:
    """The answer in the voting field of each candidate."""
    return tuple(
        answer_of(a.fields[voting_field(settings.field, a.fields)], settings.kind)
        for a in batch.attempts
    )


def publish(
    batch: Batch, picked: Selection, scores: Sequence[CandidateScore] = ()
) -> ChosenPrediction:
    """The winner as the module's prediction, and its trace as the module's trace.

    Optimizers make demonstrations of what is in the trace, so the losers must not be there.
    """
    everyone, nobody = range(len(batch.attempts)), [None] * len(batch.attempts)
    place = picked.place
    if place is None:
        place = best_member(everyone, candidates_of(batch), nobody)
    winner = batch.attempts[place]
    prediction: ChosenPrediction = ChosenPrediction.from_completions(
        [dict(winner.fields)], signature=winner.signature
    )
    prediction._completions = Completions(_columns(batch), signature=winner.signature)
    prediction._choice = Choice(
        place=place,
        answer=picked.answer,
        votes=picked.votes,
        tie=picked.tie,
        margin=picked.margin,
        scores=tuple(scores),
        drawn=len(batch.attempts) + len(batch.dropped),
        dropped=batch.dropped,
        abstained=picked.place is None,
    )
    _extend_trace(winner)
    return prediction


def _columns(batch: Batch) -> dict[str, list[Any]]:
    """Every field with its values, None where a candidate lacks it."""
    names = dict.fromkeys(name for attempt in batch.attempts for name in attempt.fields)
    return {name: [a.fields.get(name) for a in batch.attempts] for name in names}


def _extend_trace(winner: Attempt) -> None:
    trace, limit = dspy.settings.trace, dspy.settings.max_trace_size
    if trace is None or limit < 1:
        return
    trace.extend(winner.steps)
    del trace[: max(0, len(trace) - limit)]
