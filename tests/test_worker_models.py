"""Kinds of models and two tensor parallel ranks: see model_kinds.py, which runs once for all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.engine, pytest.mark.own_engine]
SCRIPT = Path(__file__).with_name("model_kinds.py")
LAYERS, HIDDEN, RANK = 2, 128, 4


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random LoRA adapter for `tiny_llama`, strong enough to change tokens."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("adapter")
    draw = torch.Generator().manual_seed(1)
    shapes = {"lora_A": (RANK, HIDDEN), "lora_B": (HIDDEN, RANK)}
    weights = {
        f"base_model.model.model.layers.{layer}.self_attn.{name}.{part}.weight": 0.5
        * torch.randn(shape, generator=draw)
        for layer in range(LAYERS)
        for name in ("q_proj", "o_proj")
        for part, shape in shapes.items()
    }
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none"}
    config |= {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "o_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def quantised(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_llama` in eight bits, weights by channel and inputs by token (compressed-tensors)."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("quantised") / "model"
    shutil.copytree(tiny_llama, folder)
    weights: dict[str, torch.Tensor] = {}
    for name, weight in load_file(tiny_llama / "model.safetensors").items():
        weights[name] = weight
        if name.endswith("_proj.weight"):
            scale = weight.abs().amax(1, keepdim=True) / 127
            weights |= {name: (weight / scale).round().to(torch.int8), f"{name}_scale": scale}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    eight = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {
        "targets": ["Linear"],
        "weights": {**eight, "strategy": "channel", "dynamic": False},
        "input_activations": {**eight, "strategy": "token", "dynamic": True},
    }
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def found(tiny_llama: Path, adapter: Path, quantised: Path) -> dict[str, Any]:
    """What the script found of every kind."""
    command = [sys.executable, str(SCRIPT), str(tiny_llama), str(adapter), str(quantised)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the script failed:\n{done.stderr[-4000:]}")
    kinds: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return kinds


@pytest.mark.parametrize("kind", ["untied", "shaped", "quantised"])
def test_mixing_is_the_formula_before_scale_and_cap(found: dict[str, Any], kind: str) -> None:
    """Logits are those of the mixed state; a scale keeps Eq. 7 exact, a cap is taken of it."""
    told = found[kind]

    assert told["distance"] < 1e-4
    assert told["plain"] == told["zero"] != told["pushed"]
    assert told["reports"][0]["total"]["fallbacks"] == {}


def test_adapters_are_mixed_with_their_own_weights(found: dict[str, Any]) -> None:
    """Beta 0 gives the adapter's tokens, a push changes them, a filter holds on its reference."""
    told = found["lora"]

    assert told["base"] != told["plain"] == told["zero"] != told["pushed"]
    assert told["filtered"] == told["plain"]
    assert told["reports"][0]["total"]["rows_mixed"] > 0
    assert told["reports"][0]["total"]["fallbacks"] == {}


def test_two_ranks_give_the_tokens_of_one(found: dict[str, Any]) -> None:
    """Greedy tokens of tensor parallel 2 are those of one process, plain and pushed."""
    one, two = found["untied"], found["tensor_parallel"]

    assert two["plain"] == one["plain"]
    assert two["pushed"] == one["pushed"] != one["plain"]


def test_all_ranks_mix_and_train_alike(found: dict[str, Any]) -> None:
    """Each rank has its own distiller; counts and errors are equal to the last bit."""
    first, second = ({**report, "seconds": None} for report in found["tensor_parallel"]["reports"])

    assert first == second
    assert first["groups"]["group:ranks"]["rows_mixed"] > 0
    assert first["total"]["fallbacks"] == {}
