"""Two engine cores in one server (`--data-parallel-size 2`), on a CPU: groups stay together."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from ttscale import Prompt, Sampler, ServerEngine
from ttscale.bench.tiny import random_llama
from ttscale.esamp import ESamp
from ttscale.serving.running import RunningServer

pytestmark = [pytest.mark.engine, pytest.mark.own_engine]
CORES, N = 2, 4
COUNT_SECONDS = 5.0
SERVER = ("--load-format", "dummy", "--max-model-len", "256", "--max-num-seqs", "16")
DONE = re.compile(r'^vllm:request_success_total\{engine="(\d+)".*\} (\S+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with two engine cores and a model of two layers."""
    folder = tmp_path_factory.mktemp("cores")
    model = random_llama(folder / "model", 64, 2)
    args = [model, *SERVER, "--data-parallel-size", str(CORES)]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    with RunningServer(args, environment=environment, log=folder / "log") as started:
        yield started


def done(server: RunningServer) -> Counter[str]:
    """How many samples each core has finished, by vLLM's own counter."""
    page = httpx.get(f"{server.url}/metrics", trust_env=False).raise_for_status().text
    counts = Counter[str]()
    for core, value in DONE.findall(page):
        counts[core] += int(float(value))
    return counts


def counted(server: RunningServer, before: Counter[str], expected: int) -> Counter[str]:
    """What each core has finished since; vLLM counts a moment after it answers."""
    deadline = time.monotonic() + COUNT_SECONDS
    while (found := done(server) - before).total() < expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_group_is_drawn_by_one_core_and_groups_by_all(server: RunningServer) -> None:
    """By the cores' own counters; the reports of groups add up to that of the server."""
    exploring = Sampler(max_tokens=12, min_tokens=12, esamp=ESamp(beta=0.5, gate=False))
    groups, mixed, steps = [], 0, 0
    with ServerEngine(f"{server.url}/v1") as engine:
        for place in range(10):
            before = done(server)
            samples = engine.draw(Prompt.raw(f"Story {place}:"), N, exploring)
            groups.append(counted(server, before, N))
            assert samples.esamp is not None
            assert samples.esamp.fallbacks == {}
            mixed += samples.esamp.rows_mixed
            steps += samples.esamp.steps_trained
    told = httpx.get(f"{server.url}/ttscale/v1/esamp", trust_env=False).json()["total"]

    assert [sum(group.values()) for group in groups] == [N] * 10
    assert all(len(group) == 1 for group in groups)
    assert {core for group in groups for core in group} == {str(core) for core in range(CORES)}
    assert (told["rows_mixed"], told["steps_trained"]) == (mixed, steps)
    assert mixed > 0


def test_plain_samples_may_go_to_any_core(server: RunningServer) -> None:
    """What has no distiller is spread: the groups are what keeps samples together."""
    with ServerEngine(f"{server.url}/v1") as engine:
        before = done(server)
        engine.draw(Prompt.raw("Once"), 8, Sampler(max_tokens=4))

    assert len(counted(server, before, 8)) == CORES
