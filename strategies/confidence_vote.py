"""Confidence-filtered vote: only the samples of which the model was sure vote (DeepConf)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import ClassVar

from ttscale import _check
from ttscale.answers import Answer
from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Result
from ttscale.strategies.rounds import SampleState
from ttscale.strategies.runner import Runs
from ttscale.strategies.select import weighted_vote
from ttscale.strategies.vote import rounded
from ttscale.strategies.weighted_vote import certain
from ttscale.types import Candidate, Prompt
from ttscale.verifiers import CandidateScore
from ttscale.verifiers.sheet import values


def mean(told: Sequence[float], window: int) -> float:  # noqa: ARG001 - measures are alike
    """Mean of all tokens."""
    return math.fsum(told) / len(told)


def tail(told: Sequence[float], window: int) -> float:
    """Mean of the last `window` tokens."""
    last = told[-window:]
    return math.fsum(last) / len(last)


def lowest_group(told: Sequence[float], window: int) -> float:
    """The lowest mean of any `window` tokens in a row."""
    return min(_group_means(told, window))


def bottom_groups(told: Sequence[float], window: int) -> float:
    """Mean of the lowest tenth of the means of `window` tokens in a row."""
    means = sorted(_group_means(told, window))
    least = means[: max(1, len(means) // 10)]
    return math.fsum(least) / len(least)


MEASURES: Mapping[str, Callable[[Sequence[float], int], float]] = MappingProxyType(
    {"mean": mean, "tail": tail, "lowest-group": lowest_group, "bottom-groups": bottom_groups}
)


@dataclass(frozen=True)
class ConfidenceVote(Runs):
    """Draws `n` samples, keeps the share of which the model was surest, and lets these vote.

    The confidence of a token is minus the mean log-probability (nats) of the 20 likeliest tokens in
    its place. A sample's is made of its tokens' by `measure`: the `mean` of all, of the `tail`, the
    `lowest-group` (the least mean of `window` tokens in a row), or the `bottom-groups` (the mean of
    the least tenth of those). Of the samples that state an answer, those with the highest
    confidence are kept, and each votes with its confidence as weight (Fu et al., arXiv 2508.15260,
    offline). Samples as confident as the last one kept are kept too.

    `Outcome.scores` holds the confidences, `Outcome.notes["kept"]` the number of samples that
    voted. The engine must tell log-probabilities; samples without them do not vote.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn.
        keep: Share of the samples that vote, in (0, 1].
        measure: `mean`, `tail`, `lowest-group` or `bottom-groups`.
        window: Length of a group and of the tail, in tokens.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 16
    sampler: Sampler = field(default_factory=Sampler)
    keep: float = 0.5
    measure: str = "lowest-group"
    window: int = 1024
    kind: str = "auto"
    name: ClassVar[str] = "confidence-vote"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)
        _check.number("keep", self.keep, 0, 1, open_low=True)
        _check.choice("measure", self.measure, MEASURES)
        _check.integer("window", self.window, 1)

    def start(self, prompt: Prompt, seed: int | None) -> SampleState:
        """The state before anything was asked."""
        return rounds.start(prompt, seed)

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        """One draw, then nothing."""
        return rounds.ask(state, self.n, certain(self.sampler), None)

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        """The state that knows `result`."""
        return rounds.tell(state, ask_id, result, self.n, None)

    def outcome(self, state: SampleState) -> Outcome | None:
        """The heaviest answer of the kept samples, or None until the samples are known."""
        if state.samples is None:
            return None
        candidates = state.samples.candidates
        answers = rounds.answers_of(state.samples, self.kind)
        scores = tuple(self._score(place, c) for place, c in enumerate(candidates))
        kept = filtered(values(scores), answers, self.keep)
        seed = rounds.tie_seed(state, self.sampler)
        picked = weighted_vote(candidates, answers, kept, low=0.0, high=1.0, seed=seed)
        notes = {"kept": float(sum(weight is not None for weight in kept))}
        return rounds.report(self.name, state, answers, scores, picked, notes)

    def best(self, state: SampleState) -> Outcome:
        """The outcome of what is known."""
        return self.outcome(state) or rounds.so_far(self.name, state, self.sampler, self.kind)

    def _score(self, place: int, candidate: Candidate) -> CandidateScore:
        if not candidate.confidences:
            return CandidateScore(place, error="the engine gives no log-probabilities for it")
        value = MEASURES[self.measure](candidate.confidences, self.window)
        if not math.isfinite(value):
            return CandidateScore(place, error=f"its confidence is no finite number: {value!r}")
        return CandidateScore(place, value)


def filtered(
    scores: Sequence[float | None], answers: Sequence[Answer | None], keep: float
) -> tuple[float | None, ...]:
    """The scores of the best share of those that have an answer; None for all others."""
    pairs = zip(scores, answers, strict=True)
    known = sorted((s for s, a in pairs if s is not None and a is not None), reverse=True)
    if not known:
        return (None,) * len(scores)
    least = rounded(known[math.ceil(keep * len(known)) - 1])
    return tuple(s if s is not None and rounded(s) >= least else None for s in scores)


def _group_means(told: Sequence[float], window: int) -> list[float]:
    """Mean of every `window` values in a row; of all when there are no more."""
    size = min(window, len(told))
    sums = [0.0, *accumulate(told)]
    return [(sums[i + size] - sums[i]) / size for i in range(len(told) - size + 1)]
