"""Best-of-N: the sample with the highest score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Result
from ttscale.strategies.rounds import SampleState
from ttscale.strategies.runner import Runs
from ttscale.strategies.select import argmax
from ttscale.types import Candidate, Prompt
from ttscale.verifiers import CandidateScore, Verifier
from ttscale.verifiers.protocol import check_verifier
from ttscale.verifiers.sheet import values


@dataclass(frozen=True)
class BestOfN(Runs):
    """Draws `n` samples and keeps the one with the highest score.

    The score is the verifier's, or without one the mean log-probability per token (nats). A sample
    without a score cannot win. `Outcome.answer` is what the winner states; when it states nothing,
    as with open questions, `Outcome.candidate` still holds it.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn.
        verifier: What scores them; None scores by log-probability.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 16
    sampler: Sampler = field(default_factory=Sampler)
    verifier: Verifier | None = None
    kind: str = "auto"
    name: ClassVar[str] = "best-of-n"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        if self.verifier is not None:
            check_verifier(self.verifier)

    def start(self, prompt: Prompt, seed: int | None) -> SampleState:
        """The state before anything was asked."""
        return rounds.start(prompt, seed)

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        """One draw, then with a verifier one scoring."""
        return rounds.ask(state, self.n, self.sampler, self.verifier)

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        """The state that knows `result`."""
        return rounds.tell(state, ask_id, result, self.n, self.verifier)

    def outcome(self, state: SampleState) -> Outcome | None:
        """The best-scored sample, or None while something is still to be found out."""
        if state.samples is None or not rounds.finished(state, self.verifier):
            return None
        candidates = state.samples.candidates
        answers = rounds.answers_of(state.samples, self.kind)
        scores = state.sheet.scores if state.sheet else logprob_scores(candidates)
        seed = rounds.tie_seed(state, self.sampler)
        picked = argmax(candidates, answers, values(scores), seed)
        return rounds.report(self.name, state, answers, scores, picked)

    def best(self, state: SampleState) -> Outcome:
        """The outcome of what is known; without scores the samples vote."""
        return self.outcome(state) or rounds.so_far(self.name, state, self.sampler, self.kind)


def logprob_scores(candidates: Sequence[Candidate]) -> tuple[CandidateScore, ...]:
    """Mean log-probability per token (nats) of each candidate as its score."""
    return tuple(_logprob_score(place, c) for place, c in enumerate(candidates))


def _logprob_score(place: int, candidate: Candidate) -> CandidateScore:
    mean = candidate.mean_logprob
    if mean is None:
        return CandidateScore(place, error="the engine gives no log-probability for it")
    if not math.isfinite(mean):
        return CandidateScore(place, error=f"its log-probability is no finite number: {mean!r}")
    return CandidateScore(place, mean)
