"""ESamp on kinds of models: run as a script by test_worker_models.py, in a process of its own.

Each kind is one engine on the same tiny random model; they start one after the other.

    python model_kinds.py MODEL ADAPTER QUANTISED  # folders; prints what was found, as JSON
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from typing import Any

ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 96,
    "max_num_seqs": 16,
    "block_size": 32,
    "num_gpu_blocks_override": 64,
    "disable_log_stats": True,
    "seed": 0,
}
PROMPTS = ["In the middle of the night", "Once", "A farmer has 12 sheep"]
PUSH = {"esamp_beta": 1.0, "esamp_distiller": "swiglu", "esamp_gate": 0}
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 16, "ignore_eos": True}
SCALE, SOFT_CAP = 0.25, 2.0
Found = dict[str, Any]


def greedy(llm: Any, extra: dict[str, Any] | None = None, **request: Any) -> list[list[int]]:
    """Greedy tokens of every prompt."""
    from vllm import SamplingParams

    params = SamplingParams(**GREEDY, extra_args=extra)
    done = llm.generate(PROMPTS, params, use_tqdm=False, **request)
    return [list(one.outputs[0].token_ids) for one in done]


def distance(llm: Any, final: Callable[[Any], Any]) -> float:
    """Largest difference between the engine's logits and `final(W (hL + beta (hL - f)))`."""
    from ttscale.worker.promises import Bench, recorded

    steps: list[dict[str, Any]] = []
    weight = llm.apply_model(lambda model: model.lm_head.weight.detach().double())[0]
    with recorded(Bench(llm, "", "float32"), steps):
        greedy(llm, {**PUSH, "esamp_hold_eos": 0})
    worst = 0.0
    for step in steps:
        mixed = step["hL"] + step["beta"].unsqueeze(1) * (step["hL"] - step["predicted"])
        expected = final(mixed.double() @ weight.T)[:, : step["logits"].shape[1]]
        error = (step["logits"].double() - expected).abs().max() / expected.std()
        worst = max(worst, float(error))
    return worst if steps else float("inf")


def usual(llm: Any, final: Callable[[Any], Any] = lambda logits: logits) -> Found:
    """What every kind must show: the formula, beta 0, and a push that has an effect."""
    plain = greedy(llm)
    return {
        "distance": distance(llm, final),
        "plain": plain,
        "zero": greedy(llm, {"esamp_beta": 0.0}),
        "pushed": greedy(llm, PUSH),
        "reports": llm.collective_rpc("esamp_report"),
    }


def shaped(llm: Any) -> Found:
    """The cap is taken of the mixed logits; the scale, which is linear, passes through the mix."""
    return usual(llm, lambda logits: SCALE * SOFT_CAP * (logits / SOFT_CAP).tanh())


def adapted(llm: Any) -> Found:
    """With and without a LoRA adapter, mixed, and filtered on the adapter's reference."""
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

    adapter = LoRARequest("tiny", 1, sys.argv[2])
    one = SamplingParams(**{**GREEDY, "temperature": 0.7, "top_k": 1, "extra_args": PUSH})
    filtered = llm.generate(PROMPTS, one, use_tqdm=False, lora_request=adapter)
    return {
        "base": greedy(llm),
        "plain": greedy(llm, lora_request=adapter),
        "zero": greedy(llm, {"esamp_beta": 0.0}, lora_request=adapter),
        "pushed": greedy(llm, PUSH, lora_request=adapter),
        "filtered": [list(one.outputs[0].token_ids) for one in filtered],
        "reports": llm.collective_rpc("esamp_report"),
    }


def split(llm: Any) -> Found:
    """Tokens with and without a push, and what each rank reports of one group."""
    named = {**PUSH, "esamp_group": "ranks"}
    pushed = greedy(llm, PUSH)
    greedy(llm, named)
    reports = llm.collective_rpc("esamp_report", args=(["group:ranks"],))
    return {"plain": greedy(llm), "pushed": pushed, "reports": reports}


KINDS: dict[str, tuple[dict[str, Any], Callable[[Any], Found]]] = {
    "untied": ({}, usual),
    "shaped": (
        {
            "model_impl": "transformers",
            "hf_overrides": {"final_logit_softcapping": SOFT_CAP, "logit_scale": SCALE},
        },
        shaped,
    ),
    "quantised": ({}, usual),
    "lora": ({"enable_lora": True, "max_lora_rank": 8}, adapted),
    "tensor_parallel": ({"tensor_parallel_size": 2}, split),
}


def main() -> None:
    """Run every kind."""
    os.environ.update(
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_KVCACHE_SPACE="1",
        VLLM_CPU_OMP_THREADS_BIND="nobind",  # else vLLM wants a NUMA node for each rank
        HF_HUB_OFFLINE="1",
    )
    from vllm import LLM
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.model_executor.kernels.linear.scaled_mm import cpu

    cpu.check_cpu_sgl_kernel = lambda *_: False  # vLLM's kernel for AMX takes no float32 states
    found = {}
    for name, (settings, check) in KINDS.items():
        folder = sys.argv[3] if name == "quantised" else sys.argv[1]
        llm = LLM(folder, **ENGINE, **settings)
        found[name] = check(llm)
        llm.llm_engine.engine_core.shutdown()
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
