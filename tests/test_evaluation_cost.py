"""What a pool has cost: tokens, operations, and money where there is a price."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from ttscale.cli import main
from ttscale.errors import InvalidInput
from ttscale.esamp.cost import step_cost
from ttscale.evaluation.cost import Prices, cost_of
from ttscale.evaluation.pool import NAME, Pool, read_pool
from ttscale.evaluation.records import DrawRecord, RunRecord, SampleRecord, SamplerRecord
from ttscale.evaluation.sizes import sizes_of
from ttscale.testing import ScriptedEngine

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 1,
    "intermediate_size": 100,
    "num_hidden_layers": 2,
    "vocab_size": 10,
}
WEIGHTS = 2 * (4 * 64 * 64 + 3 * 64 * 100) + 64 * 10


def described(folder: Path, **changes: object) -> str:
    """A folder that describes a model."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**LLAMA, **changes}))
    return str(folder)


def pool_of(model: str, settings: dict[str, object], steps: int) -> Pool:
    """One request of 4 samples of 10 tokens, 30 tokens read, in 6 seconds."""
    esamp = {"rows_mixed": 36, "steps_trained": steps, "fallbacks": {}} if steps else None
    pool = Pool()
    pool.add(RunRecord(model, 0, {}, {}, "", 0.0))
    pool.add(SamplerRecord("s@1", "s", 1.0, settings))
    for i in range(4):
        pool.add(SampleRecord("t", "p", "s@1", i, 0, 0, "x", 10, "stop", None, 6.0, 106.0))
    pool.add(DrawRecord("t", "p", "s@1", 0, 0, 4, 4, 30, 40, 6.0, (), esamp))
    return pool


def test_rows_of_requests_beside_it_are_not_counted() -> None:
    """A shared distiller tells all rows that it mixed meanwhile; a draw wrote 40 tokens of them."""
    pool = pool_of("unknown", {"esamp": {"scope": "shared"}}, 10)
    told = {"rows_mixed": 4000, "steps_trained": 10, "fallbacks": {}}
    pool.draws[0] = replace(pool.draws[0], esamp=told)

    assert cost_of(pool, "t", "s@1").rows_mixed == 40


def test_operations_are_counted_by_the_models_sizes(tmp_path: Path) -> None:
    """Two a weight and token; the distiller's by its own formula, four rows a step."""
    model = described(tmp_path / "m")
    cost = cost_of(pool_of(model, {"esamp": {"distiller": "swiglu"}}, 10), "t", "s@1")
    assert cost.model_flop == 2.0 * WEIGHTS * 70
    assert cost.esamp_flop == 10 * step_cost("swiglu", 64, 1, 4).flop
    assert cost.esamp_share == cost.esamp_flop / (cost.esamp_flop + cost.model_flop)
    plain = cost_of(pool_of(model, {}, 0), "t", "s@1")
    assert (plain.esamp_flop, plain.esamp_share) == (0.0, 0.0)


def test_sizes_that_are_not_known_are_not_told(tmp_path: Path) -> None:
    """A hub name, another kind of model, and a broken description."""
    assert sizes_of("some/model") is None
    assert sizes_of(described(tmp_path / "moe", model_type="mixtral")) is None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert sizes_of(str(tmp_path / "broken")) is None
    cost = cost_of(pool_of("some/model", {"esamp": {}}, 10), "t", "s@1")
    assert cost.model_flop is None
    assert cost.esamp_flop is None
    assert cost.esamp_share != cost.esamp_share


def test_money_is_counted_by_the_prices_given_alone() -> None:
    """30 tokens read, 40 written, 6 seconds; no price, no money."""
    pool = pool_of("some/model", {}, 0)
    assert cost_of(pool, "t", "s@1").money is None
    assert cost_of(pool, "t", "s@1", Prices()).money is None
    told = cost_of(pool, "t", "s@1", Prices(prompt=1e6, completion=2e6)).money
    assert told == pytest.approx(30 + 80)
    assert cost_of(pool, "t", "s@1", Prices(hour=600)).money == pytest.approx(1.0)
    assert cost_of(pool, "t", "s@1", Prices(1e6, 2e6, 600)).money == pytest.approx(111)
    assert cost_of(pool, "t", "s@1", Prices(hour=0)).money == 0.0
    with pytest.raises(InvalidInput, match="price of hour"):
        Prices(hour=-1)


def test_prices_come_from_flags_or_the_file(tmp_path: Path) -> None:
    """A flag goes over the file; all three reports show the column, and none without a price."""
    (tmp_path / "q.jsonl").write_text('{"question": "q", "answer": 1}')
    config = tmp_path / "e.toml"
    config.write_text(
        "n = 2\ntemperatures = [1.0]\nsamplers = ['vanilla']\nmodel = 'scripted'\n"
        "[prices]\nprompt = 5.0\ncompletion = 1e6\n"
        f"[[task]]\nname = {str(tmp_path / 'q.jsonl')!r}\n"
    )
    out = tmp_path / "out"
    common = ["--embeddings", "none", "--resamples", "20"]
    argv = ["eval", "--config", str(config), "--out", str(out), "--price-prompt", "0", *common]
    assert main(argv, lambda model: nullcontext(ScriptedEngine([r"\boxed{1} a b"]))) == 0
    written = sum(sample.tokens for sample in read_pool(out / NAME).samples.values())
    cost = json.loads((out / "summary.json").read_text())["tasks"][0]["arms"][0]["cost"]
    assert cost["money"] == written > 0
    for name in ("report.md", "report.html"):
        assert "money" in (out / name).read_text()
    assert main(["report", str(out), *common]) == 0
    assert "money" not in (out / "report.md").read_text()
    assert main(["report", str(out), *common, "--price-hour", "-1"]) == 2
