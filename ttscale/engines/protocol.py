"""The protocol between strategies and whatever holds the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ttscale import _sync
from ttscale.sampling import Sampler
from ttscale.types import Candidate, Prompt, Samples

CandidateHook = Callable[[Candidate], None]


@runtime_checkable
class Engine(Protocol):
    """Draws samples from one model. Any object with these two members is an engine."""

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        ...

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw `n` samples of `prompt`.

        Samples that fail are reported in `Samples.failures` and lose none of the others;
        `on_candidate` is called with each one as it finishes.

        Raises:
            InvalidInput: The request is refused; nothing was drawn.
            EngineStopped: The engine is closed, or died before any sample came back.
        """
        ...


def draw(
    engine: Engine,
    prompt: Prompt,
    n: int,
    sampler: Sampler,
    *,
    on_candidate: CandidateHook | None = None,
) -> Samples:
    """`engine.adraw` for callers that are not asynchronous."""
    return _sync.run(engine.adraw(prompt, n, sampler, on_candidate=on_candidate))
