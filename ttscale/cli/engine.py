"""How the command line gets its engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from ttscale import models
from ttscale.engines import Engine

EngineFactory = Callable[[str], AbstractContextManager[Engine]]


def local_engine(model: str) -> AbstractContextManager[Engine]:
    """vLLM in this process, with the model of that name or folder.

    Raises:
        ModelNotFound: The name leads to no model; vLLM has not been loaded then.
        MissingDependency: vLLM is not installed.
        EngineError: vLLM could not start.
    """
    models.resolve(model)  # a wrong name is refused at once, before anything heavy is loaded
    from ttscale.worker.engine import LocalEngine

    return LocalEngine(model)
