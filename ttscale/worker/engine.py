"""`LocalEngine`: vLLM on this machine, with ESamp in its workers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

from ttscale import _sync, models
from ttscale.engines.protocol import CandidateHook, draw
from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.sampling import Sampler
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage, confidence
from ttscale.worker.callers import LOCAL, caller
from ttscale.worker.parallel import fetch
from ttscale.worker.platforms import platform_settings

log = logging.getLogger(__name__)

_QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is the caller's
    "VLLM_NO_USAGE_STATS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
}


class LocalEngine:
    """Draws samples from a model that vLLM runs on this machine, in a process of its own.

    The engine starts when this object is made (6 to 30 seconds) and stops with `close`, at the end
    of a `with` block, or with the process. Requests of several callers share its batches.

    Args:
        model: The embedded model's name, a model folder, or a hub name.
        dtype: `auto`, `bfloat16`, `float16` or `float32`; `auto` takes the model's own type,
            and float32 on a CPU without 16-bit arithmetic.
        max_model_len: Longest prompt and sample together, in tokens.
        max_num_seqs: Samples that run at the same time; more wait.
        eager: Whether to skip compilation, which starts faster and runs slower; None does so on a
            CPU only.
        progress: Gets a line for each slow step of the start.
        vllm_args: Further arguments of vLLM's `AsyncEngineArgs`.

    Raises:
        MissingDependency: vLLM is not installed.
        ModelNotFound: `model` leads to no model.
        EngineError: vLLM could not start.
    """

    continues_prefix = True

    def __init__(
        self,
        model: str = models.EMBEDDED,
        *,
        dtype: str = "auto",
        max_model_len: int = 2048,
        max_num_seqs: int = 64,
        eager: bool | None = None,
        progress: Callable[[str], None] = models.to_stderr,
        **vllm_args: Any,
    ) -> None:
        self._model = model
        self._closed = False
        folder = models.resolve(model, progress)
        set_environment(offline=model == models.EMBEDDED)
        progress(f"starting vLLM with {model}")
        settings = {
            "model": folder,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "disable_log_stats": True,
            **platform_settings(dtype, eager, max_model_len),
            **vllm_args,
        }
        self._llm = _sync.run(_start(settings))
        self._stop = weakref.finalize(self, _stop, self._llm)  # also runs at exit
        self._tokenizer = self._llm.get_tokenizer()

    @property
    def model(self) -> str:
        """Name of the model, as it was given."""
        return self._model

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the engine and its process; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._stop()

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw `n` samples of `prompt` as one request, whose samples share a distiller.

        Raises:
            InvalidInput: vLLM refused the request, for instance a prompt that is too long.
            EngineStopped: The engine is closed, or died before any sample came back.
        """
        sampler.check_count(n)
        return await _sync.on_background_loop(self._draw(prompt, n, sampler, on_candidate))

    def draw(self, prompt: Prompt | str, n: int, sampler: Sampler) -> Samples:
        """`adraw` for callers that are not asynchronous; a text is a question."""
        return draw(self, Prompt.of(prompt), n, sampler)

    def esamp_report(self) -> ESampReport:
        """What ESamp has done in this engine since it started; `bytes_held` is the present."""
        self._check_open()
        total = _sync.run(self._rpc([]))["total"]
        return ESampReport() if total is None else ESampReport.from_json(total)

    def esamp_seconds(self) -> dict[str, float]:
        """Time that ESamp has taken in the worker since it started, by phase.

        `capture`, `predict`, `mix` and `update`, in seconds of the host's clock: on a GPU the time
        to launch a phase, not to run it.
        """
        self._check_open()
        return dict(_sync.run(self._rpc([]))["seconds"])

    def live_distillers(self) -> int:
        """Number of distillers in use."""
        self._check_open()
        return int(_sync.run(self._rpc([]))["live"])

    def _check_open(self) -> None:
        if self._closed:
            raise EngineStopped("the engine has been closed; make a new LocalEngine")

    async def _draw(
        self, prompt: Prompt, n: int, sampler: Sampler, on_candidate: CandidateHook | None
    ) -> Samples:
        self._check_open()
        caller.set(LOCAL)  # in this task; a server in the same program tells callers apart
        asked, group = _own_group(sampler)
        before = await self._group_report(group) if asked is sampler else None
        done, tokens, trouble = await self._collect(prompt, n, asked, on_candidate)
        esamp = None
        if group is not None and not self._llm.errored:
            esamp = _since(before, await self._group_report(group))
        missing = sorted(set(range(n)) - done.keys())
        usage = Usage(tokens, sum(c.token_count for c in done.values()))
        return Samples(
            requested=n,
            candidates=tuple(done[index] for index in sorted(done)),
            failures=tuple(Failure(index, trouble or "no output came back") for index in missing),
            usage=usage,
            esamp=esamp,
        )

    async def _collect(
        self, prompt: Prompt, n: int, sampler: Sampler, on_candidate: CandidateHook | None
    ) -> tuple[dict[int, Candidate], int, str]:
        """Finished candidates by index, prompt tokens, and what went wrong, if anything did."""
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        ids = self._tokens(prompt)
        stream = self._llm.generate(
            tokens_input(ids), _sampling_params(sampler, n), f"ttscale-{uuid.uuid4().hex}"
        )
        done: dict[int, Candidate] = {}
        try:
            async for step in stream:
                for output in step.outputs:
                    if output.finish_reason is not None and output.index not in done:
                        done[output.index] = _candidate(output, sampler)
                        if on_candidate is not None:
                            on_candidate(done[output.index])
        except (VLLMClientError, ValueError) as error:
            raise InvalidInput(f"vLLM refused the request: {error}") from error
        except EngineDeadError as error:
            if not done:
                raise EngineStopped(f"vLLM's engine process died: {error}") from error
            return done, len(ids), f"vLLM's engine process died: {error}"
        return done, len(ids), ""

    def _tokens(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; conversations go through the model's chat template."""
        if prompt.text is not None:
            return list(self._tokenizer.encode(prompt.text + prompt.prefix))
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        text = self._tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer.encode(text + prompt.prefix, add_special_tokens=False))

    async def _group_report(self, group: str | None) -> ESampReport | None:
        if group is None:
            return None
        found = (await self._rpc([group]))["groups"][group]
        return ESampReport.from_json(found) if found is not None else None

    async def _rpc(self, groups: Sequence[str]) -> dict[str, Any]:
        """What the workers report of themselves and of these groups."""
        return await _sync.on_background_loop(fetch(self._llm, groups))


