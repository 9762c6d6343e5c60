"""What the plugin costs a server whose requests do not ask for it: a paired ratio.

    python benchmarks/serve_idle.py                 # 20 rounds

Two servers of the same model run at once: `ttscale serve`, and vLLM alone. In each round both get
the same requests, one server after the other, in an order that changes from round to round, while
the other one idles. Both run with the type of weights and the cores that `ttscale serve` chooses on
this machine, so that the plugin alone is compared. Printed: tokens per second of both, and the mean
ratio with its 95 % interval (bootstrap over rounds).
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import statistics
import time

import httpx

from ttscale import models
from ttscale.serving.running import RunningServer
from ttscale.worker.platforms import platform_settings

VANILLA = ("vllm.entrypoints.openai.api_server",)
SETTINGS = (
    *("--max-num-seqs", "32", "--max-model-len", "512"),
    *("--enforce-eager", "--no-enable-chunked-prefill", "--disable-uvicorn-access-log"),
)
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
NO_PLUGIN = {**ENVIRONMENT, "VLLM_PLUGINS": "", "TTSCALE_DISABLE": "1"}
REQUESTS, SAMPLES, TOKENS = 4, 8, 32
RESAMPLES = 10_000


async def rate(url: str) -> float:
    """Tokens per second of one round of requests."""
    body = {"prompt": "Once upon a time", "n": SAMPLES, "max_tokens": TOKENS, "ignore_eos": True}
    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as client:
        sent = (client.post("/v1/completions", json={**body, "seed": k}) for k in range(REQUESTS))
        answers = await asyncio.gather(*sent)
    seconds = time.perf_counter() - started
    tokens: int = sum(answer.json()["usage"]["completion_tokens"] for answer in answers)
    return tokens / seconds


def interval(ratios: list[float], seed: int = 0) -> tuple[float, float, float]:
    """Geometric mean of the ratios, and its 95 % bootstrap interval over rounds."""
    logs = [math.log(ratio) for ratio in ratios]
    dice = random.Random(seed)  # noqa: S311 - a resampling, no secret
    means = sorted(statistics.fmean(dice.choices(logs, k=len(logs))) for _ in range(RESAMPLES))
    low, high = means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]
    return math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high)


def measure(ours: str, vanilla: str, rounds: int) -> list[tuple[float, float]]:
    """Rates of both servers in every round, after one round that is not counted."""
    found = []
    for number in range(rounds + 1):
        order = (ours, vanilla) if number % 2 else (vanilla, ours)
        rates = {url: asyncio.run(rate(url)) for url in order}
        if number:
            found.append((rates[ours], rates[vanilla]))
    return found


def main() -> None:
    """Start both servers, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    dtype = platform_settings("auto", None, 0)["dtype"]  # sets the cores, for both servers
    model = ["--model", models.resolve(models.EMBEDDED), "--dtype", dtype, *SETTINGS]
    with (
        RunningServer(model, environment=ENVIRONMENT) as ours,
        RunningServer(model, command=VANILLA, environment=NO_PLUGIN) as vanilla,
    ):
        rates = measure(ours.url, vanilla.url, args.rounds)
    mean, low, high = interval([one / other for one, other in rates])
    plugin = statistics.fmean(one for one, _ in rates)
    alone = statistics.fmean(other for _, other in rates)
    work = f"{len(rates)} rounds of {REQUESTS} requests x {SAMPLES} samples x {TOKENS} tokens"
    print(f"{work}: with the plugin {plugin:.0f} tok/s, without {alone:.0f} tok/s")
    print(f"ratio {mean:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
