"""The engine of models that name neither an engine nor a server: the embedded model's."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from ttscale import models
from ttscale.engines import CandidateHook
from ttscale.errors import EngineStopped
from ttscale.sampling import Sampler
from ttscale.types import Prompt, Samples

if TYPE_CHECKING:
    from ttscale.worker.engine import LocalEngine

log = logging.getLogger(__name__)


class EmbeddedEngine:
    """The embedded model in this process, started when it is first asked.

    When it has died, the next draw starts it anew.
    """

    continues_prefix = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: LocalEngine | None = None

    @property
    def model(self) -> str:
        """Name of the embedded model."""
        return models.EMBEDDED

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw with the embedded model; see `Engine.adraw`.

        Raises:
            MissingDependency: vLLM is not installed.
            EngineError: vLLM could not start.
        """
        engine = await asyncio.to_thread(self._started)
        try:
            return await engine.adraw(prompt, n, sampler, on_candidate=on_candidate)
        except EngineStopped:
            self._forget(engine)
            raise

    def _started(self) -> LocalEngine:
        with self._lock:
            if self._running is None:
                from ttscale.worker.engine import LocalEngine

                log.info("no model and no server are named: starting %s here", self.model)
                self._running = LocalEngine()
            return self._running

    def _forget(self, engine: LocalEngine) -> None:
        with self._lock:
            if self._running is engine:
                self._running = None


EMBEDDED = EmbeddedEngine()
"""The one that all models of this process share."""
