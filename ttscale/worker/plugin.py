"""What the plugin wraps of vLLM, and the installer. See the package's docstring for the design."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
from collections.abc import Callable
from typing import Any, NoReturn

import torch

from ttscale.esamp.settings import LATENT_DISTILLERS
from ttscale.worker.callers import with_defaults
from ttscale.worker.head import end_tokens, plain_head, why_no_head, why_not_plain
from ttscale.worker.parallel import keep_together
from ttscale.worker.request import admit, read_keys
from ttscale.worker.runtime import open_runtime, runtime_of

log = logging.getLogger(__name__)

DISABLE = "TTSCALE_DISABLE"
SALT = "ttscale/h1/1"  # changes when what we add to the compiled graph changes
FIRST_LAYER = 1
_MARK = "_ttscale_wrapped"

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _load_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """`BaseModelLoader.load_model`: capture h1 of the engine's own model (not of a draft)."""

    @functools.wraps(original)
    def load_model(
        self: Any, vllm_config: Any, model_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        model = original(self, vllm_config, model_config, *args, **kwargs)
        if model_config is vllm_config.model_config and why_not(vllm_config) is None:
            if vllm_config.use_v2_model_runner:
                _install(_V2_SAMPLE)
            capture(model, vllm_config)
        return model

    return load_model


def _process_inputs(original: Callable[..., Any]) -> Callable[..., Any]:
    """`InputProcessor.process_inputs`: admit the request's own copy of its parameters."""

    @functools.wraps(original)
    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = original(self, *args, **kwargs)
        params = request.sampling_params
        if params is not None:
            params.extra_args = with_defaults(params.extra_args) or None
            if params.extra_args:
                refuse_if_impossible(self.vllm_config, params)
                admit(params)
                keep_together(self.vllm_config, request)
        return request

    return process_inputs


def _compute_hash(original: Callable[..., Any]) -> Callable[..., Any]:
    """`VllmConfig.compute_hash`: salted, since the captured output enters the compiled graph."""

    @functools.wraps(original)
    def compute_hash(self: Any, *args: Any, **kwargs: Any) -> str:
        plain: str = original(self, *args, **kwargs)
        salted = hashlib.sha256(f"{plain}{SALT}".encode()).hexdigest()
        return salted[: len(plain)]

    return compute_hash


def _execute_model(original: Callable[..., Any]) -> Callable[..., Any]:
    """`Worker.execute_model`: requests join and leave their groups before the step."""

    @functools.wraps(original)
    def execute_model(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        runtime = runtime_of(self.vllm_config)
        if runtime is not None:
            with torch.inference_mode():
                runtime.observe(scheduler_output)
        return original(self, scheduler_output, *args, **kwargs)

    return execute_model


def _sample(original: Callable[..., Any]) -> Callable[..., Any]:
    """V2's `GPUModelRunner.sample`, where a step's rows and `compute_logits` meet."""

    @functools.wraps(original)
    def sample(self: Any, hidden_states: Any, input_batch: Any, *args: Any, **kwargs: Any) -> Any:
        runtime = runtime_of(self.vllm_config)
        if runtime is not None:
            prompt_lengths = self.req_states.prompt_len.np[input_batch.idx_mapping_np]
            runtime.place(input_batch, prompt_lengths.tolist())
        return original(self, hidden_states, input_batch, *args, **kwargs)

    return sample


Wrapped = tuple[str, str, str, Wrap]
# its module needs Triton, so only workers that run V2 load and wrap it
_V2_SAMPLE: Wrapped = ("vllm.v1.worker.gpu.model_runner", "GPUModelRunner", "sample", _sample)
# (module, class, method, wrapper): all that is replaced in vLLM; `ttscale verify` prints it
WRAPPED: tuple[Wrapped, ...] = (
    ("vllm.model_executor.model_loader.base_loader", "BaseModelLoader", "load_model", _load_model),
    ("vllm.v1.engine.input_processor", "InputProcessor", "process_inputs", _process_inputs),
    ("vllm.config.vllm", "VllmConfig", "compute_hash", _compute_hash),
    ("vllm.v1.worker.gpu_worker", "Worker", "execute_model", _execute_model),
    _V2_SAMPLE,
)


def disabled() -> bool:
    """Whether TTSCALE_DISABLE switches the plugin off in this process."""
    return os.environ.get(DISABLE, "").lower() not in ("", "0", "false")


def register() -> None:
    """Entry point of `vllm.general_plugins`: install once per process; cheap and idempotent."""
    if disabled():
        return
    for wrapped in WRAPPED:
        if wrapped is not _V2_SAMPLE:
            _install(wrapped)
    worker = importlib.import_module("vllm.v1.worker.gpu_worker").Worker
    worker.esamp_report = esamp_report


def _install(wrapped: Wrapped) -> None:
    """Put a wrapper around its method, unless it is there already."""
    module, cls, method, wrap = wrapped
    owner = getattr(importlib.import_module(module), cls)
    original = getattr(owner, method)
    if not hasattr(original, _MARK):
        wrapper = wrap(original)
        setattr(wrapper, _MARK, True)
        setattr(owner, method, wrapper)


def esamp_report(self: Any, names: list[str] | None = None) -> dict[str, Any]:
    """Worker method for `collective_rpc`: what ESamp did, as plain values.

    Returns:
        `total`, `live` (distillers), `held` (bytes), `seconds` (by phase) and `groups` (by name,
        None if unknown).
    """
    runtime = runtime_of(self.vllm_config)
    if runtime is None:
        return {"total": None, "live": 0, "held": 0, "seconds": {}, "groups": {}}
    found = {name: runtime.groups.report(name) for name in names or []}
    return {
        "total": runtime.groups.total().to_json(),
        "live": runtime.groups.live,
        "held": runtime.groups.bytes_held,
        "seconds": runtime.groups.clock.seconds,
        "groups": {name: r.to_json() if r is not None else None for name, r in found.items()},
    }


def refuse_if_impossible(vllm_config: Any, params: Any) -> None:
    """Raise vLLM's validation error if the request asks for what this engine cannot do."""
    asked = read_keys(params.extra_args)
    if asked is None:
        return
    reason = why_not(vllm_config)
    if reason is not None:
        _refuse(f"ESamp is not available on this engine: {reason}")
    if (reason := why_no_head(vllm_config, asked.esamp)) is not None:
        _refuse(
            f"esamp_distiller 'vocab' is not available on this engine: {reason}; use "
            f"{' or '.join(LATENT_DISTILLERS)}"
        )


def _refuse(message: str) -> NoReturn:
    from vllm.exceptions import VLLMValidationError

    raise VLLMValidationError(message)


def why_not(vllm_config: Any) -> str | None:
    """Why an engine with this configuration cannot run ESamp; None if it can."""
    model_config, parallel = vllm_config.model_config, vllm_config.parallel_config
    if model_config.runner_type != "generate":
        return f"its runner type is {model_config.runner_type}, which generates nothing"
    if vllm_config.speculative_config is not None:
        return "speculative decoding is on; start the engine without it"
    if parallel.pipeline_parallel_size > 1:
        return "pipeline parallelism is on; use tensor parallelism"
    if parallel.enable_batch_sharded_sampling:
        return "batch-sharded sampling is on; start the engine without it"
    if not _gives_first_layer(model_config):
        return f"{model_config.architectures} does not give its first layer's output"
    return None


def _gives_first_layer(model_config: Any) -> bool:
    """Whether the model's class has vLLM's interface for outputs of inner layers."""
    from vllm.model_executor.models.interfaces import supports_eagle3
    from vllm.model_executor.models.registry import ModelRegistry

    cls, _ = ModelRegistry.resolve_model_cls(model_config.architectures, model_config)
    return bool(supports_eagle3(cls))


def capture(model: Any, vllm_config: Any) -> None:
    """Make `model` return `cat([hL, h1])`, and mix in its `compute_logits`."""
    sizes = vllm_config.model_config.get_hidden_size(), vllm_config.model_config.get_vocab_size()

    @functools.cache
    def head() -> torch.Tensor | None:
        if why_not_plain(vllm_config) is not None:
            return None
        try:
            return plain_head(model, compute_logits, *sizes)
        except Exception:
            log.exception("the head could not be tried; it is taken for no plain matrix")
            return None

    runtime = open_runtime(vllm_config, head, end_tokens(vllm_config.model_config))
    model.set_aux_hidden_state_layers((FIRST_LAYER,))
    forward, compute_logits = model.forward, model.compute_logits

    def both_states(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        if isinstance(output, tuple):
            last, (first,) = output
            with runtime.groups.clock.phase("capture"):
                output = torch.cat([last, first], dim=-1)
        return output

    def mixed_logits(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return runtime.compute_logits(
            hidden_states, lambda states: compute_logits(states, *args, **kwargs)
        )

    model.forward, model.compute_logits = both_states, mixed_logits
