"""The protocol between a batch of requests, all known beforehand, and what draws for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ttscale.sampling import Sampler
from ttscale.types import Prompt, Samples


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a batch: `n` samples of a prompt, which share an ESamp distiller."""

    prompt: Prompt
    n: int
    sampler: Sampler


@dataclass(frozen=True, slots=True)
class Answered:
    """One request of a batch that has ended.

    Attributes:
        number: Its place in the batch.
        samples: What came back.
        seconds: From its start to its end.
        finished: For each candidate, seconds from the request's start to its end.
        error: Why nothing came back at all; empty when something did.
    """

    number: int
    samples: Samples
    seconds: float
    finished: tuple[float, ...] = ()
    error: str = ""


@runtime_checkable
class BatchEngine(Protocol):
    """Draws from one model for many requests that are all known before the first is drawn."""

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        ...

    def draw_all(self, asked: Sequence[Ask]) -> Iterable[Answered]:
        """Draw for every request; each is told of as soon as it has ended, in any order.

        A request that fails is told of as failed and costs its own samples alone.

        Raises:
            EngineError: Nothing more can be drawn; what was told of before counts.
        """
        ...
