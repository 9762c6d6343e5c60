"""How the command line gets its engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ttscale import models
from ttscale.engines import Engine
from ttscale.engines.batch import BatchEngine

EngineFactory = Callable[..., AbstractContextManager[Engine]]
"""Makes the engine of a model name, with settings of `LocalEngine` by name."""


def local_engine(model: str, **settings: Any) -> AbstractContextManager[Engine]:
    """vLLM in this process, with the model of that name or folder.

    Args:
        model: Name or folder.
        settings: Those of `LocalEngine`.

    Raises:
        ModelNotFound: The name leads to no model; vLLM has not been loaded then.
        MissingDependency: vLLM is not installed.
        EngineError: vLLM could not start.
    """
    models.resolve(model)  # a wrong name is refused at once, before anything heavy is loaded
    from ttscale.worker.engine import LocalEngine

    return LocalEngine(model, **settings)


def ray_engine(
    model: str, workers: int, address: str | None, concurrency: int
) -> AbstractContextManager[BatchEngine]:
    """vLLM in Ray's workers, with the model of that name or folder.

    Raises:
        InvalidInput: The cluster is too small.
        ModelNotFound: The name leads to no model; Ray has not been started then.
        EngineError: Ray could not be started or reached.
    """
    models.resolve(model)
    from ttscale.scaleout.ray_data import RayData

    return RayData(model, workers=workers, address=address, concurrency=concurrency)
