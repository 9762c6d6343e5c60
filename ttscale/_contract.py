"""Checks that a strategy keeps the contract, for tests of one's own strategies."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from ttscale import _sync
from ttscale.engines import Engine
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw, Result, Strategy
from ttscale.types import Prompt, Samples


def check_contract(
    strategy: Strategy[Any], engine: Engine, prompt: str | Prompt, *, seed: int | None = 0
) -> Outcome:
    """Run a strategy by hand, twice, and check what every strategy promises.

    The second run is told each round backwards, with the samples in reverse. The engine must answer
    the same both times.

    Raises:
        AssertionError: The strategy changed a state that it was given, asked again while it waited
            or after its end, used an id twice, had an outcome too early or none at the end, or
            depends on the order of telling.
    """
    straight = _sync.run(_driven(strategy, engine, Prompt.of(prompt), seed, backwards=False))
    turned = _sync.run(_driven(strategy, engine, Prompt.of(prompt), seed, backwards=True))
    _expect(turned == straight, "the outcome depends on the order in which results are told")
    return straight


async def _driven(
    strategy: Strategy[Any], engine: Engine, prompt: Prompt, seed: int | None, *, backwards: bool
) -> Outcome:
    state = strategy.start(prompt, seed)
    used: set[int] = set()
    while (outcome := strategy.outcome(state)) is None:
        before = copy.deepcopy(state)
        asked, asks = strategy.ask(state)
        _expect(state == before, "ask() changed the state that it was given")
        _expect(bool(asks), "it asks for nothing and has no outcome")
        _expect(not strategy.ask(asked)[1], "it asks again while it waits to be told")
        ids = [ask.id for ask in asks]
        _expect(len({*ids}) == len(ids) and used.isdisjoint(ids), "it uses the id of an ask twice")
        used |= {*ids}
        results = [(ask, await _found_out(engine, ask, backwards)) for ask in asks]
        state = _told(strategy, asked, results[::-1] if backwards else results)
    _expect(not strategy.ask(state)[1], "it asks for more after its outcome")
    return outcome


def _told(strategy: Strategy[Any], state: Any, results: list[tuple[Ask, Result]]) -> Any:
    """The state that knows the results, which were told one after the other."""
    for ask, result in results:
        _expect(strategy.outcome(state) is None, "it has an outcome while an ask is open")
        before = copy.deepcopy(state)
        told = strategy.tell(state, ask.id, result)
        _expect(state == before, "tell() changed the state that it was given")
        state = told
    return state


async def _found_out(engine: Engine, ask: Ask, backwards: bool) -> Result:
    if not isinstance(ask, Draw):
        return await ask.verifier.ascore(ask.prompt, ask.candidates, engine)
    samples: Samples = await engine.adraw(ask.prompt, ask.n, ask.sampler)
    return replace(samples, candidates=samples.candidates[::-1]) if backwards else samples


def _expect(kept: bool, otherwise: str) -> None:
    if not kept:
        raise AssertionError(f"the strategy breaks its contract: {otherwise}")
