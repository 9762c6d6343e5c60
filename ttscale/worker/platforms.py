"""Settings of vLLM that differ between a CPU and an accelerator."""

from __future__ import annotations

import os
import platform
from types import ModuleType
from typing import Any

from ttscale.errors import MissingDependency

CPU_KV_CACHE_GIB = "2"
CPU_BATCHED_TOKENS = 2048
CPU_BLOCK = 32
FEW_CORES = 2


def platform_settings(dtype: str, eager: bool | None, max_model_len: int) -> dict[str, Any]:
    """Settings that differ between a CPU and an accelerator.

    Raises:
        MissingDependency: vLLM is not installed.
    """
    try:
        import torch
        from vllm.platforms import current_platform
    except ImportError as error:
        raise MissingDependency(
            "LocalEngine needs vLLM: install ttscale[cpu] or, with an NVIDIA GPU, ttscale[gpu]"
        ) from error
    cpu = bool(current_platform.is_cpu())
    if cpu:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_KV_CACHE_GIB)
        if (os.cpu_count() or 1) <= FEW_CORES:
            # vLLM keeps a core for its scheduler, which here is half of all and mostly waits
            os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
        if dtype == "auto" and not _multiplies_bfloat16(torch):
            dtype = "float32"
    settings: dict[str, Any] = {"dtype": dtype, "enforce_eager": cpu if eager is None else eager}
    if cpu:
        # vLLM 0.32 dies when a seeded request's prompt is cut into chunks on a CPU: it rewinds
        # the request's generator, and torch's CPU generator has no offset
        settings["enable_chunked_prefill"] = False
        settings["max_num_batched_tokens"] = max(max_model_len, CPU_BATCHED_TOKENS)
        # samples share the whole blocks of their prompt; vLLM's 128 tokens on a CPU are longer than
        # most questions, so that each of n samples would read the prompt again
        settings["block_size"] = CPU_BLOCK
    return settings


def _multiplies_bfloat16(torch: ModuleType) -> bool:
    """Whether this CPU has instructions for bfloat16 products.

    Without them oneDNN emulates such products, two to ten times slower than float32; on a CPU with
    AVX512 it calls that supported.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        has = torch.cpu.get_capabilities()
        return bool(has["avx512_bf16"] or has["amx_bf16"])
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
