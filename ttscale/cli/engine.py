"""How the command line gets its engine."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ttscale import models
from ttscale.engines import Engine
from ttscale.engines.batch import BatchEngine
from ttscale.errors import EngineError, ModelNotFound

if TYPE_CHECKING:
    from ttscale.engines import ServerEngine

API_KEY = "TTSCALE_API_KEY"
"""Environment variable with the key of the servers; a flag would show in the list of processes."""

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


def factory_of(args: argparse.Namespace, otherwise: EngineFactory) -> EngineFactory:
    """What makes the command's engine: servers where `--base-url` names some, else `otherwise`."""
    urls: Sequence[str] = args.base_url or ()
    if not urls:
        return otherwise
    return lambda model: _servers(urls, model)


def first_model(urls: Sequence[str]) -> str:
    """Name of the first model that the servers name.

    Raises:
        ModelNotFound: None of them answers.
        InvalidInput: None of them names one.
    """
    try:
        with _servers(urls) as engine:
            return engine.model
    except EngineError as error:
        raise ModelNotFound(str(error)) from error


def _servers(urls: Sequence[str], model: str | None = None) -> ServerEngine:
    """The engine of these servers, with the key of the environment."""
    from ttscale.engines import ServerEngine

    return ServerEngine(urls, model, api_key=os.environ.get(API_KEY) or None)


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
