"""Self-consistency that stops as soon as more votes are not needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ttscale import _check
from ttscale.answers import Answer, classes
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.ledger import Ledger, Planned, answers_of, report, totals
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask
from ttscale.strategies.select import weighted_vote
from ttscale.strategies.stopping import decided, significant
from ttscale.types import Candidate

MAX_ALPHA = 0.5


@dataclass(frozen=True)
class AdaptiveSelfConsistency(Planned):
    """Draws up to `n` samples and stops, in the engine too, when the vote is decided.

    It is decided when one of two rules holds:

    - Exact: the leader is ahead by more votes than are left to draw.
    - With `alpha`, a sequential test: the evidence that the leader is the most probable answer,
      measured by an e-value, reaches k (k + 1) / alpha, where k is the order in which the leader
      first appeared. For independent votes the chance of ever stopping on another answer than the
      most probable one is at most `alpha`, whatever the number of looks (Ville's inequality).
      Unanimous votes stop at 9 for alpha = 0.05.

    Without `batch` all samples are one draw, which is cancelled while it runs; with it they are
    drawn so many at a time, and never more than a batch too many. Short samples finish first, and
    would be favoured by whoever counts what has finished. So votes are counted in the order of
    their indexes, and a sample counts only when all before it have finished. What has finished
    beyond the sample that decided is kept in the outcome and has no weight in the vote.

    ESamp samples influence each other, so `alpha` bounds nothing with them; the exact rule holds
    for any. `Outcome.notes["counted"]` is the number of samples that were counted.

    Attributes:
        n: Most samples to draw.
        sampler: How they are drawn.
        batch: Samples per round; None draws all at once and cancels.
        alpha: Error rate in (0, 0.5]; None stops by the exact rule only.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 16
    sampler: Sampler = field(default_factory=Sampler)
    batch: int | None = None
    alpha: float | None = 0.05
    kind: str = "auto"
    name: ClassVar[str] = "adaptive"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        if self.batch is not None:
            _check.integer("batch", self.batch, 1)
        if self.alpha is not None:
            _check.number("alpha", self.alpha, 0, MAX_ALPHA, open_low=True)

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """The next batch, until the vote is decided."""
        drawn = totals(ledger).requested
        left = self.n - drawn
        if left < 1 or (drawn and self._decided_after(self._votes(ledger)) is not None):
            return ()
        count = left if self.batch is None else min(left, self.batch)
        return (ledger.draw(len(ledger.asked), count, self.sampler),)

    def cancel(
        self, state: Ledger, finished: Mapping[int, tuple[Candidate, ...]]
    ) -> Collection[int]:
        """The open draw, when the samples that have finished in a row decide the vote."""
        row = self._in_order(state)
        for found in finished.values():  # one draw at a time
            row += _in_a_row(found)
        votes = self._labels(row)
        return tuple(finished) if self._decided_after(votes) is not None else ()

    def best(self, state: Ledger) -> Outcome:
        """The majority of the votes up to the one that decided."""
        total = totals(state)
        answers = answers_of(total.candidates, self.kind)
        counted = self._decided_after(self._votes(state))
        limit = total.requested if counted is None else counted
        weights = [1.0 if c.index < limit else None for c in total.candidates]
        seed = state.tie_seed
        picked = weighted_vote(total.candidates, answers, weights, low=0.0, high=1.0, seed=seed)
        notes = {"counted": float(sum(weight is not None for weight in weights))}
        return report(self.name, state, total.candidates, answers, picked, notes=notes)

    def _in_order(self, ledger: Ledger) -> list[Candidate | None]:
        """Every sample told of in its place; None for one that did not come."""
        total = totals(ledger)
        known = {candidate.index: candidate for candidate in total.candidates}
        return [known.get(index) for index in range(total.requested)]

    def _votes(self, ledger: Ledger) -> list[int | None]:
        return self._labels(self._in_order(ledger))

    def _labels(self, row: Sequence[Candidate | None]) -> list[int | None]:
        """The class of each sample's answer; None abstains."""
        found = answers_of([c for c in row if c is not None], self.kind)
        answers = iter(found)
        return labels([None if c is None else next(answers) for c in row])

    def _decided_after(self, votes: Sequence[int | None]) -> int | None:
        """Number of votes, in order, after which the vote was decided; None when it is not."""
        for seen in range(1, len(votes) + 1):
            counts = [votes[:seen].count(label) for label in {*votes[:seen]} - {None}]
            if decided(counts, self.n - seen):
                return seen
            if self.alpha is not None and significant(votes[:seen], self.alpha):
                return seen
        return None


def labels(answers: Sequence[Answer | None]) -> list[int | None]:
    """Number of the class of each answer; None for none."""
    places = [place for place, answer in enumerate(answers) if answer is not None]
    made: list[int | None] = [None] * len(answers)
    given = [answer for answer in answers if answer is not None]
    for label, members in enumerate(classes(given)):
        for member in members:
            made[places[member]] = label
    return made


def _in_a_row(found: Sequence[Candidate]) -> list[Candidate]:
    """The samples from the first on, up to one that has not finished."""
    return [candidate for place, candidate in enumerate(found) if candidate.index == place]
