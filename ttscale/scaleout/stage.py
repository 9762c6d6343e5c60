"""What runs in each of Ray's workers: a vLLM engine with the plugin, and one request a row."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import ray
from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMEngineStageUDF

from ttscale import models
from ttscale.engines.batch import Answered, Ask
from ttscale.errors import EngineError, TTScaleError
from ttscale.scaleout import rows
from ttscale.types import Candidate, Samples
from ttscale.worker.draws import check_plugin, draw_from
from ttscale.worker.engine import set_environment
from ttscale.worker.platforms import platform_settings

NUMBER, ASK = "number", "ask"
"""The columns of a row as it comes in: its place in the batch, and an `Ask` as JSON."""

ANSWERED, WORKER, REFUSAL = "answered", "worker", "refusal"
"""The columns of a row as it goes out: an `Answered` as JSON; who drew it; why nobody can draw."""


class SampleStage(vLLMEngineStageUDF):  # type: ignore[misc]
    """Ray's stage, that gives every sample of a row as ttscale's engines do.

    The engine's settings are completed here, in the worker, as `LocalEngine` does on its machine.
    """

    def __init__(self, *, model: str, engine_kwargs: dict[str, Any], **settings: Any) -> None:
        set_environment(offline=model == models.EMBEDDED)
        platform = platform_settings("auto", None, engine_kwargs["max_model_len"])
        settings["expected_input_keys"] = [NUMBER, ASK]
        super().__init__(
            model=models.resolve(model), engine_kwargs={**platform, **engine_kwargs}, **settings
        )
        self._tokenizer = self.llm.engine.get_tokenizer()
        self._name = f"{ray.util.get_node_ip_address()}:{os.getpid()}"

    async def udf(self, batch: list[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """Answer each row of a batch, in the order in which they end."""
        for answer in asyncio.as_completed([self._answer(row) for row in batch]):
            yield await answer

    async def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        engine = self.llm.engine
        if engine.errored:
            # Ray starts this worker again and gives it the row; requests that were running when
            # the engine died are told of as failed, so that none can kill engines without end
            os._exit(1)
        refusal = ""
        try:
            await check_plugin(engine)
        except EngineError as error:
            refusal = str(error)
        answered = "" if refusal else rows.dump(await self._draw(row[NUMBER], rows.ask(row[ASK])))
        place = {self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN]}
        return {**place, ANSWERED: answered, WORKER: self._name, REFUSAL: refusal}

    async def _draw(self, number: int, ask: Ask) -> Answered:
        started = time.monotonic()
        ends: dict[int, float] = {}

        def end(candidate: Candidate) -> None:
            ends[candidate.index] = time.monotonic() - started

        error = ""
        try:
            samples = await draw_from(
                self.llm.engine, self._tokenizer, ask.prompt, ask.n, ask.sampler, end
            )
        except TTScaleError as found:
            samples, error = Samples(ask.n, ()), str(found)
        seconds = time.monotonic() - started
        finished = tuple(ends[candidate.index] for candidate in samples.candidates)
        return Answered(number, samples, seconds, finished, error)
