"""A small, fixed run of benchmarks/fuzz_answers.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz_answers.py"


def test_generated_texts_are_read_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same 300 texts in every run: no crash, consistent answers, nothing executed."""
    spec = importlib.util.spec_from_file_location("fuzz_answers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(tmp_path)

    watch, made = script.run(300, tmp_path, None)

    assert sum(made.values()) == 300
    assert set(made) == {"hypothesis", *(make.__name__ for make in script.BUILT)}
    assert watch.counts["extraction"] == 300 * 5
    assert watch.counts["answers of kind number"] > 30
    assert list(tmp_path.iterdir()) == []
