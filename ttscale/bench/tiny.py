"""Models of any width with random weights, to time widths that no small model has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ttscale import _check, models
from ttscale.errors import InvalidInput

LAYERS = 4
HEAD = 64  # width of an attention head
_WEIGHTS = (".safetensors", ".bin", ".index.json")


def random_llama(folder: Path, hidden: int, layers: int = LAYERS) -> str:
    """Describe a Llama of that width in `folder`; vLLM draws its weights (`load_format="dummy"`).

    The tokenizer, vocabulary and chat template are those of the embedded model.

    Raises:
        InvalidInput: `hidden` is no multiple of 64, or there are no layers.
    """
    _check.integer("hidden", hidden, HEAD)
    _check.integer("layers", layers, 2)
    if hidden % HEAD:
        raise InvalidInput(f"hidden must be a multiple of {HEAD}, got {hidden}")
    source = Path(models.resolve(models.EMBEDDED))
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and not file.name.endswith(_WEIGHTS):
            shutil.copy(file, folder)
    config: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config |= {
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden // HEAD,
        "num_key_value_heads": hidden // HEAD,
        "head_dim": HEAD,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(folder)


def parameter_count(folder: str) -> int:
    """Weights that a decode step of the Llama in `folder` multiplies with, its head included."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    key_value = head * config.get("num_key_value_heads", heads)
    attention = 2 * hidden * (head * heads) + 2 * hidden * key_value
    layer = attention + 3 * hidden * config["intermediate_size"]
    return int(config["num_hidden_layers"] * layer + hidden * config["vocab_size"])


def hidden_size(folder: str) -> int:
    """Width of the hidden states of the model in `folder`."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return int(config["hidden_size"])


def vocabulary_size(folder: str) -> int:
    """Tokens of the head of the model in `folder`."""
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return int(config["vocab_size"])
