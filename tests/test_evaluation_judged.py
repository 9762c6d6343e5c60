"""Strategies with a judge over stored samples: what they select, and what the judge costs."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from ttscale.cli import main
from ttscale.evaluation.cost import Prices, cost_of
from ttscale.evaluation.pool import NAME, read_pool
from ttscale.evaluation.records import SelectionRecord
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt

TEXTS = [r"\boxed{7}", r"\boxed{7}", r"\boxed{1}"]


def script(prompt: Prompt, index: int) -> Scripted:
    """Most samples say 7; the judge says Yes to 1 alone."""
    texts = [message.content for message in prompt.messages]
    if len(texts) == 1 and texts[0].startswith("q"):
        return TEXTS[index]
    yes = any(r"\boxed{1}" in text for text in texts)
    return candidate("Yes", top_logprobs={"Yes" if yes else "No": -0.1, "No" if yes else "Yes": -3})


def evaluate(folder: Path, engine: ScriptedEngine, *more: str) -> int:
    """Run `ttscale eval` on two questions whose answer is 1."""
    file = folder / "sums.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"q{i}", "answer": 1}) for i in range(2)))
    argv = ["eval", "--task", str(file), "--n", "3", "--out", str(folder / "out")]
    argv += [
        "--sampler",
        "vanilla",
        "--temperatures",
        "1",
        "--instruction",
        "",
        "--resamples",
        "20",
    ]
    argv += ["--embeddings", "none", "--model", "scripted", *more]
    return main(argv, lambda _: nullcontext(engine))


def test_a_judge_selects_among_the_stored_samples(tmp_path: Path) -> None:
    """No sample is drawn anew; what it selected and what it cost is in the pool and the report."""
    engine = ScriptedEngine(script)
    assert evaluate(tmp_path, engine, "--judge", "verifier-rerank") == 0
    pool = read_pool(tmp_path / "out" / NAME)
    assert sum(call.n for call in engine.calls if call.prompt.question.startswith("q")) == 2 * 3
    held = pool.selections["sums", "1", "vanilla@1", "verifier-rerank", 3]
    assert (held.answer, held.right, held.error) == ("1", 1.0, "")
    assert held.judged == held.completion_tokens == 3
    assert held.prompt_tokens > 0
    (arm,) = json.loads((tmp_path / "out" / "summary.json").read_text())["tasks"][0]["arms"]
    assert arm["figures"]["select:verifier-rerank + judge"]["value"] == 1.0
    assert arm["figures"]["majority@n"]["value"] == 0.0
    assert arm["cost"]["judged"] == 6
    for name in ("report.md", "report.html"):
        text = (tmp_path / "out" / name).read_text()
        assert "verifier-rerank + judge" in text
        assert "judges: samples" in text


def test_what_was_judged_is_not_judged_again(tmp_path: Path) -> None:
    """The same command starts no engine; a judge that comes later draws none of the samples."""
    assert evaluate(tmp_path, ScriptedEngine(script), "--no-report") == 0
    later = ScriptedEngine(script)
    assert evaluate(tmp_path, later, "--no-report", "--judge", "weighted-vote") == 0
    assert later.calls
    assert not [call for call in later.calls if call.prompt.question.startswith("q")]
    again = ScriptedEngine(script)
    assert evaluate(tmp_path, again, "--no-report", "--judge", "weighted-vote") == 0
    assert again.calls == []


def test_judges_are_paid_as_well(tmp_path: Path) -> None:
    """Money counts their tokens; the tokens of the samples stay apart."""
    assert evaluate(tmp_path, ScriptedEngine(script), "--no-report") == 0
    pool = read_pool(tmp_path / "out" / NAME)
    plain = cost_of(pool, "sums", "vanilla@1", Prices(prompt=1e6, completion=1e6))
    names = ("sums", "0", "vanilla@1", "tournament", 3)
    pool.add(SelectionRecord(*names, "1", 1.0, 2, 30, 4, seconds=5.0, at=100.0))
    judged = cost_of(pool, "sums", "vanilla@1", Prices(prompt=1e6, completion=1e6))
    assert plain.money is not None
    assert judged.money == pytest.approx(plain.money + 34)
    assert judged.completion_tokens == plain.completion_tokens
    assert (judged.judged, judged.judge_seconds) == (2, 5.0)


def test_a_judge_that_says_nothing_is_told(tmp_path: Path) -> None:
    """The selection is stored with its reason or its doubt; the run goes on."""
    engine = ScriptedEngine(lambda prompt, i: TEXTS[i] if prompt.question[:1] == "q" else "Hm")
    assert evaluate(tmp_path, engine, "--judge", "tournament") == 0
    pool = read_pool(tmp_path / "out" / NAME)
    assert len(pool.selections) == 2
    assert all(held.judged > 0 for held in pool.selections.values())


def test_a_strategy_without_a_judge_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that draw step by step could not be run over stored samples."""
    engine = ScriptedEngine(script)
    assert evaluate(tmp_path, engine, "--judge", "beam-search") == 2
    assert "judge must be one of best-of-n" in capsys.readouterr().err
    assert engine.calls == []
