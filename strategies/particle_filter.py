"""Particle filter over steps: likely good beginnings are copied, others die out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ttscale import _check
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.ledger import Ledger, Planned, answers_of, report
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask
from ttscale.strategies.select import weighted_vote
from ttscale.strategies.steps import (
    EMPTY,
    STEP,
    STEP_TOKENS,
    Path,
    Steps,
    Walk,
    check_steps,
    next_steps,
    score_ask,
    told_scores,
    walk,
)
from ttscale.strategies.vote import draw_lot
from ttscale.types import Candidate
from ttscale.verifiers import Verifier
from ttscale.verifiers.protocol import check_verifier

MAX_TEMPERATURE = 100.0


@dataclass(frozen=True)
class ParticleFilter(Planned):
    """Writes `n` answers step by step, and after each step resamples them by their scores.

    The verifier scores each text so far; a particle's weight is its score, rescaled to [0, 1], to
    the power of 1 / `score_temperature`. Then `n` particles are drawn with these weights
    (systematic resampling, by a seed of the run), finished ones among them, and the others get
    their next step (Puri et al., arXiv 2502.01618). When all have finished, each votes with its
    weight. A particle without a score has weight 0; when all have weight 0 none is preferred.

    The engine must go on from a prefix and keep stop texts: `LocalEngine`, or a vLLM server.
    `Outcome.notes["effective_size"]` is the least effective number of particles of any step,
    1 / (sum of squared weights): near 1, one beginning has taken over. `notes["steps"]` is the
    number of steps; `Outcome.requested` counts steps of all particles.

    Attributes:
        verifier: What scores beginnings of answers; a process reward model, for instance.
        n: Number of particles.
        sampler: How steps are drawn; `max_tokens` is that of a whole answer.
        score_temperature: Above 1 evens out the weights, below 1 sharpens them; in (0, 100].
        step: Text that ends a step.
        step_tokens: Longest step, in tokens.
        max_steps: Most steps of an answer.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    verifier: Verifier
    n: int = 8
    sampler: Sampler = field(default_factory=Sampler)
    score_temperature: float = 1.0
    step: str = STEP
    step_tokens: int = STEP_TOKENS
    max_steps: int = 16
    kind: str = "auto"
    name: ClassVar[str] = "particle-filter"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        check_verifier(self.verifier)
        _check.number(
            "score_temperature", self.score_temperature, 0, MAX_TEMPERATURE, open_low=True
        )
        check_steps(self._steps)

    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """A step of every particle, then the scores of all of them, and so on."""
        if not ledger.asked:
            return (self._steps.draw(ledger, 0, self.n, EMPTY),)
        walked, _ = self._walk(ledger)
        if walked.pending:
            return (score_ask(ledger, self.verifier, walked.pending),)
        return tuple(next_steps(ledger, self._steps, _copies(walked.kept)))

    def best(self, state: Ledger) -> Outcome:
        """The vote of the particles, by their weights."""
        walked, sizes = self._walk(state)
        paths = [*walked.kept, *walked.pending]
        texts = [replace(p.candidate, index=i) for i, p in enumerate(paths)]
        answers = answers_of(texts, self.kind)
        weights = [None if p.score is None else self._weight(p) for p in paths]
        seed = state.tie_seed
        picked = weighted_vote(texts, answers, weights, low=0.0, high=1.0, seed=seed)
        notes = {"steps": float(walked.rounds), "effective_size": min(sizes, default=0.0)}
        scores = told_scores(paths, self.verifier)
        return report(self.name, state, texts, answers, picked, scores, notes)

    @property
    def _steps(self) -> Steps:
        return Steps(self.step, self.step_tokens, self.max_steps, self.sampler)

    def _weight(self, path: Path) -> float:
        return math.pow(path.score or 0.0, 1 / self.score_temperature)

    def _walk(self, ledger: Ledger) -> tuple[Walk, list[float]]:
        """How far the run has come, and the effective number of particles after each step."""
        sizes: list[float] = []

        def choose(done: Sequence[Path], new: Sequence[Path], number: int) -> list[Path]:
            paths = [*done, *new]
            weights = shares([self._weight(path) for path in paths])
            sizes.append(effective_size(weights))
            if all(path.done for path in paths):
                return paths
            places = systematic(weights, self.n, uniform(ledger.tie_seed, number))
            return [paths[place] for place in places]

        return walk(ledger, self._steps, self.verifier, _copies, choose), sizes


def _copies(kept: Sequence[Path]) -> list[tuple[Candidate, int]]:
    """Every different unfinished text and how many particles have it."""
    first = {path.candidate.text: path.candidate for path in reversed(kept) if not path.done}
    counts = Counter(path.candidate.text for path in kept if not path.done)
    return [(first[text], count) for text, count in counts.items()]


def shares(weights: Sequence[float]) -> list[float]:
    """The weights divided by their sum; equal ones when that is 0."""
    total = math.fsum(weights)
    if not total > 0:
        return [1 / len(weights)] * len(weights)
    return [weight / total for weight in weights]


def effective_size(weights: Sequence[float]) -> float:
    """1 / (sum of squares) of weights that sum to 1: from 1 to their number."""
    return 1 / math.fsum(weight * weight for weight in weights)


def systematic(weights: Sequence[float], n: int, start: float) -> list[int]:
    """`n` places drawn by weights that sum to 1, at the even points (start + i) / n.

    Each place comes floor(n w) or ceil(n w) times. `start` is in [0, 1).
    """
    places: list[int] = []
    place, reached = 0, weights[0]
    for i in range(n):
        point = (start + i) / n
        while point >= reached and place < len(weights) - 1:
            place += 1
            reached += weights[place]
        places.append(place)
    return places


def uniform(seed: int, number: int) -> float:
    """A number in [0, 1) that the seed and the number of the step decide."""
    return int(draw_lot(seed, f"step {number}")[:12], 16) / 16**12
