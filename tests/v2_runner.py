"""ESamp on Model Runner V2, on a CPU: test_worker_v2.py runs this script in its own process.

V2 needs Triton, whose kernels run on a CPU in Triton's interpreter. vLLM asks for a "cpu" backend
before it uses Triton on a CPU, so a stand-in is put in its place before vLLM is imported.

    python v2_runner.py MODEL_FOLDER    # prints what each check found, as one line of JSON
"""

from __future__ import annotations

import json
import os
import sys
from types import SimpleNamespace
from typing import Any

ENGINE = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 96,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 128,
    "block_size": 32,
    "num_gpu_blocks_override": 9,  # the null block, and two for each of four samples
    "disable_log_stats": False,
    "seed": 0,
}
PROMPT = "In the middle of the night"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
# untrained it predicts h1, which pushes hard
PUSH = {"esamp_beta": 4.0, "esamp_distiller": "swiglu", "esamp_gate": 0}
USUAL = {"esamp_beta": 0.25, "esamp_gate": 0}
Found = dict[str, Any]


def prepare() -> None:
    """Select V2 and Triton's interpreter; must come before vLLM is imported."""
    os.environ.update(
        TRITON_INTERPRET="1",
        VLLM_USE_V2_MODEL_RUNNER="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_KVCACHE_SPACE="1",
        HF_HUB_OFFLINE="1",
    )
    import torch
    from triton.backends import backends  # type: ignore[import-untyped]
    from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]

    driver = SimpleNamespace(
        is_active=lambda: True,
        get_current_target=lambda: GPUTarget("cpu", 0, 1),
        get_current_device=lambda: 0,
        get_active_torch_device=lambda: torch.device("cpu"),
    )
    backends["cpu"] = SimpleNamespace(driver=driver, compiler=None)


def greedy_tokens(bench: Any, **extra: Any) -> list[int]:
    """Greedy tokens of PROMPT alone, with request keys `extra`."""
    from ttscale.worker.promises import token_ids

    found = bench.generate([PROMPT], [{**GREEDY, "extra_args": extra or None}])
    return token_ids(found)[0][0]


def which_runner(bench: Any) -> Found:
    """The runner in use, and that its `sample` is the one that the plugin has wrapped."""
    from ttscale.worker.plugin import WRAPPED

    core = bench.llm.llm_engine.engine_core.engine_core
    runner = core.model_executor.driver_worker.worker.model_runner
    module, name, method, _ = WRAPPED[-1]
    base = next(c for c in type(runner).__mro__ if (c.__module__, c.__name__) == (module, name))
    return {"wrapped": hasattr(getattr(base, method), "_ttscale_wrapped")}


def beta_zero(bench: Any) -> Found:
    """Tokens without ESamp, with beta 0 and with a strong push; and the same sampled and seeded."""
    from ttscale.worker.promises import token_ids

    # without top-k and top-p: the interpreter cannot run the kernel that vLLM has for them
    seeded = {**GREEDY, "temperature": 1.0, "seed": 7, "n": 2}
    settings = [{**seeded, "extra_args": extra} for extra in (None, {"esamp_beta": 0.0})]
    return {
        "seeded": [token_ids(bench.generate([PROMPT], [one]))[0] for one in settings],
        "plain": greedy_tokens(bench),
        "zero": greedy_tokens(bench, esamp_beta=0.0),
        "pushed": greedy_tokens(bench, **PUSH),
    }


def counting(bench: Any) -> Found:
    """Four samples of eight tokens: rows and steps."""
    before = bench.total()
    asked = {"n": 4, "max_tokens": 8, "ignore_eos": True, "extra_args": USUAL}
    bench.generate([PROMPT], [asked])
    after = bench.total()
    return {
        "rows_mixed": after.rows_mixed - before.rows_mixed,
        "steps_trained": after.steps_trained - before.steps_trained,
        "fallbacks": after.fallback_count,
        "relative_error": after.relative_error,
    }


def one_batch(bench: Any) -> Found:
    """A plain greedy request among pushed ones, whose prompts and lengths differ."""
    from ttscale.worker.promises import token_ids

    pushed = {"n": 2, "max_tokens": 5, "ignore_eos": True, "extra_args": PUSH}
    later = {**pushed, "n": 1, "max_tokens": 12}
    prompts = [PROMPT, "Once", PROMPT, "A farmer"]
    found = token_ids(bench.generate(prompts, [pushed, later, dict(GREEDY), pushed]))
    return {"plain": greedy_tokens(bench), "among": found[2][0]}


def filtering(bench: Any) -> Found:
    """With top-k 1 only the reference's likeliest token survives, at any temperature and push."""
    from ttscale.worker.promises import token_ids

    asked = {**GREEDY, "temperature": 0.7, "top_k": 1, "n": 2, "extra_args": PUSH}
    return {
        "plain": greedy_tokens(bench),
        "filtered": token_ids(bench.generate([PROMPT], [asked]))[0],
    }


