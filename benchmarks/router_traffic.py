"""What passes through a router for each request and token, and what work that is for whom.

    python benchmarks/router_traffic.py           # a few minutes on two cores

One server with a random Llama (in the embedded model's vocabulary) behind the real vllm-router, and
`ServerEngine` in front of it, with a relay between that counts every byte. Two lengths of samples
tell what a request costs from what a token costs. Work is CPU time of the processes, not wall time:
it does not depend on how fast the model is. Prints JSON; the figures are the constants of
benchmarks/scale_model.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import psutil

from ttscale import Prompt, ServerEngine
from ttscale.bench.tiny import random_llama
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler
from ttscale.serving.running import RunningServer, running_router

SAMPLES = 16
LENGTHS = (2, 66)  # tokens a sample, in the two runs
WARM_UP = 2  # requests
MODES: dict[str, dict[str, bool]] = {
    "stream, log-probabilities": {"stream": True, "logprobs": True},
    "stream": {"stream": True, "logprobs": False},
    "whole, log-probabilities": {"stream": False, "logprobs": True},
    "whole": {"stream": False, "logprobs": False},
}
SERVER = ("--load-format", "dummy", "--max-model-len", "512", "--max-num-seqs", "64")
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}
PROMPT = "Write the opening paragraph of a story set in a lighthouse that nobody visits. " * 4


@dataclass
class Spent:
    """What a run has spent: bytes at the relay, CPU seconds of each process."""

    up: float = 0.0
    down: float = 0.0
    client: float = 0.0
    router: float = 0.0
    front_end: float = 0.0

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class Relay:
    """Passes bytes between an engine and a router, and counts them; in a process of its own."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._counts = context.Array("Q", 2)
        mine, its = context.Pipe()
        self._process = context.Process(target=_relay, args=(port, self._counts, its), daemon=True)
        self._process.start()
        self.url = f"http://127.0.0.1:{mine.recv()}/v1"

    @property
    def bytes(self) -> tuple[int, int]:
        """Bytes to the router and back, so far."""
        return self._counts[0], self._counts[1]

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _relay(port: int, counts: Any, told: Any) -> None:
    asyncio.run(_serve(port, counts, told))


async def _serve(port: int, counts: Any, told: Any) -> None:
    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, way: int) -> None:
        while part := await source.read(1 << 16):
            counts[way] += len(part)
            target.write(part)
            await target.drain()
        target.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, inner_writer, 0), pass_on(inner_reader, writer, 1))

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def cpu(process: psutil.Process) -> float:
    """CPU seconds of one process so far."""
    used = process.cpu_times()
    return float(used.user + used.system)


async def run(
    relay: Relay, processes: dict[str, psutil.Process], mode: str, tokens: int, count: int
) -> Spent:
    """What `count` requests of `SAMPLES` samples with so many tokens spend."""
    sampler = Sampler(max_tokens=tokens, min_tokens=tokens, esamp=ESamp(beta=0.25))
    engine = await asyncio.to_thread(lambda: ServerEngine(relay.url, **MODES[mode]))
    async with engine:
        for place in range(WARM_UP):
            await engine.adraw(Prompt.raw(f"{place} {PROMPT}"), SAMPLES, sampler)

        def now() -> Spent:
            up, down = relay.bytes
            spent = {name: cpu(process) for name, process in processes.items()}
            return Spent(up, down, time.process_time(), **spent)

        before = now()
        for place in range(count):
            found = await engine.adraw(Prompt.raw(f"{place} {PROMPT}"), SAMPLES, sampler)
            if {c.finish_reason for c in found.candidates} != {"length"}:
                raise RuntimeError(f"samples ended early: {found}")
        return now() - before


def per_request_and_token(short: Spent, long: Spent, count: int) -> dict[str, float]:
    """The two runs taken apart: what a token costs, and what a request costs beside its tokens."""
    told = {}
    for field in fields(Spent):
        low, high = getattr(short, field.name), getattr(long, field.name)
        token = (high - low) / (count * SAMPLES * (LENGTHS[1] - LENGTHS[0]))
        unit = 1.0 if field.name in ("up", "down") else 1e6
        about = "bytes" if unit == 1 else "CPU microseconds"
        told[f"{field.name}, {about} a token"] = round(token * unit, 2)
        request = low / count - token * SAMPLES * LENGTHS[0]
        told[f"{field.name}, {about} a request"] = round(request * unit, 1)
    return told


async def measure(router: RunningServer, server: RunningServer, count: int) -> dict[str, Any]:
    """Every mode."""
    processes = {
        "router": psutil.Process(router.process.pid),
        "front_end": psutil.Process(server.process.pid),
    }
    relay = Relay(int(router.url.rsplit(":", 1)[1]))
    found = {}
    for mode in MODES:
        spent = [await run(relay, processes, mode, length, count) for length in LENGTHS]
        found[mode] = per_request_and_token(*spent, count)
    relay.close()
    return found


def main() -> None:
    """Start server and router, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=40, help="in each run (default: 40)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = random_llama(Path(folder), 64, 2)
        with (
            RunningServer([model, *SERVER], environment=ENVIRONMENT) as server,
            running_router([server.url]) as router,
        ):
            found = asyncio.run(measure(router, server, args.requests))
    about = f"{args.requests} requests of {SAMPLES} samples, {LENGTHS[0]} and {LENGTHS[1]} tokens"
    print(json.dumps({"what": about, **found}, indent=2))


if __name__ == "__main__":
    main()
