"""Verifier-weighted vote: each answer weighs what the verifier thinks of its samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Result
from ttscale.strategies.rounds import SampleState
from ttscale.strategies.runner import Runs
from ttscale.strategies.select import weighted_vote
from ttscale.types import Prompt
from ttscale.verifiers import Verifier
from ttscale.verifiers.protocol import check_verifier
from ttscale.verifiers.sheet import values


@dataclass(frozen=True)
class VerifierRerank(Runs):
    """Draws `n` samples, scores each, and answers what the scores together favour.

    Each class of equivalent answers weighs the sum of its members' scores, rescaled from the
    verifier's range to [0, 1]. The heaviest class wins with its best-scored sample. A sample
    without a score adds no weight. `Outcome.scores` is the full ranking.

    Attributes:
        verifier: What scores the samples.
        n: Number of samples.
        sampler: How they are drawn.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    verifier: Verifier
    n: int = 16
    sampler: Sampler = field(default_factory=Sampler)
    kind: str = "auto"
    name: ClassVar[str] = "verifier-rerank"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        check_verifier(self.verifier)

    def start(self, prompt: Prompt, seed: int | None) -> SampleState:
        """The state before anything was asked."""
        return rounds.start(prompt, seed)

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        """One draw, then one scoring."""
        return rounds.ask(state, self.n, self.sampler, self.verifier)

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        """The state that knows `result`."""
        return rounds.tell(state, ask_id, result, self.n, self.verifier)

    def outcome(self, state: SampleState) -> Outcome | None:
        """The heaviest answer, or None while something is still to be found out."""
        if state.samples is None or not rounds.finished(state, self.verifier):
            return None
        answers = rounds.answers_of(state.samples, self.kind)
        scores = state.sheet.scores if state.sheet else ()
        picked = weighted_vote(
            state.samples.candidates,
            answers,
            values(scores),
            low=self.verifier.low,
            high=self.verifier.high,
            seed=rounds.tie_seed(state, self.sampler),
        )
        return rounds.report(self.name, state, answers, scores, picked)

    def best(self, state: SampleState) -> Outcome:
        """The outcome of what is known; without scores the samples vote."""
        return self.outcome(state) or rounds.so_far(self.name, state, self.sampler, self.kind)
