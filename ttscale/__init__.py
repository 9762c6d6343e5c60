"""Test-time scaling for open models: ESamp inside vLLM, and the strategies that use it.

Importing this package loads neither torch nor vLLM; `LocalEngine` does, on first use.
`ServerEngine` needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttscale import errors, sampling
from ttscale.engines import Engine, draw
from ttscale.errors import TTScaleError
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler
from ttscale.types import (
    Candidate,
    ESampReport,
    Failure,
    Message,
    Prompt,
    Samples,
    Usage,
)

if TYPE_CHECKING:
    from ttscale.engines.server import ServerEngine
    from ttscale.worker.engine import LocalEngine

__version__ = "0.1.0"

__all__ = [
    "Candidate",
    "ESamp",
    "ESampReport",
    "Engine",
    "Failure",
    "LocalEngine",
    "Message",
    "Prompt",
    "Sampler",
    "Samples",
    "ServerEngine",
    "TTScaleError",
    "Usage",
    "__version__",
    "draw",
    "errors",
    "sampling",
]


def __getattr__(name: str) -> Any:
    """Load the engines, which need vLLM or an HTTP client, when they are asked for."""
    if name == "LocalEngine":
        from ttscale.worker.engine import LocalEngine

        return LocalEngine
    if name == "ServerEngine":
        from ttscale.engines.server import ServerEngine

        return ServerEngine
    raise AttributeError(f"module 'ttscale' has no attribute {name!r}")
