"""Two replicas behind the real vllm-router: groups stay together, and a death loses no sample.

A small version of examples/scale_out, with a random Llama in place of the embedded model.
"""

from __future__ import annotations

import asyncio
import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ttscale import Prompt, Sampler, ServerEngine
from ttscale.bench.tiny import random_llama
from ttscale.errors import InvalidInput
from ttscale.esamp import ESamp
from ttscale.evaluation.records import DrawRecord
from ttscale.strategies import ESampSelfConsistency
from ttscale.types import Samples

pytest.importorskip("vllm_router")
pytestmark = [pytest.mark.engine, pytest.mark.own_engine]
RUN = runpy.run_path(str(Path(__file__).resolve().parent.parent / "examples/scale_out/run.py"))
EXPLORING = Sampler(max_tokens=12, esamp=ESamp(beta=0.5))
WAIT = 60  # seconds after which a test that hangs fails


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two servers with a model of two layers, and the router."""
    folder = tmp_path_factory.mktemp("fleet")
    model = random_llama(folder / "model", 64, 2)
    args = [model, "--load-format", "dummy", *RUN["SERVER"]]
    with RUN["fleet"](args, "sticky_least_loaded", folder) as running:
        yield running


@pytest.fixture
def engine(fleet: Any) -> Iterator[ServerEngine]:
    """An engine that knows the router alone."""
    with ServerEngine(f"{fleet.router.url}/v1") as made:
        yield made


def test_all_samples_of_a_prompt_meet_on_one_replica(fleet: Any, engine: ServerEngine) -> None:
    """By the replicas' own counters, over several requests; different prompts use both."""
    prompts = [Prompt.raw(f"Story {place}:") for place in range(6)]
    met = RUN["where_samples_met"](engine, fleet.replicas, prompts, 3)

    assert all(sorted(counts) == [0, 3 * RUN["DRAWS"]] for counts in met)
    assert all(any(counts[side] for counts in met) for side in (0, 1))


def test_a_router_hides_nothing_of_esamp(engine: ServerEngine) -> None:
    """Whether the servers have it, what it did, and who drew; bad values are refused."""
    samples = engine.draw(Prompt.raw("Once upon a time"), 4, EXPLORING)
    again = engine.draw(Prompt.raw("Once upon a time"), 4, EXPLORING)

    assert len(samples.candidates) == 4
    assert samples.esamp is not None
    assert samples.esamp.steps_trained > 0
    assert len(samples.replicas) == 1
    assert samples.replicas == again.replicas
    assert not samples.replicas[0].startswith("http")
    assert samples.usage.completion_tokens == sum(c.token_count for c in samples.candidates)

    beyond = ESamp()
    object.__setattr__(beyond, "beta", 9.0)
    with pytest.raises(InvalidInput, match="esamp_beta must be"):
        engine.draw(Prompt.raw("Once"), 2, Sampler(max_tokens=2, esamp=beyond))


def test_strategies_run_through_a_router(engine: ServerEngine) -> None:
    """As they do on one server."""
    vote = ESampSelfConsistency(n=4, max_tokens=8, kind="number")

    outcome = vote.run(engine, "What is 3 + 4?", seed=0)

    assert len(outcome.candidates) == 4


async def test_leaving_aborts_the_samples_behind_the_router(
    fleet: Any, engine: ServerEngine
) -> None:
    """A draw that is cancelled ends on its replica, long before its last token."""
    long = Sampler(max_tokens=900, min_tokens=900)
    draw = asyncio.create_task(engine.adraw(Prompt.raw("For ever"), 8, long))
    await until(lambda: running(fleet) > 0)
    draw.cancel()

    await until(lambda: running(fleet) == 0)
    told = [metrics(server.url) for server in fleet.replicas]
    assert sum(page.count('finished_reason="abort"') for page in told) > 0


def metrics(url: str) -> str:
    """What a server tells Prometheus."""
    return httpx.get(f"{url}/metrics", trust_env=False).raise_for_status().text


def running(fleet: Any) -> int:
    """Samples that the replicas are drawing."""
    lines = [line for r in fleet.replicas for line in metrics(r.url).splitlines()]
    counts = [line for line in lines if line.startswith("vllm:num_requests_running{")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in counts))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(WAIT):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)


def test_a_dead_replica_is_taken_over_and_no_sample_is_lost(
    fleet: Any, engine: ServerEngine, tmp_path: Path
) -> None:
    """The last test of the file: it kills a replica under an evaluation."""
    plan = RUN["plan_of"](count=8, n=4, max_tokens=48)
    busy: list[int] = []

    def kill() -> None:
        busy.append(running(fleet))
        fleet.replicas[0].kill()

    started = time.monotonic()
    pool = RUN["evaluate"](engine, tmp_path, plan, kill, plan.total // 3)
    cost = RUN["account"](pool, plan)

    assert busy  # it was killed
    assert cost.samples == plan.total
    assert len(pool.grades) == plan.total
    assert cost.explored == 8
    assert cost.lost_distillers == len(lost(pool.draws))
    assert set(cost.replicas) == {name for draw in pool.draws for name in draw.replicas}
    assert time.monotonic() - started < 10 * WAIT
    after: Samples = engine.draw(Prompt.raw("And then"), 2, EXPLORING)
    assert len(after.candidates) == 2


def lost(draws: list[DrawRecord]) -> set[str]:
    """Problems for which more than one answer was begun."""
    answers = [(draw.problem, name) for draw in draws for name in draw.replicas]
    return {problem for problem, _ in answers if sum(p == problem for p, _ in answers) > 1}
