"""The one thing that strategies ask of a model: draw N samples of a prompt."""

from ttscale.engines.protocol import CandidateHook, Engine, draw

__all__ = ["CandidateHook", "Engine", "draw"]
