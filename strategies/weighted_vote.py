"""Weighted vote: each sample counts for as much as the model, or a verifier, is sure of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import MAX_TOP_LOGPROBS, Sampler
from ttscale.strategies import rounds
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Result
from ttscale.strategies.rounds import SampleState
from ttscale.strategies.runner import Runs
from ttscale.strategies.select import weighted_vote
from ttscale.types import Candidate, Prompt
from ttscale.verifiers import CandidateScore, Verifier
from ttscale.verifiers.protocol import check_verifier
from ttscale.verifiers.sheet import values

WEIGHTS = ("logprob", "self-certainty", "verifier")


@dataclass(frozen=True)
class WeightedVote(Runs):
    """Draws `n` samples; each class of equivalent answers weighs the sum of its members' weights.

    The weight of a sample is one of three:

    - `logprob`: its probability per token, exp of the mean log-probability, in (0, 1].
    - `self-certainty`: the mean over its tokens of minus the mean log-probability (nats) of the 20
      likeliest tokens there. It is what self-certainty (Kang et al., arXiv 2502.18581) comes to
      when only so many tokens are told of the whole vocabulary.
    - `verifier`: the verifier's score, rescaled to [0, 1].

    A sample whose weight is not known adds none. `Outcome.scores` holds the weights.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn.
        weight: `logprob`, `self-certainty` or `verifier`.
        verifier: What scores the samples, for `verifier` alone.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range, or does not fit the weight.
    """

    n: int = 16
    sampler: Sampler = field(default_factory=Sampler)
    weight: str = "logprob"
    verifier: Verifier | None = None
    kind: str = "auto"
    name: ClassVar[str] = "weighted-vote"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        _check.choice("weight", self.weight, WEIGHTS)
        if (self.weight == "verifier") != (self.verifier is not None):
            raise InvalidInput(
                f"weight='verifier' and a verifier go together; got weight={self.weight!r} and "
                f"verifier={self.verifier!r}"
            )
        if self.verifier is not None:
            check_verifier(self.verifier)

    def start(self, prompt: Prompt, seed: int | None) -> SampleState:
        """The state before anything was asked."""
        return rounds.start(prompt, seed)

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        """One draw, then with a verifier one scoring."""
        return rounds.ask(state, self.n, self._asked, self.verifier)

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        """The state that knows `result`."""
        return rounds.tell(state, ask_id, result, self.n, self.verifier)

    def outcome(self, state: SampleState) -> Outcome | None:
        """The heaviest answer, or None while something is still to be found out."""
        if state.samples is None or not rounds.finished(state, self.verifier):
            return None
        candidates = state.samples.candidates
        answers = rounds.answers_of(state.samples, self.kind)
        scores = self._weights(candidates, state)
        low, high = (self.verifier.low, self.verifier.high) if self.verifier else (0.0, 1.0)
        seed = rounds.tie_seed(state, self.sampler)
        picked = weighted_vote(candidates, answers, values(scores), low=low, high=high, seed=seed)
        return rounds.report(self.name, state, answers, scores, picked)

    def best(self, state: SampleState) -> Outcome:
        """The outcome of what is known; without scores the samples vote."""
        return self.outcome(state) or rounds.so_far(self.name, state, self.sampler, self.kind)

    @property
    def _asked(self) -> Sampler:
        return certain(self.sampler) if self.weight == "self-certainty" else self.sampler

    def _weights(
        self, candidates: Sequence[Candidate], state: SampleState
    ) -> tuple[CandidateScore, ...]:
        if self.weight == "verifier":
            return state.sheet.scores if state.sheet else ()
        measure = certainty if self.weight == "self-certainty" else probability
        return tuple(_score(place, measure(c)) for place, c in enumerate(candidates))


def certain(sampler: Sampler) -> Sampler:
    """The sampler, which asks for confidences."""
    return replace(sampler, token_logprobs=sampler.token_logprobs or MAX_TOP_LOGPROBS)


def probability(candidate: Candidate) -> float | None:
    """Probability per token, or None when the engine does not tell."""
    mean = candidate.mean_logprob
    return None if mean is None else math.exp(mean)


def certainty(candidate: Candidate) -> float | None:
    """Mean confidence of the tokens (nats), or None when the engine does not tell."""
    told = candidate.confidences
    return math.fsum(told) / len(told) if told else None


def _score(place: int, weight: float | None) -> CandidateScore:
    if weight is None:
        return CandidateScore(place, error="the engine gives no log-probabilities for it")
    if not math.isfinite(weight):
        return CandidateScore(place, error=f"its weight is no finite number: {weight!r}")
    return CandidateScore(place, weight)
