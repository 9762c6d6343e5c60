"""What is shipped, and which rooms may know which."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ttscale

ROOT = Path(__file__).resolve().parent.parent


def project() -> dict[str, object]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    return set(done.stdout.split())


def test_every_package_folder_is_shipped() -> None:
    """A folder left out of `packages` would vanish from the wheel without a word."""
    tool = project()["tool"]
    assert isinstance(tool, dict)
    listed = set(tool["setuptools"]["packages"])
    inner = {p.parent.relative_to(ROOT) for p in (ROOT / "ttscale").glob("**/__init__.py")}
    outer = {Path("ttscale") / name for name in ("strategies", "integrations")}

    assert listed == {".".join(path.parts) for path in inner | outer}


def test_the_version_is_said_once() -> None:
    """Package, project file and changelog name the same version."""
    metadata = project()["project"]
    assert isinstance(metadata, dict)

    assert metadata["version"] == ttscale.__version__
    assert f"## {ttscale.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["ttscale", "ttscale.strategies", "ttscale.verifiers"])
def test_every_public_name_is_importable(package: str) -> None:
    """`__all__` lists what is there, sorted as ruff sorts it."""
    module = importlib.import_module(package)

    assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    "room",
    [
        "ttscale",
        "ttscale.answers",
        "ttscale.cli",
        "ttscale.engines",
        "ttscale.esamp",
        "ttscale.evaluation",
        "ttscale.integrations",
        "ttscale.models",
        "ttscale.sandbox",
        "ttscale.scaleout.ray_data",
        "ttscale.serving.routes",
        "ttscale.strategies",
        "ttscale.testing",
        "ttscale.verifiers",
    ],
)
def test_outer_rooms_load_neither_torch_nor_vllm(room: str) -> None:
    """Strategies, adapters, evaluation and the command line stay light to import."""
    assert not {"torch", "vllm", "transformers", "ray"} & modules_after(f"import {room}")


def test_naming_a_contrastive_sampler_loads_no_model_code() -> None:
    """Only checking or drawing with it does."""
    made = "from ttscale.evaluation.samplers import arms\narms(['contrastive:amateur=x'], [1.0], 8)"

    assert not {"torch", "vllm", "transformers"} & modules_after(made)


def test_the_algorithm_does_not_know_vllm() -> None:
    """The inner ring is torch alone."""
    rooms = ("bank", "distiller", "fusion", "groups", "ridge", "settings", "swiglu", "vocab")
    loaded = modules_after("\n".join(f"import ttscale.esamp.{room}" for room in rooms))

    assert "torch" in loaded
    assert not {"vllm", "ttscale.worker"} & loaded


def test_only_the_boundary_package_imports_vllm() -> None:
    """A module that never runs in the tests must not break the rule unseen."""
    outside = [
        path
        for folder in ("ttscale", "strategies", "integrations")
        for path in (ROOT / folder).rglob("*.py")
        if "worker" not in path.relative_to(ROOT).parts
    ]
    guilty = [
        str(path.relative_to(ROOT))
        for path in outside
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import vllm", "from vllm"))
    ]

    assert len(outside) > 20
    assert guilty == []


@pytest.mark.parametrize("name", ["strategies", "integrations"])
def test_the_folders_are_not_importable_by_their_own_name(name: str) -> None:
    """From the repository's root a bare import would load every module twice."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )

    assert f"import ttscale.{name}, not {name}" in done.stderr
