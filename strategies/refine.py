"""Refinement: attempts are scored, and the best one comes back to the model with feedback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.ledger import Ledger, Planned, answers_of, report, totals
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw, Score
from ttscale.strategies.revision import Attempt, Feedback, plain_feedback, revised
from ttscale.strategies.select import argmax
from ttscale.strategies.vote import draw_lot, rounded
from ttscale.types import Samples
from ttscale.verifiers import CandidateScore, Verifier
from ttscale.verifiers.protocol import check_verifier


@dataclass(frozen=True)
class Refine(Planned):
    """Draws, has the attempt scored, and draws again with feedback while the score is too low.

    The best attempt so far is what comes back to the model, with the text that `feedback` makes of
    it. It ends with the first score of at least `threshold`, or after `n` samples, and answers what
    the best attempt states. An attempt that cannot be scored is not kept over one that can.
    `Outcome.notes["rounds"]` is the number of rounds.

    Attributes:
        verifier: What scores the attempts.
        n: Most samples.
        sampler: How they are drawn.
        threshold: Score that is good enough, rescaled from the verifier's range to [0, 1].
        width: Samples per round.
        feedback: Makes the text that the model is told, of the question, the attempt and its score.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    verifier: Verifier
    n: int = 4
    sampler: Sampler = field(default_factory=Sampler)
    threshold: float = 0.9
    width: int = 1
    feedback: Feedback = plain_feedback
    kind: str = "auto"
    name: ClassVar[str] = "refine"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        check_verifier(self.verifier)
        _check.number("threshold", self.threshold, 0, 1)
        _check.integer("width", self.width, 1)
        if not callable(self.feedback):
            raise InvalidInput(
                f"feedback must be callable as feedback(question, text, score), got "
                f"{self.feedback!r}"
            )

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """A draw and its scores in turn."""
        place = len(ledger.asked)
        last = ledger.asked[-1] if ledger.asked else None
        if isinstance(last, Draw) and (told := ledger.draws[-1][1].candidates):
            return (Score(place, self.verifier, ledger.prompt, told),)
        attempts = attempts_of(ledger, self.verifier)
        best = best_attempt(attempts, ledger.tie_seed)
        left = self.n - totals(ledger).requested
        if left < 1 or (best and best.score is not None and best.score >= self.threshold):
            return ()
        prompt = ledger.prompt if best is None else revised(ledger.prompt, best, self.feedback)
        return (ledger.draw(place, min(left, self.width), self.sampler, prompt),)

    def best(self, state: Ledger) -> Outcome:
        """The best-scored attempt."""
        return best_scored(self.name, state, self.verifier, self.kind)


def attempts_of(ledger: Ledger, verifier: Verifier) -> list[Attempt]:
    """Every sample of a run, in the order of drawing, with its score if it has one."""
    candidates = iter(totals(ledger).candidates)
    attempts: list[Attempt] = []
    span = verifier.high - verifier.low
    scored = 0
    for _, result in ledger.told:
        if isinstance(result, Samples):
            attempts += [Attempt(next(candidates)) for _ in result.candidates]
        else:
            for score in result.scores:
                value = None if score.value is None else (score.value - verifier.low) / span
                place = scored + score.index
                attempts[place] = Attempt(attempts[place].candidate, value)
            scored += len(result.scores)
    return attempts


def best_attempt(attempts: list[Attempt], seed: int) -> Attempt | None:
    """The best-scored attempt; of equals the one whose text has the smallest lot."""

    def rank(attempt: Attempt) -> tuple[bool, float, str]:
        score = attempt.score
        return (score is None, -rounded(score or 0.0), draw_lot(seed, attempt.candidate.text))

    return min(attempts, key=rank, default=None)


def best_scored(name: str, state: Ledger, verifier: Verifier, kind: str) -> Outcome:
    """The outcome of the best-scored sample of a run."""
    attempts = attempts_of(state, verifier)
    candidates = [attempt.candidate for attempt in attempts]
    answers = answers_of(candidates, kind)
    span = verifier.high - verifier.low
    values = [None if a.score is None else verifier.low + a.score * span for a in attempts]
    picked = argmax(candidates, answers, values, state.tie_seed)
    scores = [
        CandidateScore(i, error="it was not scored") if v is None else CandidateScore(i, v)
        for i, v in enumerate(values)
    ]
    notes = {"rounds": float(len(state.draws))}
    return report(name, state, candidates, answers, picked, scores, notes)
