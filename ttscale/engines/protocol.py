"""The protocol between strategies and whatever holds the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ttscale import _sync
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.types import Candidate, Prompt, Samples

CandidateHook = Callable[[Candidate], None]


@runtime_checkable
class Engine(Protocol):
    """Draws samples from one model. Any object with these two members is an engine.

    An engine that goes on from `Prompt.prefix` says so with an attribute `continues_prefix = True`;
    strategies that need it are refused on others. When a draw is cancelled, the engine stops it.
    """

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


def check_prefix(engine: Engine, prompt: Prompt) -> None:
    """Raise InvalidInput when `prompt` has a prefix, and `engine` does not go on from one."""
    if prompt.prefix and not getattr(engine, "continues_prefix", False):
        raise InvalidInput(
            f"{type(engine).__name__} cannot go on from the beginning of an answer, which this "
            "strategy needs; use LocalEngine, or ServerEngine on a vLLM server"
        )


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
