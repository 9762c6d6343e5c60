"""Reward models on a real vLLM pooling server with a small model of random weights."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import safetensors.numpy

from ttscale.bench.tiny import random_llama
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import CrossEncoder, ProcessReward, RewardModel

pytestmark = [pytest.mark.engine, pytest.mark.own_engine]
START_SECONDS = 240
ENGINE = ScriptedEngine(["unused"])
QUESTION = Prompt.of("What is 1 + 1?")
TEXTS = ["It is 2.", "It is three, since one and one and one are three.", "word " * 2000]
CANDIDATES = [candidate(text, index=i) for i, text in enumerate(TEXTS)]
WIDTH, LAYERS = 64, 2
_NORMS = ("input_layernorm", "post_attention_layernorm")
_MATRICES = [f"self_attn.{name}_proj" for name in "qkvo"]
_MATRICES += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


def save_model(folder: Path) -> None:
    """A Llama that classifies, with random weights; written without torch, which takes long."""
    random_llama(folder, WIDTH, LAYERS)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "architectures": ["LlamaForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "intermediate_size": WIDTH,
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes = {
        "model.embed_tokens.weight": (config["vocab_size"], WIDTH),
        "score.weight": (1, WIDTH),
    }
    for layer in range(LAYERS):
        names = [f"model.layers.{layer}.{name}.weight" for name in _MATRICES]
        shapes |= dict.fromkeys(names, (WIDTH, WIDTH))
    dice = np.random.default_rng(0)
    weights = {n: dice.normal(0, 0.1, shape).astype(np.float32) for n, shape in shapes.items()}
    norms = [f"model.layers.{i}.{name}.weight" for i in range(LAYERS) for name in _NORMS]
    weights |= {n: np.ones(WIDTH, np.float32) for n in [*norms, "model.norm.weight"]}
    safetensors.numpy.save_file(weights, folder / "model.safetensors")


@pytest.fixture(scope="module")
def pooling_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a vLLM server that classifies, started for this file."""
    folder = tmp_path_factory.mktemp("reward")
    save_model(folder / "model")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    with (folder / "log").open("wb") as output:
        command = _server(folder / "model", port)
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env)
        try:
            _wait_for(process, f"{url}/health", folder / "log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _server(folder: Path, port: int) -> list[str]:
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    where = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "reward"]
    task = ["--runner", "pooling", "--convert", "classify"]
    cheap = ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8"]
    return [*module, *where, *task, *cheap, "--max-model-len", "512"]


def _wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(START_SECONDS * 2):
        if process.poll() is not None:
            break
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-4000:]}")


async def test_reward_model_scores_conversations(pooling_url: str) -> None:
    """Two probabilities, tokens that were read, and one text that is too long alone."""
    with RewardModel(pooling_url, "reward") as verifier:
        sheet = await verifier.ascore(QUESTION, CANDIDATES, ENGINE)

    first, second, long = sheet.scores
    assert first.value is not None
    assert second.value is not None
    assert first.value != second.value
    assert "maximum context length is 512" in (long.error or "")
    assert sheet.usage.prompt_tokens > 0


async def test_raw_logits_have_a_range_of_their_own(pooling_url: str) -> None:
    """Logits and probabilities are the same model's."""
    with RewardModel(pooling_url, use_activation=False, low=-100, high=100) as logits:
        raw = (await logits.ascore(QUESTION, CANDIDATES[:2], ENGINE)).scores
    with RewardModel(pooling_url) as probabilities:
        shares = (await probabilities.ascore(QUESTION, CANDIDATES[:2], ENGINE)).scores

    assert raw[0].value != shares[0].value
    assert ((raw[0].value or 0) < (raw[1].value or 0)) == (
        (shares[0].value or 0) < (shares[1].value or 0)
    )


async def test_cross_encoder_scores_pairs_alone_when_one_is_refused(pooling_url: str) -> None:
    """The same scores in one request and one by one."""
    with CrossEncoder(f"{pooling_url}/v1", "reward") as verifier:
        alone = await verifier.ascore(QUESTION, CANDIDATES, ENGINE)
        together = await verifier.ascore(QUESTION, CANDIDATES[:2], ENGINE)

    assert alone.scores[:2] == together.scores
    assert None not in [score.value for score in together.scores]
    assert "maximum context length is 512" in (alone.scores[2].error or "")


async def test_server_that_does_not_pool_by_steps_says_so(pooling_url: str) -> None:
    """A server holds one task; another one is an error of the candidates."""
    with ProcessReward(pooling_url) as verifier:
        sheet = await verifier.ascore(QUESTION, CANDIDATES[:1], ENGINE)

    assert "token_classify" in (sheet.scores[0].error or "")
