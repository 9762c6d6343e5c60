"""How the command line gets its engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ttscale import models
from ttscale.engines import Engine

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
