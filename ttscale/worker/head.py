"""The LM head as a matrix, and the tokens that end a sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ttscale.esamp.settings import ESamp

SHAPES = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What models call what they do to logits after the head, in their configurations."""
_LENGTHS = (0.0, 1.0, 32.0)  # a bias shows in the first state, a soft cap in the last
_TOLERANCE = 5e-2  # of the logits' spread; half precision is within it


def why_no_head(vllm_config: Any, esamp: ESamp | None) -> str | None:
    """Why this engine cannot run the distiller that is asked for; None if it can."""
    return why_not_plain(vllm_config) if esamp is not None and esamp.distiller == "vocab" else None


def why_not_plain(vllm_config: Any) -> str | None:
    """Why logits are not the product with one matrix; None where nothing says so.

    What the configuration does not tell is found by `plain_head`, in the worker.
    """
    if vllm_config.parallel_config.tensor_parallel_size > 1:
        return "its head is split over tensor parallel ranks"
    if vllm_config.lora_config is not None:
        return "LoRA is on, so that its requests may have different heads"
    config = vllm_config.model_config.hf_text_config
    for name in SHAPES:
        if getattr(config, name, None) not in (None, 1, 1.0):
            return f"its model shapes the head's logits ({name})"
    return None


def plain_head(
    model: Any, compute_logits: Callable[[Tensor], Tensor | None], hidden: int, vocabulary: int
) -> Tensor | None:
    """The matrix (vocabulary, hidden) that makes the model's logits; None if that is not how.

    Told by trying `compute_logits`, the model's own, on random states, so whatever a model does to
    its logits is found. On a GPU this waits for the device.
    """
    owner = model if hasattr(model, "lm_head") else getattr(model, "language_model", None)
    weight = getattr(getattr(owner, "lm_head", None), "weight", None)
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.dim() != 2:
        return None
    if weight.shape[0] < vocabulary or weight.shape[1] != hidden:
        return None
    head = weight.detach()[:vocabulary]  # vLLM pads it
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(hidden, generator=draw)
    states = torch.stack([length * one for length in _LENGTHS]).to(head.device, head.dtype)
    logits = compute_logits(states)
    if logits is None or logits.shape != (len(states), vocabulary):
        return None
    expected = (states @ head.T).float()
    error = (logits.float() - expected).abs().amax(dim=1)
    return head if bool((error <= _TOLERANCE * expected.std(dim=1)).all()) else None


def end_tokens(model_config: Any) -> tuple[int, ...]:
    """Ids of the tokens that end a sample by the model's own account, in rising order."""
    told = [
        getattr(model_config.hf_text_config, "eos_token_id", None),
        (model_config.try_get_generation_config() or {}).get("eos_token_id"),
    ]
    ids = {one for some in told for one in (some if isinstance(some, list | tuple) else [some])}
    size = model_config.get_vocab_size()
    return tuple(sorted(one for one in ids if isinstance(one, int) and 0 <= one < size))
