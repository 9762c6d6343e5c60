"""The promises that `ttscale verify` puts to the test on the installed vLLM, one function each.

All but the comparison with the plugin off run on one engine inside this process, where a check can
look at the worker. Nothing in the plugin knows of these checks.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ttscale.esamp.settings import LATENT_DISTILLERS
from ttscale.types import ESampReport
from ttscale.worker.runtime import Runtime, runtime_of

PROMPTS = (
    "The best way to learn mathematics is",
    "In the middle of the night the old clock",
    "A farmer has 12 sheep and buys 5 more, so",
)
BETA = {"esamp_beta": 0.25}
CROWD = 48  # requests of 8 samples each
# of the logits' spread: logits, and the mixed states before them, are rounded to 8 bits in bfloat16
# (0.035 was seen) and 11 in float16; a beta that is a fifth off gives 0.3
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 8e-3}
# few blocks of cache, so that a crowd of samples gets preempted
ENGINE: dict[str, Any] = {
    "enforce_eager": True,
    "max_model_len": 512,
    "max_num_seqs": 64,
    "max_num_batched_tokens": 512,
    "block_size": 32,
    "num_gpu_blocks_override": 70,
    "enable_prefix_caching": True,
    "disable_log_stats": False,
    "seed": 0,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: whether the promise holds, and the figures behind that."""

    promise: str
    passed: bool
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """An engine in this process, its plugin's runtime, and its model folder."""

    llm: Any
    folder: str
    dtype: str

    @property
    def runtime(self) -> Runtime:
        """The plugin's state in this engine's worker."""
        runtime = runtime_of(self.llm.llm_engine.vllm_config)
        if runtime is None:
            raise RuntimeError("the plugin has not captured this engine's model")
        return runtime

    def generate(self, prompts: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[Any]:
        """Run one batch; each prompt has its own SamplingParams settings."""
        return generate(self.llm, prompts, settings)

    def total(self) -> ESampReport:
        """What ESamp has done so far, after requests that have ended were taken out."""
        self.settle()
        return self.runtime.groups.total()

    def settle(self) -> None:
        """Run one plain token, so that the worker hears of the requests that have ended."""
        self.generate(["."], [{"temperature": 0, "max_tokens": 1}])


def generate(llm: Any, prompts: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[Any]:
    """`LLM.generate` without its progress bar."""
    from vllm import SamplingParams

    params = [SamplingParams(**one) for one in settings]
    return list(llm.generate(list(prompts), params, use_tqdm=False))


def token_ids(outputs: Sequence[Any]) -> list[list[list[int]]]:
    """Token ids by prompt and sample."""
    return [[list(sample.token_ids) for sample in one.outputs] for one in outputs]


def fused_logits_are_equation_7(bench: Bench) -> Finding:
    """(a) The engine's logits equal `(1 + b) W hL - b W f(h1)`, recomputed in float64."""
    worst = {}
    weight = bench.llm.apply_model(lambda model: model.lm_head.weight.detach().double().cpu())[0]
    for distiller in LATENT_DISTILLERS:
        steps: list[dict[str, Tensor]] = []
        with recorded(bench, steps):
            asked = {**BETA, "esamp_distiller": distiller, "esamp_gate": 0, "esamp_hold_eos": 0}
            bench.generate(PROMPTS[:1], [_sampled(n=4, max_tokens=12, extra_args=asked)])
        worst[distiller] = max(_distance(step, weight) for step in steps)
    dtype = next(iter(bench.llm.apply_model(lambda model: model.lm_head.weight.dtype)))
    bound = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
    passed = all(value <= bound for value in worst.values())
    return Finding("fused logits are equation 7", passed, {"largest_error": worst, "bound": bound})


def _distance(step: dict[str, Tensor], weight: Tensor) -> float:
    """Largest difference from Eq. 7, relative to the spread of the logits."""
    beta = step["beta"].double().unsqueeze(1)
    reference = step["hL"].double() @ weight.T
    distilled = step["predicted"].double() @ weight.T
    expected = (1 + beta) * reference - beta * distilled
    found = step["logits"].double()
    size = found.shape[1]
    return float((found - expected[:, :size]).abs().max() / expected.std())


@contextmanager
def recorded(bench: Bench, steps: list[dict[str, Tensor]]) -> Iterator[None]:
    """Record the states and logits of every mixed step."""
    groups = bench.runtime.groups
    model = bench.llm.apply_model(lambda model: model)[0]
    mix, compute_logits = groups.mix, model.compute_logits
    latest: list[tuple[Tensor | slice, dict[str, Tensor]]] = []

    def recording_mix(plan: Any, h1: Tensor, hL: Tensor) -> Any:
        mixed, pending = mix(plan, h1, hL)
        for left in pending:
            batch, predicted = left.rows.batch, left.rows.unpad(left.made.hL)
            step = {"hL": hL[batch], "predicted": predicted, "beta": left.strength}
            latest.append((batch, step))
        return mixed, pending

    def recording_logits(states: Tensor) -> Tensor:
        logits: Tensor = compute_logits(states)
        for batch, step in latest:
            steps.append({**step, "logits": logits[batch].clone()})
        latest.clear()
        return logits

    groups.mix, model.compute_logits = recording_mix, recording_logits  # type: ignore[method-assign]
    try:
        yield
    finally:
        groups.mix, model.compute_logits = mix, compute_logits  # type: ignore[method-assign]


def errors_fall(bench: Bench) -> Finding:
    """(b) The relative error falls during a run, for both distillers."""
    figures = {}
    for distiller in LATENT_DISTILLERS:
        steps: list[dict[str, Tensor]] = []
        with recorded(bench, steps):
            asked = {**BETA, "esamp_distiller": distiller}
            bench.generate(PROMPTS[:1], [_sampled(n=16, max_tokens=48, extra_args=asked)])
        errors = [
            float((s["hL"].float() - s["predicted"]).norm() / s["hL"].float().norm()) for s in steps
        ]
        figures[distiller] = {
            "first": errors[0],
            "last": sum(errors[-8:]) / 8,
            "steps": len(errors),
        }
    passed = all(f["last"] < 0.9 * f["first"] for f in figures.values())
    return Finding("the relative error falls", passed, figures)


def plain_requests_are_untouched(bench: Bench) -> Finding:
    """(c) A greedy plain request among ESamp ones yields what it yields with the plugin off."""
    greedy = {"temperature": 0, "max_tokens": 24, "ignore_eos": True}
    mates = _sampled(n=6, max_tokens=24, ignore_eos=True, extra_args=dict(BETA))
    quiet = {**mates, "extra_args": {"esamp_beta": 0.0}}
    prompts = [PROMPTS[2], *PROMPTS[:2]]
    among = token_ids(bench.generate(prompts, [greedy, mates, mates]))[0]
    beside = token_ids(bench.generate(prompts, [greedy, quiet, quiet]))[0]
    plain = {key: value for key, value in mates.items() if key != "extra_args"}
    off = run_with_plugin_off(bench, prompts, [greedy, plain, plain])[0]
    figures = {
        "tokens": len(off[0]),
        "equal_to_beta_0": among == beside,
        "equal_to_off": among == off,
    }
    return Finding("plain requests are untouched", among == beside == off, figures)


def run_with_plugin_off(
    bench: Bench, prompts: Sequence[str], settings: Sequence[dict[str, Any]]
) -> list[list[list[int]]]:
    """The tokens of one batch in a process of its own, with TTSCALE_DISABLE=1."""
    job = {"model": bench.folder, "dtype": bench.dtype, "prompts": prompts, "settings": settings}
    done = subprocess.run(
        [sys.executable, "-m", "ttscale.worker.plain_run"],
        input=json.dumps(job),
        env={**os.environ, "TTSCALE_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the engine without the plugin failed: {done.stderr[-2000:]}")
    found: list[list[list[int]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def beta_zero_is_plain(bench: Bench) -> Finding:
    """(d) With beta 0, seeded samples are token for token the plain ones."""
    equal = {}
    for name, extra in (("unfiltered", {}), ("top_p", {"top_p": 0.9}), ("top_k", {"top_k": 20})):
        settings = _sampled(n=4, max_tokens=24, seed=7, ignore_eos=True, **extra)
        plain = token_ids(bench.generate(PROMPTS[:1], [settings]))
        zero = {**settings, "extra_args": {"esamp_beta": 0.0}}
        equal[name] = token_ids(bench.generate(PROMPTS[:1], [zero])) == plain
    return Finding("beta 0 is plain sampling", all(equal.values()), equal)


def children_share_a_distiller(bench: Bench) -> Finding:
    """(e) The samples of one request share a distiller; two requests have two."""
    bench.settle()
    live: list[int] = []
    with stepped(bench, lambda: live.append(bench.runtime.groups.live)):
        asked = _sampled(n=4, max_tokens=8, extra_args=dict(BETA))
        bench.generate([PROMPTS[0], PROMPTS[0], PROMPTS[1]], [asked] * 3)
        three = max(live)
        live.clear()
        named = {**BETA, "esamp_group": "verify"}
        bench.generate(PROMPTS, [_sampled(n=2, max_tokens=8, extra_args=named)] * 3)
        one = max(live)
    figures = {"distillers_of_3_requests": three, "distillers_of_3_with_one_group": one}
    return Finding("one distiller a request", (three, one) == (3, 1), figures)


@contextmanager
def stepped(bench: Bench, hook: Callable[[], None]) -> Iterator[None]:
    """Call `hook` after every step of the engine."""
    engine = bench.llm.llm_engine
    step = engine.step

    def hooked(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        hook()
        return result

    engine.step = hooked
    try:
        yield
    finally:
        engine.step = step


def crowding_loses_nothing(bench: Bench) -> Finding:
    """(f) Preemption, prefix caching, aborts, mixed lengths: all finish, all distillers freed."""
    before, preempted = bench.total(), preemptions(bench.llm)
    aborted = [f"crowd-{place}" for place in range(0, CROWD, 12)]
    finished = _run_crowd(bench.llm.llm_engine, aborted)
    names = {f"crowd-{place}": _crowd_length(place) for place in range(CROWD)}
    complete = [name for name, length in names.items() if finished.get(name) == 8 * [length]]
    after = bench.total()
    figures = {
        "requests": CROWD,
        "aborted": len(aborted),
        "complete": len(complete),
        "preemptions": preemptions(bench.llm) - preempted,
        "rows_mixed": after.rows_mixed - before.rows_mixed,
        "steps_trained": after.steps_trained - before.steps_trained,
        "fallbacks": after.fallback_count - before.fallback_count,
        "distillers_left": bench.runtime.groups.live,
        "bytes_left": bench.runtime.groups.bytes_held,
    }
    passed = (
        set(complete) == names.keys() - set(aborted)
        and figures["preemptions"] > 0
        and figures["rows_mixed"] > 0
        and (figures["fallbacks"], figures["distillers_left"], figures["bytes_left"]) == (0, 0, 0)
    )
    return Finding("crowding loses nothing", passed, figures)


def _crowd_length(place: int) -> int:
    """Tokens of each sample of a request of the crowd."""
    return 4 + place % 29


def _run_crowd(engine: Any, aborted: Sequence[str]) -> dict[str, list[int]]:
    """Run CROWD requests of 8 samples, abort some at the third step; lengths of what finished."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    for place in range(CROWD):
        settings = _sampled(n=8, max_tokens=_crowd_length(place), ignore_eos=True)
        settings |= {"extra_args": dict(BETA), "output_kind": RequestOutputKind.FINAL_ONLY}
        if place % 3 == 0:
            settings |= {"top_p": 0.9, "temperature": 0.8}
        prompt = f"{PROMPTS[place % 3]} {'and so on ' * (place % 7)}{place}"
        engine.add_request(f"crowd-{place}", prompt, SamplingParams(**settings))
    finished, steps = {}, 0
    while engine.has_unfinished_requests():
        for output in engine.step():
            if output.finished:
                finished[output.request_id] = [len(s.token_ids) for s in output.outputs]
        steps += 1
        if steps == 3:
            engine.abort_request(list(aborted))
    return finished


def preemptions(llm: Any) -> int:
    """Preemptions so far, from vLLM's own counter."""
    named = [m for m in llm.get_metrics() if m.name == "vllm:num_preemptions"]
    return int(sum(metric.value for metric in named))


def faults_fall_back(bench: Bench) -> Finding:
    """(g) An exception and a value that is not finite fall back, are counted, fail no request."""
    before = bench.total()
    groups = bench.runtime.groups
    mix = groups.mix
    lengths = {}
    for cause, broken in (("exception", _raise), ("non_finite", lambda *a: mix(*_poisoned(*a)))):
        calls = 0

        def faulty(*args: Any, broken: Any = broken) -> Any:
            nonlocal calls
            calls += 1
            return broken(*args) if calls == 3 else mix(*args)

        groups.mix = faulty  # type: ignore[method-assign, assignment]
        runtime_log = logging.getLogger("ttscale.worker.runtime")
        runtime_log.disabled = True  # it would report the fault that we make
        try:
            asked = _sampled(n=4, max_tokens=10, ignore_eos=True, extra_args=dict(BETA))
            outputs = bench.generate(PROMPTS[:1], [asked])
        finally:
            groups.mix = mix  # type: ignore[method-assign]
            runtime_log.disabled = False
        lengths[cause] = [len(sample.token_ids) for sample in outputs[0].outputs]
    after = bench.total()
    counted = {
        cause: after.fallbacks.get(cause, 0) - before.fallbacks.get(cause, 0) for cause in lengths
    }
    passed = all(found == [10] * 4 for found in lengths.values()) and counted == {
        "exception": 1,
        "non_finite": 1,
    }
    return Finding("faults fall back", passed, {"fallbacks": counted, "sample_lengths": lengths})


def _raise(*_args: Any) -> Any:
    raise RuntimeError("a fault that `ttscale verify` has made")


def _poisoned(plan: Any, h1: Tensor, hL: Tensor) -> tuple[Any, Tensor, Tensor]:
    """The same step with a first hidden state that is not a number."""
    sick = h1.clone()
    sick[0] = torch.nan
    return plan, sick, hL


def _sampled(**settings: Any) -> dict[str, Any]:
    return {"temperature": 1.0, **settings}


PROMISES: tuple[Callable[[Bench], Finding], ...] = (
    fused_logits_are_equation_7,
    errors_fall,
    plain_requests_are_untouched,
    beta_zero_is_plain,
    children_share_a_distiller,
    crowding_loses_nothing,
    faults_fall_back,
)
