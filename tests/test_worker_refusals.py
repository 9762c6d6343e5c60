"""Which of vLLM's configurations can run ESamp, asked of real ones; no engine is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMValidationError

from ttscale.worker.head import plain_head
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tensor_parallel_size": 2}, "its head is split over tensor parallel ranks"),
        ({"enable_lora": True}, "LoRA is on"),
        ({"hf_overrides": {"logit_scale": 0.25}}, "shapes the head's logits (logit_scale)"),
        (
            {"hf_overrides": {"final_logit_softcapping": 30.0}},
            "shapes the head's logits (final_logit_softcapping)",
        ),
    ],
)
def test_the_head_cannot_be_learned_through_everywhere(
    configure: Configure, arguments: dict[str, Any], words: str
) -> None:
    """The ablation is refused with the reason and what to ask for; the others are let through."""
    config = configure(**arguments)
    refuse_if_impossible(config, SimpleNamespace(extra_args={"esamp_distiller": "swiglu"}))
    with pytest.raises(VLLMValidationError, match="use ridge or swiglu") as told:
        refuse_if_impossible(config, SimpleNamespace(extra_args={"esamp_distiller": "vocab"}))

    assert words in str(told.value)


def test_the_head_can_be_learned_through_on_a_plain_engine(configure: Configure) -> None:
    """Nothing stands against the ablation there."""
    refuse_if_impossible(configure(), SimpleNamespace(extra_args={"esamp_distiller": "vocab"}))


class Headed:
    """A model of which the head is asked: a padded matrix, and what is done to its logits."""

    def __init__(self, shape: Callable[[torch.Tensor], torch.Tensor]) -> None:
        weight = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
        self.lm_head = SimpleNamespace(weight=weight)
        self._shape = shape

    def compute_logits(self, states: torch.Tensor) -> torch.Tensor:
        """The logits of 12 tokens; the rest is padding."""
        return self._shape(states @ self.lm_head.weight.T)[:, :12]


def test_the_head_is_the_matrix_that_makes_the_logits() -> None:
    """Without vLLM's padding."""
    model = Headed(lambda logits: logits)
    head = plain_head(model, model.compute_logits, 8, 12)

    assert head is not None
    assert torch.equal(head, model.lm_head.weight[:12])


@pytest.mark.parametrize(
    "shape",
    [lambda x: x / 4, lambda x: 30 * torch.tanh(x / 30), lambda x: x + 0.1, lambda x: x[:, :5]],
    ids=["scale", "cap", "bias", "short"],
)
def test_a_head_whose_logits_are_shaped_is_found_out(
    shape: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """Whatever the configuration does not tell is seen in the logits themselves."""
    model = Headed(shape)

    assert plain_head(model, model.compute_logits, 8, 12) is None


@pytest.mark.parametrize("weight", [None, torch.ones(16, 8, dtype=torch.int8), torch.ones(4, 8)])
def test_a_head_that_is_no_plain_matrix_is_none(weight: torch.Tensor | None) -> None:
    """Quantised, missing, or of another shape."""
    model = Headed(lambda logits: logits)
    model.lm_head = SimpleNamespace(weight=weight)

    assert plain_head(model, model.compute_logits, 8, 12) is None


def test_models_that_hide_their_layers_are_refused(configure: Configure) -> None:
    """The message names the architecture that has no output of inner layers."""
    config = configure()
    config.model_config.model_arch_config.architectures = ["OPTForCausalLM"]

    assert why_not(config) == "['OPTForCausalLM'] does not give its first layer's output"
