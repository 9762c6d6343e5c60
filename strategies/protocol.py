"""The contract of a strategy: immutable settings, explicit state, ask and tell.

A strategy never calls a model. `ask` says what it wants to know, whoever runs it finds that out in
any order and at any time, `tell` returns a new state that knows it, and `outcome` is None until the
strategy has seen enough. A state is a value: it can be stored, compared and resumed.

Everything else follows from that, and is the runner's work, the same for every strategy:

- Budgets. The runner draws no more than a `Budget` allows; what it could not draw is told as failed
  samples. When the strategy asks for more than is left, or the time is up, open draws are stopped,
  what has finished is told, and `best` gives the outcome.
- Cancelling. While draws run, a strategy that has `cancel` is shown what has finished and names the
  draws that need not go on. The runner stops these in the engine and tells what has finished.
- Anytime. Since `tell` changes nothing, the runner tells a copy of the state what has finished so
  far, and asks that copy for its `best`.
- Resume. What was told, by the ids of the asks, is all there is to save: a new run from `start`
  is told the same, and asks on from there. So the next asks must follow from the prompt, the seed
  and what was told alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from ttscale.sampling import Sampler
from ttscale.strategies.outcome import Outcome
from ttscale.types import Candidate, Prompt, Samples
from ttscale.verifiers import ScoreSheet, Verifier

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)


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


@runtime_checkable
class Anytime(Protocol[S_contra]):
    """A strategy that has an outcome at any time. Without `best` the samples vote."""

    def best(self, state: S_contra) -> Outcome:
        """The best outcome of what the state knows, whatever is still to be found out."""
        ...


@runtime_checkable
class Cancels(Protocol[S_contra]):
    """A strategy that may end a draw before all of its samples have finished."""

    def cancel(
        self, state: S_contra, finished: Mapping[int, tuple[Candidate, ...]]
    ) -> Collection[int]:
        """Ids of the open draws that need not go on.

        `finished` holds, for every open draw, the samples that have finished, by index. Samples
        that are short finish first, so whoever decides on what has finished favours short ones.
        """
        ...
