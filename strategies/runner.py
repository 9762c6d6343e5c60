"""The one loop that runs every strategy on an engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from ttscale import _sync
from ttscale._concurrent import gather
from ttscale.engines import CandidateHook, Engine
from ttscale.errors import EngineError, EngineStopped, InvalidInput, TTScaleError
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw, Result, Score, Strategy
from ttscale.types import Failure, Message, Prompt, Samples
from ttscale.verifiers import ScoreSheet

S = TypeVar("S")
Question = str | Prompt | Sequence[Message]


async def arun(
    strategy: Strategy[S],
    engine: Engine,
    prompt: Question,
    *,
    seed: int | None = None,
    on_candidate: CandidateHook | None = None,
) -> Outcome:
    """Run `strategy` on `prompt` and return its outcome.

    What it asks for at one time runs concurrently. Cancelling the caller cancels all of it.

    Args:
        strategy: Any object with the members of `Strategy`.
        engine: What draws the samples.
        prompt: A question, messages, or a prompt.
        seed: Seed of the samples (when the sampler has none of its own) and of ties.
        on_candidate: Called with each sample as it finishes; not with a verifier's own draws.

    Raises:
        InvalidInput: The prompt, a setting or the seed is refused.
        EngineStopped: The engine is closed, or died before any sample came back.
    """
    state = strategy.start(Prompt.of(prompt), seed)
    # Comparing answers may take a while, so `outcome` must not hold up the event loop.
    while (outcome := await asyncio.to_thread(strategy.outcome, state)) is None:
        state, asks = strategy.ask(state)
        if not asks:
            raise InvalidInput(
                f"strategy {strategy.name!r} asks for nothing and has no outcome; "
                "outcome() must not be None once everything asked for has been told"
            )
        results = await gather([_find_out(engine, ask, on_candidate) for ask in asks])
        for ask, result in zip(asks, results, strict=True):
            state = strategy.tell(state, ask.id, result)
    return outcome


def run(
    strategy: Strategy[S],
    engine: Engine,
    prompt: Question,
    *,
    seed: int | None = None,
    on_candidate: CandidateHook | None = None,
) -> Outcome:
    """`arun` for callers that are not asynchronous; `on_candidate` runs on another thread."""
    return _sync.run(arun(strategy, engine, prompt, seed=seed, on_candidate=on_candidate))


class Runs:
    """Gives a strategy the methods `run` and `arun`."""

    __slots__ = ()

    async def arun(
        self: Strategy[S],
        engine: Engine,
        prompt: Question,
        *,
        seed: int | None = None,
        on_candidate: CandidateHook | None = None,
    ) -> Outcome:
        """Run on `prompt` and return the outcome; see `ttscale.strategies.arun`."""
        return await arun(self, engine, prompt, seed=seed, on_candidate=on_candidate)

    def run(
        self: Strategy[S],
        engine: Engine,
        prompt: Question,
        *,
        seed: int | None = None,
        on_candidate: CandidateHook | None = None,
    ) -> Outcome:
        """`arun` for callers that are not asynchronous; `on_candidate` runs on another thread."""
        return run(self, engine, prompt, seed=seed, on_candidate=on_candidate)


async def _find_out(engine: Engine, ask: Ask, hook: CandidateHook | None) -> Result:
    if isinstance(ask, Draw):
        return await _draw(engine, ask, hook)
    return await _score(engine, ask)


async def _draw(engine: Engine, ask: Draw, hook: CandidateHook | None) -> Samples:
    """Draw; a request that fails while it runs is that many failed samples, with the reason."""
    try:
        return await engine.adraw(ask.prompt, ask.n, ask.sampler, on_candidate=hook)
    except EngineStopped:
        raise
    except EngineError as error:
        failures = tuple(Failure(index, str(error)) for index in range(ask.n))
        return Samples(ask.n, (), failures)


async def _score(engine: Engine, ask: Score) -> ScoreSheet:
    """Score; when that fails altogether the samples, already paid for, are not lost with it."""
    try:
        return await ask.verifier.ascore(ask.prompt, ask.candidates, engine)
    except TTScaleError as error:
        return ScoreSheet.failed(len(ask.candidates), str(error))
