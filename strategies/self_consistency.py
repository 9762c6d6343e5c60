"""Self-consistency: the answer that most samples agree on (Wang et al., arXiv 2203.11171)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ttscale.sampling import Sampler
from ttscale.strategies import rounds
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Result
from ttscale.strategies.rounds import SampleState
from ttscale.strategies.runner import Runs
from ttscale.strategies.select import majority
from ttscale.types import Prompt


@dataclass(frozen=True)
class SelfConsistency(Runs):
    """Draws `n` samples and answers what most of them state.

    Equivalent answers (`ttscale.answers.classes`) count as one. A sample that states no answer does
    not vote; one that was cut off votes only if it states one. A tie is broken by a lot that the
    seed decides, and reported. `Outcome.candidate` is the sample of the winning answer with the
    best mean log-probability, else the one with the lowest index.

    Attributes:
        n: Number of samples.
        sampler: How they are drawn.
        kind: Kind of answer to look for, as in `ttscale.answers.extract_answer`.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 16
    sampler: Sampler = field(default_factory=Sampler)
    kind: str = "auto"
    name: ClassVar[str] = "self-consistency"

    def __post_init__(self) -> None:
        rounds.check_settings(self.n, self.sampler, self.kind)

    def start(self, prompt: Prompt, seed: int | None) -> SampleState:
        """The state before anything was asked."""
        return rounds.start(prompt, seed)

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        """One draw, then nothing."""
        return rounds.ask(state, self.n, self.sampler, None)

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        """The state that knows `result`."""
        return rounds.tell(state, ask_id, result, self.n, None)

    def outcome(self, state: SampleState) -> Outcome | None:
        """The majority's answer, or None until the samples are known."""
        if state.samples is None:
            return None
        answers = rounds.answers_of(state.samples, self.kind)
        seed = rounds.tie_seed(state, self.sampler)
        picked = majority(state.samples.candidates, answers, seed)
        return rounds.report(self.name, state, answers, (), picked)

    def best(self, state: SampleState) -> Outcome:
        """The outcome of what is known; without scores the samples vote."""
        return self.outcome(state) or rounds.so_far(self.name, state, self.sampler, self.kind)
