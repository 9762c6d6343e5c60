"""The scripts behind docs/scaling.md, without an engine: what they draw, and their arithmetic."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttscale.errors import EngineError
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.stats import resample
from ttscale.testing import ScriptedEngine
from ttscale.types import ESampReport

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
SPLIT = runpy.run_path(str(BENCHMARKS / "split_groups.py"))
MODEL = runpy.run_path(str(BENCHMARKS / "scale_model.py"))
SUITE = TaskSpec("creative", 2).suite()
WORKED = ESampReport(rows_mixed=1)


async def drawn(tmp_path: Path, engine: ScriptedEngine) -> dict[tuple[str, str], list[str]]:
    """Both prompts drawn in all ways, four samples each, kept in a file."""
    texts: dict[tuple[str, str], list[str]] = {}
    keep = SPLIT["keeper"](tmp_path / "texts.jsonl", "settings")
    await SPLIT["draw_all"](engine, SUITE, SPLIT["ways"](0.5, 0.8, 16), 4, texts, keep)
    return texts


async def test_a_split_group_is_two_requests_of_half_the_size(tmp_path: Path) -> None:
    """The first half shares its seed with the whole group; every way has as many samples."""
    engine = ScriptedEngine(["one", "two", "three", "four"], esamp=WORKED)
    texts = await drawn(tmp_path, engine)
    mine = [call for call in engine.calls if call.prompt == engine.calls[0].prompt]
    plain, shared, first, second, *again = mine

    assert {len(found) for found in texts.values()} == {4}
    assert [call.n for call in mine] == [4, 4, 2, 2, 4, 2, 2]
    assert plain.sampler.esamp is None
    assert shared.sampler.esamp is not None
    assert plain.sampler.seed == shared.sampler.seed == first.sampler.seed != second.sampler.seed
    assert again[0].sampler.seed == again[1].sampler.seed not in (first.sampler.seed, None)


async def test_kept_texts_are_not_drawn_again(tmp_path: Path) -> None:
    """Those of other settings are no texts of these."""
    texts = await drawn(tmp_path, ScriptedEngine(["a", "b"], esamp=WORKED))

    assert SPLIT["read"](tmp_path / "texts.jsonl", "settings") == texts
    assert SPLIT["read"](tmp_path / "texts.jsonl", "others") == {}


async def test_esamp_that_does_nothing_is_no_result(tmp_path: Path) -> None:
    """A comparison of plain sampling with itself would show no loss."""
    with pytest.raises(EngineError, match="no work"):
        await drawn(tmp_path, ScriptedEngine(["a"], esamp=ESampReport()))


async def test_differences_are_paired_by_prompt(tmp_path: Path) -> None:
    """Equal texts differ in nothing, with an interval of no width."""
    texts = await drawn(tmp_path, ScriptedEngine(["a b", "c d"], esamp=WORKED))

    def embed(some: list[str]) -> Any:
        return np.array([[1.0, 0.0] if text == "a b" else [0.0, 1.0] for text in some])

    names = [way.name for way in SPLIT["ways"](0.5, 0.8, 16)]
    problems = [problem.id for problem in SUITE.task.problems]
    measured = {name: SPLIT["measure"](texts, problems, name, embed) for name in names}
    lines = list(SPLIT["table"](measured, resample(2, 0, 50)))

    assert measured[names[0]]["Vendi score"] == pytest.approx([2.0, 2.0])
    assert "| plain | 2.000 [2.000, 2.000] | 0.333 [0.333, 0.333] |" in lines[2]
    assert lines[-1].count("+0.000 [+0.000, +0.000]") == 3


def test_the_model_of_scale_follows_its_formulas() -> None:
    """Fleets are as many replicas; bigger models write fewer tokens; distillers only cost."""
    small, *_, large = MODEL["MODELS"]
    one, many = (MODEL["Fleet"](small, count) for count in (1, 64))
    rate = MODEL["tokens_per_second"]

    assert many.tokens == pytest.approx(64 * one.tokens)
    assert many.requests == pytest.approx(many.tokens / (MODEL["SAMPLES"] * MODEL["LENGTH"]))
    assert many.hours_between_failures == pytest.approx(one.hours_between_failures / 64)
    assert rate(large) < rate(small)
    assert rate(small, "swiglu") < rate(small, "ridge") < rate(small, None)


def test_a_hash_loads_the_fullest_replica_above_the_mean() -> None:
    """More so the more replicas there are, and less the more groups each has."""
    fullest = MODEL["most_loaded"]

    assert fullest(1, 16) < fullest(64, 16) < fullest(1000, 16)
    assert fullest(1000, 256) < fullest(1000, 16)
