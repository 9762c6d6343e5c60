"""Load on `ttscale serve`: mixed, cancelled, of all lengths; what is left afterwards.

    python benchmarks/serve_load.py                 # 2,000 requests, 64 at a time
    python benchmarks/serve_load.py --count 200 --at-once 16

The model is a tiny random Llama, so the figures are about what breaks and what is left, not about
speed. Half of the requests ask for ESamp; the others are greedy and must give the very text that an
idle server gives. One in ten is cancelled midway. Printed as a table for docs/serving.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from ttscale.bench.tiny import random_llama
from ttscale.serving.running import RunningServer

PROMPTS = (
    "The first thing that they saw was",
    "One, two, three,",
    "Question: What is 3 + 4?\nAnswer:",
    "def main() -> int:",
    "Once upon a time there was a small",
    "In the year 1912 a ship",
    "The colour of the sky is",
    "To make bread you need",
)
LONGEST = 200
ESAMP_SHARE, CANCELLED_SHARE = 0.5, 0.1
WIDTH_AND_LAYERS = (128, 2)
SERVER = (
    *("--max-num-seqs", "64", "--max-model-len", "512"),
    *("--dtype", "float32", "--load-format", "dummy"),
)
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}
SETTLE_SECONDS = 20.0
MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """One request: prompt, tokens, whether with ESamp, events after which it is cancelled."""

    prompt: str
    length: int
    esamp: bool
    cancel_after: int | None


@dataclass(frozen=True, slots=True)
class State:
    """What a server holds: distillers, their bytes, and the memory of its processes."""

    live: int
    held: int
    running: float
    memory: int


@dataclass(frozen=True, slots=True)
class Result:
    """What a load did.

    Attributes:
        outcomes: How many requests ended how: `done`, `cancelled`, or an error.
        changed: Greedy requests whose text is not that of the idle server.
        compared: Greedy requests that were compared.
        seconds: Wall time.
        work: What ESamp did in the time: rows mixed, steps trained, fallbacks.
        before: The server before.
        after: The server afterwards.
    """

    outcomes: Counter[str]
    changed: int
    compared: int
    seconds: float
    work: dict[str, Any]
    before: State
    after: State


def wishes(count: int, seed: int = 0) -> list[Wish]:
    """The requests of a load, the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - a plan, no secret
    made = []
    for _ in range(count):
        length = dice.randint(1, LONGEST)
        esamp = dice.random() < ESAMP_SHARE
        cancelled = dice.random() < CANCELLED_SHARE
        after = dice.randint(1, max(1, length // 2)) if cancelled else None
        made.append(Wish(dice.choice(PROMPTS), length, esamp, after))
    return made


async def load(url: str, count: int, at_once: int, headers: dict[str, str] | None = None) -> Result:
    """Run a load against the server at `url` and tell what it did and left."""
    # the server closes connections that were idle for 5 s; whoever keeps them as long may lose one
    limits = httpx.Limits(max_connections=at_once + 4, keepalive_expiry=2)
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=limits, headers=headers, trust_env=False
    ) as client:
        common = _common((await client.get("/ttscale/v1/models")).json())
        texts = {
            prompt: await _ask(client, common, Wish(prompt, LONGEST, False, None))
            for prompt in PROMPTS
        }
        await _ask(client, common, Wish(PROMPTS[0], LONGEST, True, None))  # all code has run once
        before, told = await state(client), await _report(client)
        permits, started = asyncio.Semaphore(at_once), time.monotonic()
        tally = _Tally(texts)

        async def one(wish: Wish) -> None:
            async with permits:
                tally.count(wish, await _ask(client, common, wish))

        await asyncio.gather(*(one(wish) for wish in wishes(count)))
        seconds = time.monotonic() - started
        work = _since(told["total"], (await _report(client))["total"])
        after = await _settled(client)
    return Result(tally.outcomes, tally.changed, tally.compared, seconds, work, before, after)


def _common(told: dict[str, Any]) -> dict[str, Any]:
    """What every request says: the model, and no ESamp where it is the operator's default."""
    off = {"vllm_xargs": {"esamp_beta": 0}} if told["ttscale"]["esamp"]["defaults"] else {}
    return {"model": told["data"][0]["id"], **off}


class _Tally:
    """Counts how requests ended."""

    def __init__(self, idle: dict[str, str]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.changed = self.compared = 0
        self._idle = idle

    def count(self, wish: Wish, text: str) -> None:
        """One request gave `text`, or an error's text after `error:`."""
        if text.startswith("error:"):
            self.outcomes[text] += 1
            return
        self.outcomes["done" if wish.cancel_after is None else "cancelled"] += 1
        if not wish.esamp:
            self.compared += 1
            self.changed += not self._idle[wish.prompt].startswith(text)


async def _ask(client: httpx.AsyncClient, common: dict[str, Any], wish: Wish) -> str:
    """The text of one streamed request, as far as it was read; `error:...` when it failed."""
    body = {**common, "prompt": wish.prompt, "stream": True}
    body |= {"max_tokens": wish.length, "ignore_eos": True, "temperature": 0}
    if wish.esamp:
        body |= {"temperature": 1, "vllm_xargs": {"esamp_beta": 0.25}}
    pieces: list[str] = []
    try:
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            if not answer.is_success:
                return f"error: {answer.status_code} {(await answer.aread())[:200]!r}"
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    if "error" in event:
                        return f"error: {event['error']['message']}"
                    pieces += [choice["text"] for choice in event["choices"]]
                if wish.cancel_after is not None and len(pieces) >= wish.cancel_after:
                    break
    except httpx.HTTPError as error:
        return f"error: {type(error).__name__}"
    return "".join(pieces)


async def _report(client: httpx.AsyncClient) -> dict[str, Any]:
    content: dict[str, Any] = (await client.get("/ttscale/v1/esamp")).raise_for_status().json()
    return content


def _since(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    counted = {name: now[name] - before[name] for name in ("rows_mixed", "steps_trained")}
    return {**counted, "fallbacks": now["fallbacks"]}


async def state(client: httpx.AsyncClient) -> State:
    """What the server holds now."""
    told = await _report(client)
    page = (await client.get("/metrics")).text.splitlines()
    running = sum(
        float(line.rsplit(" ", 1)[1])
        for line in page
        if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
    )
    port = client.base_url.port
    return State(told["live"], told["held"], running, _memory(port or 0))


async def _settled(client: httpx.AsyncClient) -> State:
    """The state once nothing runs any more; the last one seen if that takes too long."""
    deadline = time.monotonic() + SETTLE_SECONDS
    now = await state(client)
    while (now.live or now.held or now.running) and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        now = await state(client)
    return now


def server_processes(port: int) -> list[psutil.Process]:
    """The process that serves HTTP on `port`, and all below it."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "ttscale.worker.serve" in line and str(port) in line:
            return [process, *process.children(recursive=True)]
    return []


def _memory(port: int) -> int:
    """Resident bytes of all processes of the server."""
    return sum(process.memory_info().rss for process in server_processes(port))


def table(result: Result, count: int, at_once: int) -> str:
    """The figures as a Markdown table."""
    outcomes = ", ".join(f"{number} {name}" for name, number in result.outcomes.most_common())
    before, after = result.before, result.after
    rows = [
        ("requests", f"{count}, {at_once} at a time, 1 to {LONGEST} tokens"),
        ("ended", outcomes),
        ("greedy texts that changed", f"{result.changed} of {result.compared}"),
        (
            "rows mixed, steps trained",
            f"{result.work['rows_mixed']}, {result.work['steps_trained']}",
        ),
        ("fallbacks", str(result.work["fallbacks"] or 0)),
        ("distillers before, after", f"{before.live}, {after.live}"),
        ("bytes of distillers before, after", f"{before.held}, {after.held}"),
        (
            "memory before, after (MB)",
            f"{before.memory / MEGABYTE:.0f}, {after.memory / MEGABYTE:.0f}",
        ),
        ("wall time (s)", f"{result.seconds:.0f}"),
    ]
    return "\n".join(["| what | figure |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


def main() -> None:
    """Start a server with a tiny model, put the load on it, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = random_llama(Path(folder), *WIDTH_AND_LAYERS)
        with RunningServer([model, *SERVER], environment=ENVIRONMENT) as server:
            first = asyncio.run(load(server.url, args.at_once, args.at_once))
            print(f"warm-up: {dict(first.outcomes)}, {first.changed} changed")
            result = asyncio.run(load(server.url, args.count, args.at_once))
    print(table(result, args.count, args.at_once))


if __name__ == "__main__":
    main()
