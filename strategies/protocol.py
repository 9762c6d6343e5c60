"""The contract of a strategy: immutable settings, explicit state, ask and tell.

A strategy never calls a model. `ask` says what it wants to know, whoever runs it finds that out in
any order and at any time, `tell` returns a new state that knows it, and `outcome` is None until the
strategy has seen enough. A state is a value: it can be stored, compared and resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from ttscale.sampling import Sampler
from ttscale.strategies.outcome import Outcome
from ttscale.types import Candidate, Prompt, Samples
from ttscale.verifiers import ScoreSheet, Verifier

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Draw:
    """Asks for `n` samples of `prompt`; it is told `Samples`."""

    id: int
    prompt: Prompt
    n: int
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Score:
    """Asks for the verifier's scores of `candidates`; it is told a `ScoreSheet`."""

    id: int
    verifier: Verifier
    prompt: Prompt
    candidates: tuple[Candidate, ...]


Ask = Draw | Score
Result = Samples | ScoreSheet


class Strategy(Protocol[S]):
    """Settings of one way to turn samples into an answer; S is the type of its state."""

    @property
    def name(self) -> str:
        """Name for reports."""
        ...

    def start(self, prompt: Prompt, seed: int | None) -> S:
        """The state before anything was asked; `seed` decides everything that is random."""
        ...

    def ask(self, state: S) -> tuple[S, tuple[Ask, ...]]:
        """What to find out next, with ids unique within the run, and the state that waits for it.

        Empty while everything asked for is still to be told, and when the strategy has finished.
        """
        ...

    def tell(self, state: S, ask_id: int, result: Result) -> S:
        """The state that knows the result of one ask; asks may be told in any order.

        Raises:
            InvalidInput: Nothing with that id is waiting, or the result is of the wrong kind.
        """
        ...

    def outcome(self, state: S) -> Outcome | None:
        """The outcome, or None while something is still to be found out."""
        ...
