"""`ttscale bench` and what is behind it, on scripted engines; a real run stands at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from ttscale import LocalEngine, Sampler
from ttscale.bench import STANDARD, Workload, measure, report, sweep, tiny
from ttscale.bench.measure import median_interval
from ttscale.cli.app import main
from ttscale.cli.bench import parse_workload
from ttscale.engines import Engine
from ttscale.errors import EngineError, InvalidInput
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import ESampReport

TOKENS = 4
WORKED = ESampReport(
    rows_mixed=9, steps_trained=3, fallbacks={"no_room": 1}, error_at={8: (1.2, 2), 32: (0.5, 1)}
)
Factory = Callable[..., AbstractContextManager[Engine]]


def scripted(tokens: int = TOKENS, esamp: ESampReport | None = WORKED) -> ScriptedEngine:
    """An engine whose samples all have that many tokens."""
    return ScriptedEngine([candidate("word", token_count=tokens)], esamp=esamp)


def factory(engine: Engine) -> Factory:
    """Gives that engine, whatever is asked for."""
    return lambda model, **settings: nullcontext(engine)


def test_halves_of_a_pair_differ_in_esamp_alone() -> None:
    """Both halves draw the same prompts with equal samplers, and take turns at going first."""
    engine = scripted()
    measure(engine, Workload(2, 3, tokens=TOKENS), repeats=2, seed=5)
    calls = [(call.prompt, call.n, call.sampler) for call in engine.calls]
    halves = [calls[place : place + 2] for place in range(0, len(calls), 2)]

    assert len(halves) == 6  # a pair that warms up, then two
    exploring = [half[0][2].esamp is not None for half in halves]
    assert exploring == [False, True, False, True, True, False]
    assert all([c[0] for c in half] == [c[0] for c in halves[0]] for half in halves)
    assert {n for _, n, _ in calls} == {3}
    plain, esamp = halves[2][0][2], halves[3][0][2]
    assert plain == Sampler(max_tokens=TOKENS, min_tokens=TOKENS, seed=5)
    assert esamp.esamp is not None
    assert (esamp.esamp.beta, esamp.esamp.scope, esamp.esamp.gate) == (0.25, "prompt", False)


def test_report_sums_up_what_was_done() -> None:
    """Counters add up over repeats and prompts; errors are means over groups."""
    found = measure(scripted(), Workload(2, 3, tokens=TOKENS), repeats=3)

    assert (found.report.rows_mixed, found.report.steps_trained) == (54, 18)
    assert found.report.fallbacks == {"no_room": 6}
    assert found.report.relative_error_at(8) == pytest.approx(0.6)
    assert found.report.relative_error_at(128) is None
    assert len(found.ratios) == 3
    assert min(found.ratios) <= found.ratio <= max(found.ratios)


@pytest.mark.parametrize(
    ("count", "left_out"), [(1, 0), (5, 0), (6, 0), (9, 1), (15, 3), (25, 7), (30, 9)]
)
def test_interval_of_a_median_is_that_of_the_books(count: int, left_out: int) -> None:
    """So many of the smallest and largest values are left out, as tables of the sign test say."""
    low, high = median_interval([float(k) for k in reversed(range(count))])

    assert (low, high) == (left_out, count - 1 - left_out)


def test_shared_distiller_is_not_counted_once_for_each_prompt() -> None:
    """All draws of a shared group report the same group."""
    found = measure(scripted(), Workload(4, 2, "shared", tokens=TOKENS), repeats=1)

    assert (found.report.rows_mixed, found.report.steps_trained) == (9, 3)


@pytest.mark.parametrize("esamp", [None, ESampReport(), ESampReport(rows_mixed=4)])
def test_ratio_without_work_is_refused(esamp: ESampReport | None) -> None:
    """No figure is told when ESamp mixed no row or trained no step."""
    with pytest.raises(EngineError, match="no ratio is told of work that was not done"):
        measure(scripted(esamp=esamp), Workload(1, 2, tokens=TOKENS), repeats=1)


def test_ratio_of_unequal_work_is_refused() -> None:
    """A sample that is lost or ends early would make its half look fast."""
    with pytest.raises(EngineError, match="the plain half wrote 6 tokens, not 8"):
        measure(scripted(tokens=3), Workload(1, 2, tokens=TOKENS), repeats=1)


def test_json_has_the_documented_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every key of the documented form is there, on stdout and in the file."""
    arguments = ["--workload", "2x3:prompt:swiglu", "--tokens", str(TOKENS), "--repeats", "2"]
    code = main(["bench", *arguments, "--json", "--out", str(tmp_path)], factory(scripted()))
    shown = json.loads(capsys.readouterr().out)

    assert code == 0
    (one,) = shown["workloads"]
    wanted = {"name", "prompts", "samples", "scope", "distiller", "ratio", "ratio_min"}
    wanted |= {
        "ratio_low",
        "ratio_high",
        "ratio_max",
        "vanilla_tok_s",
        "esamp_tok_s",
        "rows_mixed",
        "steps_trained",
    }
    wanted |= {"fallbacks", "relative_error", "ratio_floor", "step_ms"}
    assert wanted <= one.keys()
    assert (one["name"], one["rows_mixed"]) == ("2x3 prompt swiglu", 36)
    assert one["relative_error"] == {"8": pytest.approx(0.6), "32": 0.5, "128": None}
    assert 0 < one["ratio_floor"] < 1
    assert {"machine", "versions", "engine"} <= shown.keys()
    assert json.loads((tmp_path / "bench.json").read_text()) == shown


