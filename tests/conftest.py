"""Fixtures for all tests: the real engine and a real server, each started once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ttscale import LocalEngine, models
from ttscale.serving.running import RunningServer


@pytest.fixture(scope="session")
def engine() -> Iterator[LocalEngine]:
    """The embedded model in a real vLLM engine, in vLLM's own process."""
    with LocalEngine(max_model_len=1024, max_num_seqs=32) as started:
        yield started


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of `ttscale serve` with the embedded model, which has two names there."""
    names = ["--served-model-name", models.EMBEDDED, "smollm2-135m"]
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    small = ["--dtype", "float32", "--max-num-seqs", "16", "--max-model-len", "1024"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    log = tmp_path_factory.mktemp("server") / "log"
    args = [models.EMBEDDED, *names, *tools, *small]
    with RunningServer(args, environment=environment, log=log) as server:
        yield f"{server.url}/v1"
