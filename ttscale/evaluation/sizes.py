"""Sizes of the model that drew a pool, where its folder is on this machine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ttscale import models
from ttscale.bench.tiny import hidden_size, parameter_count

KINDS = ("gemma", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Models built as a Llama is, whose weights can be counted by their configuration."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Weights that a decode step multiplies with, and the width of the hidden states."""

    parameters: int
    hidden: int


@cache
def sizes_of(model: str) -> Sizes | None:
    """Sizes of a model by name or folder; None when they cannot be told without a download."""
    folder = models.embedded_path() if model == models.EMBEDDED else Path(model).expanduser()
    try:
        if folder is None or not (folder / "config.json").is_file():
            return None
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") not in KINDS:
            return None
        return Sizes(parameter_count(str(folder)), hidden_size(str(folder)))
    except (OSError, ValueError, KeyError):
        return None