def _stop(llm: Any) -> None:
    """Shut vLLM's engine down without the errors that it logs of its own end."""

    async def stop() -> None:
        # it would report the engine's process as dead
        handler = getattr(llm, "output_handler", None)
        if handler is not None:
            handler.cancel()
            await asyncio.gather(handler, return_exceptions=True)
        llm.shutdown()
        # vLLM's object shuts down once more when it is collected, at exit with an error
        llm.shutdown = _nothing

    _sync.run(stop())


def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def set_environment(*, offline: bool) -> None:
    """Defaults of vLLM's environment variables; what the user has set stays."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if offline:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


async def _start(settings: dict[str, Any]) -> Any:
    """Make vLLM's engine, on the loop that it will be used from."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        with _main_module_hidden():
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**settings))
    except (RuntimeError, ValueError, TypeError) as error:
        raise EngineError(f"vLLM could not start: {error}") from error
    try:
        await llm.collective_rpc("esamp_report", args=([],))
    except Exception as error:
        llm.shutdown()
        raise EngineError(
            "vLLM did not load the ttscale plugin; if VLLM_PLUGINS is set, add 'ttscale' to it"
        ) from error
    return llm


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep spawned processes from running the caller's script again.

    `multiprocessing` re-imports `__main__` in each child, so a script without an
    `if __name__ == "__main__"` guard would start engines without end. vLLM's processes need
    nothing of the caller's script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _own_group(sampler: Sampler) -> tuple[Sampler, str | None]:
    """A sampler whose samples form a group that we can ask about, and that group's name.

    The sampler itself comes back when its group is not its own: shared, or named by the caller.
    """
    esamp = sampler.esamp
    if esamp is None:
        return sampler, None
    if esamp.scope == "shared":
        return sampler, "shared"
    if esamp.group is not None:
        return sampler, f"group:{esamp.group}"
    own = replace(esamp, group=f"draw-{uuid.uuid4().hex}")
    return replace(sampler, esamp=own), f"group:{own.group}"


def _sampling_params(sampler: Sampler, n: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    form = sampler.json_schema
    extra: dict[str, Any] = dict(sampler.esamp.to_keys()) if sampler.esamp is not None else {}
    if sampler.fire_temperature is not None:
        extra["fire_temperature"] = sampler.fire_temperature
    return SamplingParams(
        n=n,
        temperature=sampler.temperature,
        top_p=sampler.top_p,
        top_k=sampler.top_k,
        min_p=sampler.min_p,
        max_tokens=sampler.max_tokens,
        min_tokens=sampler.min_tokens,
        stop=list(sampler.stop),
        include_stop_str_in_output=sampler.include_stop,
        seed=sampler.seed,
        logprobs=sampler.likeliest,
        extra_args=extra or None,
        structured_outputs=None if form is None else StructuredOutputsParams(json=form),
        output_kind=RequestOutputKind.CUMULATIVE,
        stream_interval=sampler.max_tokens,  # only a sample's first and last output travel
    )


def _candidate(output: Any, sampler: Sampler) -> Candidate:
    top: dict[str, float] = {}
    if sampler.top_logprobs and output.logprobs:
        ranked = sorted(output.logprobs[0].values(), key=lambda entry: -float(entry.logprob))
        for entry in ranked:
            top.setdefault(entry.decoded_token, float(entry.logprob))
    chosen, confidences = _told(output, sampler.token_logprobs)
    return Candidate(
        index=output.index,
        text=output.text,
        token_count=len(output.token_ids),
        finish_reason=output.finish_reason,
        logprob=output.cumulative_logprob,
        top_logprobs=top,
        token_logprobs=chosen,
        confidences=confidences,
    )


def _told(output: Any, count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log-probability of each token, and confidence over the `count` likeliest in its place."""
    if not count or not output.logprobs:
        return (), ()
    places = [{t: float(entry.logprob) for t, entry in row.items()} for row in output.logprobs]
    chosen = (row[token] for row, token in zip(places, output.token_ids, strict=True))
    return tuple(chosen), tuple(confidence(row.values(), count) for row in places)


def _since(before: ESampReport | None, now: ESampReport | None) -> ESampReport | None:
    """What happened between two reports of a group that others use too."""
    if before is None or now is None:
        return now
    causes = {c: k - before.fallbacks.get(c, 0) for c, k in now.fallbacks.items()}
    return replace(
        now,
        rows_mixed=now.rows_mixed - before.rows_mixed,
        steps_trained=now.steps_trained - before.steps_trained,
        fallbacks={c: k for c, k in causes.items() if k},
    )
