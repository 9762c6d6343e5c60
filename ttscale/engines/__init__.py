"""The one thing that strategies ask of a model: draw N samples of a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ttscale.engines.protocol import CandidateHook, Engine, draw

if TYPE_CHECKING:
    from ttscale.engines.server import ServerEngine

__all__ = ["CandidateHook", "Engine", "ServerEngine", "draw"]


def __getattr__(name: str) -> Any:
    """Load `ServerEngine`, which needs httpx and pydantic, when it is asked for."""
    if name == "ServerEngine":
        from ttscale.engines.server import ServerEngine

        return ServerEngine
    raise AttributeError(f"module 'ttscale.engines' has no attribute {name!r}")
