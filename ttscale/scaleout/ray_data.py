"""`RayData`: the engine that draws a batch of requests on the workers of a Ray cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ttscale import _check, models
from ttscale.engines.batch import Answered, Ask
from ttscale.errors import EngineError, InvalidInput, MissingDependency
from ttscale.scaleout import rows
from ttscale.types import ESampReport
from ttscale.worker.engine import set_environment

OBJECT_STORE_BYTES = 200 * 2**20  # of a local Ray: rows are small texts
START_SECONDS = 3600  # for the engines of all workers to start
_STAGE = "vLLMEngineStage"  # Ray's name of the processor's stage that holds the engine


@dataclass(frozen=True, slots=True)
class Worker:
    """What one of Ray's workers has done.

    Attributes:
        name: Address of its machine, and its process.
        requests: Requests that have ended there.
        samples: Samples that it drew.
        tokens: Tokens of these samples.
        asked_esamp: How many of its requests asked for ESamp.
        esamp: What ESamp did for them.
    """

    name: str
    requests: int = 0
    samples: int = 0
    tokens: int = 0
    asked_esamp: int = 0
    esamp: ESampReport = field(default_factory=ESampReport)

    def after(self, ask: Ask, answered: Answered) -> Worker:
        """The worker when it has answered one more request."""
        return Worker(
            self.name,
            self.requests + 1,
            self.samples + len(answered.samples.candidates),
            self.tokens + answered.samples.usage.completion_tokens,
            self.asked_esamp + (ask.sampler.esamp is not None),
            self.esamp + (answered.samples.esamp or ESampReport()),
        )

    @property
    def idle(self) -> bool:
        """Whether it was asked for ESamp, could have trained a distiller, and did not."""
        decoded = self.tokens > self.samples  # a first token comes before any distiller
        return bool(self.asked_esamp) and decoded and not self.esamp.steps_trained

    def line(self) -> str:
        """The same in one line."""
        done = f"Ray worker {self.name}: {self.requests} requests, {self.samples} samples"
        if not self.asked_esamp:
            return done
        return (
            f"{done}; ESamp in {self.asked_esamp} requests: {self.esamp.rows_mixed} rows mixed, "
            f"{self.esamp.steps_trained} steps trained, {self.esamp.fallback_count} fallbacks"
        )


class RayData:
    """Draws from one model in several vLLM engines, by Ray Data's vLLM processor.

    Without an address a Ray of its own is started on this machine, and stopped by `close` or at the
    end of a `with` block. On a cluster every machine needs ttscale with the extra `ray`.

    Args:
        model: The embedded model's name, a model folder (the same on every machine), or a hub name.
        workers: Number of vLLM engines.
        address: Address of a running Ray cluster, or `auto`; None starts a local Ray.
        concurrency: Requests in work at one time in each engine.
        max_model_len: Longest prompt and sample together, in tokens.
        max_num_seqs: Samples that run at the same time in each engine; more wait.
        progress: Gets a line for each slow step.
        vllm_args: Further arguments of vLLM's `AsyncEngineArgs`.

    Raises:
        InvalidInput: A number is out of range, or the cluster is too small.
        MissingDependency: Ray or vLLM is not installed.
        ModelNotFound: `model` leads to no model.
        EngineError: Ray could not be started or reached.
    """

    def __init__(
        self,
        model: str = models.EMBEDDED,
        *,
        workers: int = 2,
        address: str | None = None,
        concurrency: int = 8,
        max_model_len: int = 2048,
        max_num_seqs: int = 256,
        progress: Callable[[str], None] = models.to_stderr,
        **vllm_args: Any,
    ) -> None:
        _check.integer("workers", workers, 1)
        self._model = model
        self._count = workers
        self._concurrency = _check.integer("concurrency", concurrency, 1)
        self._folder = models.resolve(model, progress)
        # each machine finds its own folder by the name; a worker's current folder is another one
        self._name = str(Path(model).resolve()) if Path(model).is_dir() else model
        self._settings = {
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "disable_log_stats": True,
            **vllm_args,
        }
        self._progress = progress
        self._workers: dict[str, Worker] = {}
        set_environment(offline=model == models.EMBEDDED)
        self._ray, self._started = _connect(address, workers, progress)
        try:
            self._bundle = self._resources()
        except InvalidInput:
            self.close()
            raise

    @property
    def model(self) -> str:
        """Name of the model, as it was given."""
        return self._model

    @property
    def workers(self) -> tuple[Worker, ...]:
        """What each worker has done so far."""
        return tuple(self._workers[name] for name in sorted(self._workers))

    def __enter__(self) -> RayData:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; a Ray that was started here stops. A second call does nothing."""
        if self._started:
            self._started = False
            self._ray.shutdown()

    def draw_all(self, asked: Sequence[Ask]) -> Iterator[Answered]:
        """Draw for every request, each told of as soon as it has ended.

        Raises:
            EngineError: A worker has no plugin, or Ray could not go on.
        """
        from ttscale.scaleout.stage import ASK, NUMBER

        items = [{NUMBER: number, ASK: rows.dump(ask)} for number, ask in enumerate(asked)]
        # one row a block: a block's rows come back together
        dataset = self._ray.data.from_items(items, override_num_blocks=len(items))
        context = dataset.context
        context.enable_progress_bars = False
        # else the first to start takes all that it can
        context.wait_for_min_actors_s = START_SECONDS
        context.execution_no_progress_timeout_s = -1  # a long sample may take hours
        self._progress(f"starting vLLM with {self._model} in {self._count} Ray workers")
        try:
            for row in self._processor()(dataset).iter_rows():
                yield self._told(row, asked)
        except self._ray.exceptions.RayError as error:
            raise EngineError(f"Ray stopped: {_last_line(error)}") from error
        for worker in self.workers:
            self._progress(worker.line())
        self._check_esamp()

    def _told(self, row: dict[str, Any], asked: Sequence[Ask]) -> Answered:
        """The answer of one row, entered with its worker."""
        from ttscale.scaleout.stage import ANSWERED, REFUSAL, WORKER

        name = row[WORKER]
        if row[REFUSAL]:
            raise EngineError(f"Ray worker {name} cannot draw: {row[REFUSAL]}")
        answered = rows.answered(row[ANSWERED])
        before = self._workers.get(name, Worker(name))
        self._workers[name] = before.after(asked[answered.number], answered)
        return answered

    def _check_esamp(self) -> None:
        """Raise EngineError when ESamp was asked of a worker, and trained nothing there."""
        for worker in self.workers:
            if worker.idle:
                raise EngineError(
                    f"ESamp was asked of Ray worker {worker.name} in {worker.asked_esamp} requests "
                    "and trained nothing there; the samples are plain ones. See the failures in "
                    "the pool, and run ttscale verify on that machine"
                )

    def _processor(self) -> Any:
        """Ray Data's vLLM processor, with our stage in the place of Ray's."""
        from ray.data.llm import build_processor, vLLMEngineProcessorConfig

        from ttscale.scaleout.stage import SampleStage

        config = vLLMEngineProcessorConfig(
            model_source=self._folder,
            engine_kwargs=dict(self._settings),
            concurrency=(self._count, self._count),
            batch_size=1,
            max_concurrent_batches=self._concurrency,
            max_tasks_in_flight_per_actor=self._concurrency,
            placement_group_config=self._bundle,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
            log_engine_metrics=False,
        )
        light = {"num_cpus": 0, "concurrency": 1}
        processor = build_processor(
            config, preprocess_map_kwargs=light, postprocess_map_kwargs=light
        )
        stage = processor.get_stage_by_name(_STAGE)
        settings = {**stage.fn_constructor_kwargs, "model": self._name}
        # a copy, since an assignment would have Ray work out the engine's resources again, wrongly
        processor.stages[_STAGE] = stage.model_copy(
            update={"fn": SampleStage, "fn_constructor_kwargs": settings}
        )
        return processor

    def _resources(self) -> dict[str, Any] | None:
        """What an engine takes of the cluster: Ray's default, a GPU, or a CPU where none is.

        Raises:
            InvalidInput: The cluster has less.
        """
        held = self._ray.cluster_resources()
        kind = "GPU" if held.get("GPU", 0) else "CPU"
        ranks = int(self._settings.get("tensor_parallel_size", 1))
        if held.get(kind, 0) < self._count * ranks:
            raise InvalidInput(
                f"{self._count} Ray workers need {self._count * ranks} {kind}s, the cluster has "
                f"{held.get(kind, 0):g}; ask for fewer workers"
            )
        return None if kind == "GPU" else {"bundle_per_worker": {"CPU": 1}}


def check_installed() -> None:
    """Raise MissingDependency unless Ray Data is installed; loads it."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            "--ray needs Ray Data; run pip install 'ttscale[ray]', not ray[llm], which brings a "
            "vLLM of its own"
        ) from error


def _connect(
    address: str | None, workers: int, progress: Callable[[str], None]
) -> tuple[Any, bool]:
    """The module `ray`, connected, and whether it was us who did so."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    check_installed()
    import ray

    for name in ("ray", "ray.data", "ray.llm"):
        logging.getLogger(name).setLevel(logging.ERROR)

    if ray.is_initialized():
        return ray, False
    settings: dict[str, Any] = {"address": address}
    if address is None:
        progress("starting Ray on this machine")
        # Ray's own default, 15, starves engines wherever anything else is at work
        os.environ.setdefault("RAY_worker_niceness", "0")
        settings = {
            "address": "local",
            "num_cpus": max(os.cpu_count() or 1, workers + 1),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        ray.init(**settings, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"reach Ray at {address!r}" if address else "start Ray on this machine"
        raise EngineError(f"cannot {where}: {_last_line(error)}") from error
    return ray, True


def _last_line(error: Exception) -> str:
    """The last line of an error's text, which with Ray's is the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