def heating(bench: Any) -> Found:
    """A nearly frozen first token, then hot ones."""
    from ttscale.worker.promises import token_ids

    asked = {**GREEDY, "temperature": 2.0, "n": 4, "extra_args": {"fire_temperature": 0.01}}
    return {
        "first": greedy_tokens(bench)[0],
        "samples": token_ids(bench.generate([PROMPT], [asked]))[0],
    }


class MaskKernel:
    """vLLM's kernel that applies a grammar's bitmask, which Triton's interpreter refuses to run."""

    def __getitem__(self, grid: Any) -> MaskKernel:
        return self

    def __call__(
        self, logits: Any, _: int, indices: Any, starts: Any, mask: Any, *sizes: int, **more: int
    ) -> None:
        import torch

        stride = more["MASK_STRIDE"]
        for place, index in enumerate(indices.tolist()):
            row = int(starts[index // stride]) + index % stride
            bits = (mask[place].unsqueeze(1) >> torch.arange(32)) & 1
            logits[row, bits.flatten()[: logits.shape[1]] == 0] = -torch.inf


def grammar(bench: Any) -> Found:
    """Structured output at the largest beta, filtered and not."""
    from vllm.sampling_params import StructuredOutputsParams
    from vllm.v1.worker.gpu import structured_outputs

    structured_outputs._apply_grammar_bitmask_kernel = MaskKernel()
    texts: list[str] = []
    for extra in ({}, {"top_p": 0.9}):
        choice = StructuredOutputsParams(choice=["red", "blue"])
        asked = {"n": 2, "max_tokens": 6, "structured_outputs": choice, "extra_args": PUSH}
        done = bench.generate(["I see"], [{**asked, **extra}])
        texts += [sample.text for sample in done[0].outputs]
    return {"texts": texts}


def crowding(bench: Any) -> Found:
    """More samples than the cache holds, which preempts some; two requests in one named group."""
    from ttscale.worker.promises import preemptions, token_ids

    before = preemptions(bench.llm)
    named = {**USUAL, "esamp_group": "crowd"}
    asked = {"n": 3, "max_tokens": 24, "ignore_eos": True, "extra_args": named}
    done = token_ids(bench.generate([PROMPT, PROMPT[::-1]], [asked, asked]))
    total = bench.total()
    return {
        "preemptions": preemptions(bench.llm) - before,
        "lengths": [len(sample) for samples in done for sample in samples],
        "fallbacks": total.fallback_count,
        "live": bench.runtime.groups.live,
        "bytes": bench.runtime.groups.bytes_held,
    }


def sharing(bench: Any) -> Found:
    """Distillers of three requests with two samples each, apart and in one named group."""
    from ttscale.worker.promises import stepped

    live: list[int] = []
    most = []
    for extra in ({}, {"esamp_group": "one"}):
        live.clear()
        asked = {"n": 2, "max_tokens": 6, "ignore_eos": True, "extra_args": {**USUAL, **extra}}
        with stepped(bench, lambda: live.append(bench.runtime.groups.live)):
            bench.generate(["ab", "ab", "cd"], [asked] * 3)
        most.append(max(live))
    return {"apart": most[0], "named": most[1]}


def promises(bench: Any) -> Found:
    """The promises of `ttscale verify` that ask for no second process and no long run."""
    from ttscale.worker import promises as kept

    checks = (
        kept.fused_logits_are_equation_7,
        kept.faults_fall_back,
    )
    found = [check(bench) for check in checks]
    return {one.promise: [one.passed, one.figures] for one in found}


def refusals(bench: Any) -> Found:
    """Why configurations of V2 cannot run ESamp."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    from ttscale.worker.plugin import why_not

    drafts = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}
    asked: dict[str, dict[str, Any]] = {
        "plain": {},
        "batch_sharded": {"tensor_parallel_size": 2, "enable_batch_sharded_sampling": True},
        "speculative": {"speculative_config": drafts},
    }
    arguments = {"model": bench.folder, "enforce_eager": True, "max_model_len": 96}
    return {
        name: why_not(AsyncEngineArgs(**{**arguments, **more}).create_engine_config())
        for name, more in asked.items()
    }


CHECKS = (
    which_runner,
    beta_zero,
    counting,
    one_batch,
    filtering,
    heating,
    grammar,
    crowding,
    sharing,
    promises,
    refusals,
)


def main() -> None:
    """Run every check on one engine."""
    prepare()
    from vllm import LLM

    from ttscale.worker.promises import Bench

    folder = sys.argv[1]
    bench = Bench(LLM(folder, **ENGINE), folder, "float32")
    found = {check.__name__: check(bench) for check in CHECKS}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
