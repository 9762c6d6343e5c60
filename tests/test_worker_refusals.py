"""Which of vLLM's configurations can run ESamp, asked of real ones; no engine is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError

from ttscale.worker.plugin import refuse_if_impossible, why_not

Configure = Callable[..., Any]
NGRAM = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}


@pytest.fixture
def configure(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Makes the configuration that vLLM makes of engine arguments."""
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    shared = {"skip_tokenizer_init": True, "enforce_eager": True, "max_model_len": 96}

    def made(**arguments: Any) -> Any:
        everything = {**shared, **arguments}
        return AsyncEngineArgs(model=str(tiny_llama), **everything).create_engine_config()

    return made


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"tensor_parallel_size": 2},
        {"data_parallel_size": 2},
        {"enable_lora": True},
        {"model_impl": "transformers"},
        {"enforce_eager": False},
    ],
    ids=lambda arguments: next(iter(arguments), "plain"),
)
def test_these_configurations_run_esamp(configure: Configure, arguments: dict[str, Any]) -> None:
    """Tensor and data parallelism, LoRA, vLLM's Transformers models and compiled ones."""
    assert why_not(configure(**arguments)) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"speculative_config": NGRAM}, "speculative decoding is on; start the engine without it"),
        ({"pipeline_parallel_size": 2}, "pipeline parallelism is on; use tensor parallelism"),
        ({"runner": "pooling"}, "its runner type is pooling, which generates nothing"),
    ],
)
def test_these_configurations_are_refused(
    configure: Configure, arguments: dict[str, Any], words: str
) -> None:
    """A request for ESamp is refused with the reason and what to do; others are let through."""
    config = configure(**arguments)
    asks = SimpleNamespace(extra_args={"esamp_beta": 0.25})
    with pytest.raises(VLLMValidationError, match="ESamp is not available on this engine") as told:
        refuse_if_impossible(config, asks)
    refuse_if_impossible(config, SimpleNamespace(extra_args={"other": 1}))

    assert words in str(told.value)


def test_models_that_hide_their_layers_are_refused(configure: Configure) -> None:
    """The message names the architecture that has no output of inner layers."""
    config = configure()
    config.model_config.model_arch_config.architectures = ["OPTForCausalLM"]

    assert why_not(config) == "['OPTForCausalLM'] does not give its first layer's output"
