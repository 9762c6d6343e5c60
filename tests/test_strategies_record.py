"""Budgets and records: what is refused, what a file holds, and what survives a crash."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttscale.engines import CandidateHook
from ttscale.errors import EngineStopped, InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import (
    BestOfN,
    Budget,
    Record,
    SelfConsistency,
    Strategy,
    VerifierRerank,
    run,
)
from ttscale.strategies.meter import bound
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Prompt, Samples
from ttscale.verifiers import SelfJudge

SEVEN = candidate(r"\boxed{7}", logprob=-1.0, top_logprobs={"a": -math.inf})


class Dying(ScriptedEngine):
    """Dies after its first two samples."""

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        await super().adraw(prompt, min(n, 2), sampler, on_candidate=on_candidate)
        raise EngineStopped("the engine process died")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_samples": 0}, "max_samples must be a whole number of at least 1"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number"),
        ({"deadline_seconds": 0}, r"deadline_seconds must be a number in \(0"),
        ({"deadline_seconds": math.inf}, "deadline_seconds must be a number"),
    ],
)
def test_bad_limits_are_refused(limits: dict[str, float], words: str) -> None:
    """The legal range is named."""
    with pytest.raises(InvalidInput, match=words):
        Budget(**limits)  # type: ignore[arg-type]


def test_a_number_is_no_budget() -> None:
    """A bare number does not say what it limits."""
    with pytest.raises(InvalidInput, match="budget must be a Budget or None, got 5"):
        SelfConsistency().run(ScriptedEngine(["a"]), "q", budget=5)  # type: ignore[arg-type]


def test_a_tight_budget_draws_one_sample_after_the_other() -> None:
    """Where four samples might not fit at once, they are drawn as they fit, with other seeds."""
    engine = ScriptedEngine([r"\boxed{7} and some words"])
    prompt = Prompt.of("q")
    limit = bound(prompt) + 2 * 20

    outcome = SelfConsistency(4, Sampler(max_tokens=20)).run(
        engine, prompt, seed=1, budget=Budget(max_tokens=limit)
    )

    assert engine.calls[0].n == 2
    assert outcome.returned == 4
    assert [c.index for c in outcome.candidates] == [0, 1, 2, 3]
    assert len({call.sampler.seed for call in engine.calls}) == len(engine.calls)
    assert outcome.stopped == ""


def test_a_budget_too_small_for_a_sample_draws_a_short_one() -> None:
    """One sample of what is left is better than none, and it is marked as cut off."""
    engine = ScriptedEngine(["word " * 50])
    prompt = Prompt.of("q")

    outcome = SelfConsistency(4, Sampler(max_tokens=40)).run(
        engine, prompt, budget=Budget(max_tokens=bound(prompt) + 10)
    )

    assert engine.calls[0].n == 1
    assert engine.calls[0].sampler.max_tokens == 10
    assert outcome.truncated == outcome.returned
    assert outcome.spent.tokens <= bound(prompt) + 10


def test_a_judge_is_kept_within_the_budget() -> None:
    """Judgements that do not fit are that candidate's error; the samples are not lost."""
    engine = ScriptedEngine([replace(SEVEN, top_logprobs={"Yes": -0.1, "No": -3.0})])
    prompt = Prompt.of("q")
    limit = bound(prompt) + 3 * 16 + 1

    outcome = VerifierRerank(SelfJudge(), 3, Sampler(max_tokens=16)).run(
        engine, prompt, budget=Budget(max_tokens=limit)
    )

    assert outcome.returned == 3
    assert outcome.spent.tokens <= limit
    assert "max_tokens" in outcome.stopped
    assert "no sample that states an answer has a score" in outcome.reason


def test_a_crash_loses_no_finished_sample(tmp_path: Path) -> None:
    """Samples are on disk as they finish; the next run draws the others alone."""
    path = tmp_path / "run.jsonl"
    with pytest.raises(EngineStopped):
        SelfConsistency(5).run(Dying([SEVEN]), "q", seed=3, record=Record.open(path))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": 0, "cand')  # what a crash leaves of a line
    engine = ScriptedEngine([SEVEN])

    outcome = SelfConsistency(5).run(engine, "q", seed=3, record=Record.open(path))

    assert [call.n for call in engine.calls] == [3]
    assert (outcome.returned, outcome.spent.samples) == (5, 3)
    assert outcome.candidates[0].top_logprobs == {"a": -math.inf}


def test_a_record_in_memory_is_saved_and_loaded(tmp_path: Path) -> None:
    """What was told is the same after a round trip through a file."""
    record, path = Record(), tmp_path / "run.jsonl"
    first = BestOfN(3).run(ScriptedEngine([SEVEN]), "q", seed=1, record=record)
    record.save(path)
    engine = ScriptedEngine(["other"])

    again = BestOfN(3).run(engine, "q", seed=1, record=Record.load(path))

    assert engine.calls == []
    assert Record.load(path).samples == 3
    assert replace(again, spent=first.spent) == first


def test_another_runs_record_is_refused() -> None:
    """Another strategy, prompt or seed, and other settings, do not fit."""
    record = Record()
    engine = ScriptedEngine([SEVEN])
    SelfConsistency(3).run(engine, "q", seed=1, record=record)

    others: list[tuple[Strategy[Any], str, int]] = [
        (BestOfN(3), "q", 1),
        (SelfConsistency(3), "other", 1),
        (SelfConsistency(3), "q", 2),
    ]
    for strategy, prompt, seed in others:
        with pytest.raises(InvalidInput, match="the record is of strategy 'self-consistency'"):
            run(strategy, engine, prompt, seed=seed, record=record)
    with pytest.raises(InvalidInput, match="a strategy with other settings"):
        SelfConsistency(4).run(engine, "q", seed=1, record=record)


@pytest.mark.parametrize("content", ["{}{}\n{}\n", '{"id": 1, "unknown": 2}\n{}\n'])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    """A file that is no record is not written over."""
    path = tmp_path / "file.jsonl"
    path.write_text(content)

    with pytest.raises(InvalidInput, match=r"line 1 of .* is no line of a record"):
        Record.open(path)
    assert path.read_text() == content


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """`load` wants a file; `open` makes one."""
    with pytest.raises(InvalidInput, match="cannot be read"):
        Record.load(tmp_path / "nothing.jsonl")
    assert Record.open(tmp_path / "new.jsonl").samples == 0
