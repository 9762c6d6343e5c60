"""Fixtures for all tests: the real engine and a real server, each started once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ttscale import LocalEngine, models
from ttscale.serving.running import RunningServer


@pytest.fixture(scope="session")
def engine() -> Iterator[LocalEngine]:
    """The embedded model in a real vLLM engine, in vLLM's own process."""
    with LocalEngine(max_model_len=1024, max_num_seqs=32) as started:
        yield started


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Llama of two layers and four heads, whose tokens are bytes.

    With 264 tokens it answers in no time, even in Triton's interpreter, and its head can be split.
    """
    import torch
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_llama")
    names = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytes_alone = Tokenizer(BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    ends = {"bos_token": names[0], "eos_token": names[1]}
    PreTrainedTokenizerFast(tokenizer_object=bytes_alone, **ends).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=264,
        hidden_size=128,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.3,  # tokens that differ clearly
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


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
