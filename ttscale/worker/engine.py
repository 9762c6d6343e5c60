"""`LocalEngine`: vLLM on this machine, with ESamp in its workers."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ttscale import _sync, models
from ttscale.engines.protocol import CandidateHook, draw
from ttscale.errors import EngineError, EngineStopped
from ttscale.sampling import Sampler
from ttscale.types import ESampReport, Prompt, Samples
from ttscale.worker.draws import check_plugin, draw_from
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
        max_num_seqs: int = 256,
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
        self._check_open()
        work = draw_from(self._llm, self._tokenizer, prompt, n, sampler, on_candidate)
        return await _sync.on_background_loop(work)

    def draw(self, prompt: Prompt | str, n: int, sampler: Sampler) -> Samples:
        """`adraw` for callers that are not asynchronous; a text is a question."""
        return draw(self, Prompt.of(prompt), n, sampler)

    def esamp_report(self) -> ESampReport:
        """What ESamp has done in this engine since it started; `bytes_held` is the present."""
        self._check_open()
        total = _sync.run(self._rpc())["total"]
        return ESampReport() if total is None else ESampReport.from_json(total)

    def esamp_seconds(self) -> dict[str, float]:
        """Time that ESamp has taken in the worker since it started, by phase.

        `capture`, `predict`, `mix` and `update`, in seconds of the host's clock: on a GPU the time
        to launch a phase, not to run it.
        """
        self._check_open()
        return dict(_sync.run(self._rpc())["seconds"])

    def live_distillers(self) -> int:
        """Number of distillers in use."""
        self._check_open()
        return int(_sync.run(self._rpc())["live"])

    def _check_open(self) -> None:
        if self._closed:
            raise EngineStopped("the engine has been closed; make a new LocalEngine")

    async def _rpc(self) -> dict[str, Any]:
        """What the workers report of themselves."""
        return await _sync.on_background_loop(fetch(self._llm, []))


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
        await check_plugin(llm)
    except EngineError:
        llm.shutdown()
        raise
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
