"""Fixtures for all tests: the real engine and a real server, each started once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ttscale import LocalEngine, models

SERVER_START_SECONDS = 300


@pytest.fixture(scope="session")
def engine() -> Iterator[LocalEngine]:
    """The embedded model in a real vLLM engine, in vLLM's own process."""
    with LocalEngine(max_model_len=1024, max_num_seqs=32) as started:
        yield started


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a real vLLM server with the embedded model, which has two names there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(_server(port), stdout=output, stderr=output, env=env)
        try:
            _wait_for(process, f"http://127.0.0.1:{port}/health", log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _server(port: int) -> list[str]:
    """What starts the server; the `vllm` command does not work with every distribution."""
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    folder = models.resolve(models.EMBEDDED)
    where = ["--model", folder, "--host", "127.0.0.1", "--port", str(port)]
    names = ["--served-model-name", models.EMBEDDED, "smollm2-135m"]
    tools = ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    cheap = ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16"]
    return [*module, *where, *names, *tools, *cheap, "--max-model-len", "1024"]


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(SERVER_START_SECONDS * 2):
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")
