"""Two replicas behind vllm-router on one machine, an evaluation through them, and a death.

    make demo-scale                       # or:
    python examples/scale_out/run.py

Starts two servers with the embedded model and the router, shows from the servers' own counters that
each prompt's samples meet on one of them, kills one in the middle of an evaluation, lets the other
finish it, and says how many groups lost their distiller.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ttscale import Prompt, Sampler, ServerEngine
from ttscale.engines import Engine
from ttscale.esamp import ESamp
from ttscale.evaluation.book import Plan
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.cost import Cost, cost_of
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.records import Record, SampleRecord
from ttscale.evaluation.runner import Runner
from ttscale.evaluation.samplers import arms
from ttscale.serving.running import RunningServer, running_router

SERVER = ("--max-model-len", "1024", "--max-num-seqs", "32")
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}
TASK, ESAMP = "word_problems", "esamp:beta=0.5"
DRAWS = 2
"""Requests for each prompt in the first part, as strategies make that draw in rounds."""
COUNT_SECONDS = 5.0
"""Longest wait for the servers' counters."""


@dataclass
class Fleet:
    """What runs: the replicas and, in front of them, the router."""

    replicas: list[RunningServer]
    router: RunningServer


@contextmanager
def fleet(
    args: Sequence[str] = SERVER, policy: str = "sticky_least_loaded", logs: Path | None = None
) -> Iterator[Fleet]:
    """Two servers and a router, for as long as the block lasts."""
    folder = logs or Path(tempfile.mkdtemp(prefix="ttscale-scale-out-"))
    replicas = [
        RunningServer(args, environment=ENVIRONMENT, log=folder / f"replica{number}.log")
        for number in (1, 2)
    ]
    with ExitStack() as stack:
        with ThreadPoolExecutor() as pool:  # both start at the same time
            list(pool.map(stack.enter_context, replicas))
        urls = [replica.url for replica in replicas]
        router = running_router(urls, policy=policy, log=folder / "router.log")
        yield Fleet(replicas, stack.enter_context(router))


def samples_done(server: RunningServer) -> int:
    """How many samples a server has finished, by vLLM's own counter."""
    told = httpx.get(f"{server.url}/metrics", trust_env=False).raise_for_status().text
    lines = [line for line in told.splitlines() if line.startswith("vllm:request_success_total{")]
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def where_samples_met(
    engine: Engine, servers: Sequence[RunningServer], prompts: Sequence[Prompt], n: int
) -> list[list[int]]:
    """For each prompt, how many of its samples each server drew, in `DRAWS` requests for n."""
    sampler = Sampler(max_tokens=16, esamp=ESamp(beta=0.5))
    rows = []
    for prompt in prompts:
        before = [samples_done(server) for server in servers]
        for seed in range(DRAWS):
            asyncio.run(engine.adraw(prompt, n, sampler.with_seed(seed)))
        rows.append(counted(servers, before, DRAWS * n))
    return rows


def counted(servers: Sequence[RunningServer], before: Sequence[int], expected: int) -> list[int]:
    """How many samples each server has finished since; they count a moment after they answer."""
    deadline = time.monotonic() + COUNT_SECONDS
    while True:
        found = [samples_done(s) - b for s, b in zip(servers, before, strict=True)]
        if sum(found) >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def evaluate(
    engine: Engine, folder: Path, plan: Plan, kill: Callable[[], None], kill_after: int
) -> Pool:
    """Fill a pool by the plan; `kill` is called once, after so many samples."""
    pool = read_pool(folder / "samples.jsonl")
    seen = 0

    def watch(record: Record) -> None:
        nonlocal seen
        seen += isinstance(record, SampleRecord)
        if seen == kill_after and isinstance(record, SampleRecord):
            kill()

    with PoolWriter(folder / "samples.jsonl") as writer:
        asyncio.run(Runner(plan, pool, writer, engine, watch).fill())
    return pool


def plan_of(count: int, n: int, max_tokens: int) -> Plan:
    """One ESamp sampler on a few word problems; what a dead replica did not bring is redrawn."""
    suite = TaskSpec(TASK, count).suite()
    return Plan((suite,), arms([ESAMP], [0.8], max_tokens), n, concurrency=8, redraws=2)


def account(pool: Pool, plan: Plan) -> Cost:
    """What the evaluation has cost, and what was lost."""
    return cost_of(pool, TASK, plan.arms[0].name)


def show(pool: Pool, plan: Plan) -> None:
    """Print the accounting."""
    cost = account(pool, plan)
    print(f"  {cost.samples} of {plan.total} samples are there")
    print(f"  requests that did not bring all their samples left out {cost.failed}, drawn again")
    for name, groups in cost.replicas.items():
        print(f"  replica {name} drew for {groups} of {cost.explored} groups")
    print(
        f"  {cost.lost_distillers} of {cost.explored} groups lost their distiller: "
        f"{cost.begun_again} were begun again as a whole, "
        f"{cost.lost_distillers - cost.begun_again} were completed by a later request"
    )


def main() -> int:
    """Start everything, run both parts, stop everything; 1 if a sample is missing."""
    print("starting two replicas and the router (20 to 120 s)", flush=True)
    with fleet() as running, ServerEngine(f"{running.router.url}/v1") as engine:
        print(f"\nEach prompt is drawn at the router, in {DRAWS} requests for 4 ESamp samples:")
        questions = [f"Write one sentence about the number {number}." for number in range(1, 7)]
        prompts = [Prompt.of(question) for question in questions]
        met = where_samples_met(engine, running.replicas, prompts, 4)
        for question, counts in zip(questions, met, strict=True):
            print(f"  {question}  samples on replica 1: {counts[0]}, on replica 2: {counts[1]}")
        plan = plan_of(count=16, n=8, max_tokens=96)
        third = plan.total // 3
        print(f"\nAn evaluation of {plan.total} samples; replica 1 is killed after {third}:")
        with tempfile.TemporaryDirectory() as folder:
            pool = evaluate(engine, Path(folder), plan, running.replicas[0].kill, third)
        show(pool, plan)
    print("\nstopped")
    return 0 if account(pool, plan).samples == plan.total else 1


if __name__ == "__main__":
    sys.exit(main())