def test_table_shows_the_counters_beside_the_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, steps, fallbacks and errors stand in the line of the ratio."""
    main(["bench", "--workload", "1x2", "--tokens", "4", "--repeats", "1"], factory(scripted()))
    head, line, *_ = capsys.readouterr().out.splitlines()

    assert head.split()[:7] == ["workload", "plain", "ESamp", "ratio", "95", "%", "range"]
    assert "1x2 prompt ridge" in line
    assert line.split()[-10:-4] == ["9", "3", "1", "0.60", "0.50", "-"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1x16", Workload(1, 16, tokens=TOKENS)),
        ("4x16:shared", Workload(4, 16, "shared", tokens=TOKENS)),
        ("16x4:prompt:swiglu", Workload(16, 4, "prompt", "swiglu", TOKENS)),
    ],
)
def test_workloads_are_written_as_the_help_says(text: str, expected: Workload) -> None:
    """Scope and distiller may be left out."""
    assert parse_workload(text, TOKENS) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workload", "16"], "a workload is PROMPTSxSAMPLES"),
        (["--workload", "0x4"], "prompts must be a whole number of at least 1, got 0"),
        (["--workload", "1x4:all"], "scope must be one of prompt, shared; got 'all'"),
        (["--tokens", "1"], "tokens must be a whole number of at least 2, got 1"),
        (["--repeats", "0", "--workload", "1x2"], "repeats must be a whole number"),
        (["--sweep", "--workload", "1x2"], "--sweep chooses its own workloads"),
    ],
)
def test_bad_input_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line that says what is allowed."""
    assert main(["bench", *arguments], factory(scripted())) == 2
    assert message in capsys.readouterr().err


def test_sweep_times_every_point_and_draws_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each width has a model of its own; the plots and the figures are written."""
    monkeypatch.setattr(sweep, "ROWS", (1, 2))
    monkeypatch.setattr(sweep, "HIDDEN", (128,))
    models: list[tuple[str, dict[str, Any]]] = []

    def make(model: str, **settings: Any) -> AbstractContextManager[Engine]:
        models.append((model, settings))
        return nullcontext(scripted())

    arguments = ["--sweep", "--tokens", "4", "--repeats", "1", "--out", str(tmp_path)]
    assert main(["bench", *arguments], make) == 0
    found = json.loads((tmp_path / "bench.json").read_text())["workloads"]

    assert {one["axis"] for one in found} == {"rows", "prompts", "scope", "hidden"}
    assert [settings.get("load_format") for _, settings in models] == [None, "dummy"]
    assert models[0][1]["max_num_seqs"] == 64
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "bench.svg").read_text()


def test_random_model_has_the_width_that_was_asked_for(tmp_path: Path) -> None:
    """Its weights are counted as a decode step multiplies with them."""
    folder = tiny.random_llama(tmp_path, 128, layers=2)
    layer = 4 * 128 * 128 + 3 * 128 * 384

    assert tiny.hidden_size(folder) == 128
    assert tiny.parameter_count(folder) == 2 * layer + 128 * 49152
    assert not list(tmp_path.glob("*.safetensors"))
    with pytest.raises(InvalidInput, match="hidden must be a multiple of 64, got 100"):
        tiny.random_llama(tmp_path, 100)


def test_standard_workloads_are_the_targets() -> None:
    """One prompt, many prompts, and one distiller for all, for both distillers."""
    assert [one.name for one in STANDARD[:3]] == [
        "1x16 prompt ridge",
        "16x4 prompt ridge",
        "4x16 shared ridge",
    ]
    assert {one.distiller for one in STANDARD} == {"ridge", "swiglu"}


@pytest.mark.engine
def test_real_engine_is_measured(engine: LocalEngine) -> None:
    """On the real engine the work is counted and the phases are timed."""
    found = measure(engine, Workload(2, 4, tokens=12), repeats=1)
    shown = report.workload_json(found, None)

    assert shown["rows_mixed"] == 8 * 11  # every row but the prefill's
    assert shown["steps_trained"] >= 2 * 10
    assert shown["fallbacks"] == {}
    assert 0 < shown["relative_error"]["8"] < 1
    assert set(shown["step_ms"]) == {"capture", "predict", "mix", "update"}
    assert all(spent > 0 for spent in shown["step_ms"].values())
