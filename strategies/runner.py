"""The one loop that runs every strategy on an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

from ttscale import _sync
from ttscale.engines import CandidateHook, Engine
from ttscale.strategies._run import Event, Run
from ttscale.strategies.budget import Budget
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Strategy
from ttscale.strategies.record import Record
from ttscale.types import Message, Prompt

S = TypeVar("S")
Question = str | Prompt | Sequence[Message]


async def arun(
    strategy: Strategy[S],
    engine: Engine,
    prompt: Question,
    *,
    seed: int | None = None,
    budget: Budget | None = None,
    record: Record | None = None,
    on_candidate: CandidateHook | None = None,
) -> Outcome:
    """Run `strategy` on `prompt` and return its outcome.

    What it asks for at one time runs concurrently. Cancelling the caller cancels all of it.

    Args:
        strategy: Any object with the members of `Strategy`.
        engine: What draws the samples.
        prompt: A question, messages, or a prompt.
        seed: Seed of the samples (when the sampler has none of its own) and of ties.
        budget: Limits of the run; a strategy that they stop returns the best so far, and
            `Outcome.stopped` names the limit.
        record: What an earlier run has found out, which is not drawn again; it takes up what this
            run finds out.
        on_candidate: Called with each sample as it finishes; not with a verifier's own draws.

    Raises:
        InvalidInput: The prompt, a setting, the seed, the budget or the record is refused.
        EngineStopped: The engine is closed, or died before any sample came back.
    """
    run = Run(strategy, engine, Prompt.of(prompt), seed, budget, record, on_candidate)
    async with aclosing(run.events(live=False)) as events:
        async for event in events:
            outcome = event.outcome
    return outcome


async def stream(
    strategy: Strategy[S],
    engine: Engine,
    prompt: Question,
    *,
    seed: int | None = None,
    budget: Budget | None = None,
    record: Record | None = None,
) -> AsyncGenerator[Event, None]:
    """Run `strategy` and tell how it stands after every sample and every scoring.

    Each event has the best outcome so far, with the votes so far; the last event has the final one.
    Leaving the loop early (with `contextlib.aclosing`) stops what runs. Arguments and errors are
    those of `arun`.
    """
    run = Run(strategy, engine, Prompt.of(prompt), seed, budget, record, None)
    async with aclosing(run.events(live=True)) as events:
        async for event in events:
            yield event


def run(
    strategy: Strategy[S],
    engine: Engine,
    prompt: Question,
    *,
    seed: int | None = None,
    budget: Budget | None = None,
    record: Record | None = None,
    on_candidate: CandidateHook | None = None,
) -> Outcome:
    """`arun` for callers that are not asynchronous; `on_candidate` runs on another thread."""
    work = arun(
        strategy,
        engine,
        prompt,
        seed=seed,
        budget=budget,
        record=record,
        on_candidate=on_candidate,
    )
    return _sync.run(work)


class Runs:
    """Gives a strategy the methods `run`, `arun` and `stream`."""

    __slots__ = ()

    async def arun(
        self: Strategy[S],
        engine: Engine,
        prompt: Question,
        *,
        seed: int | None = None,
        budget: Budget | None = None,
        record: Record | None = None,
        on_candidate: CandidateHook | None = None,
    ) -> Outcome:
        """Run on `prompt` and return the outcome; see `ttscale.strategies.arun`."""
        return await arun(
            self,
            engine,
            prompt,
            seed=seed,
            budget=budget,
            record=record,
            on_candidate=on_candidate,
        )

    def run(
        self: Strategy[S],
        engine: Engine,
        prompt: Question,
        *,
        seed: int | None = None,
        budget: Budget | None = None,
        record: Record | None = None,
        on_candidate: CandidateHook | None = None,
    ) -> Outcome:
        """`arun` for callers that are not asynchronous; `on_candidate` runs on another thread."""
        return run(
            self,
            engine,
            prompt,
            seed=seed,
            budget=budget,
            record=record,
            on_candidate=on_candidate,
        )

    async def stream(
        self: Strategy[S],
        engine: Engine,
        prompt: Question,
        *,
        seed: int | None = None,
        budget: Budget | None = None,
        record: Record | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Run and tell how it stands after every sample; see `ttscale.strategies.stream`."""
        made = stream(self, engine, prompt, seed=seed, budget=budget, record=record)
        async with aclosing(made) as events:
            async for event in events:
                yield event
