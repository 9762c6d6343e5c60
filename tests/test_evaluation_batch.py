"""Filling a pool from an engine that is given all requests at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ttscale.engines.batch import Answered, Ask, BatchEngine
from ttscale.errors import EngineError, InvalidInput
from ttscale.evaluation import Problem, Task
from ttscale.evaluation.batch import BatchRunner
from ttscale.evaluation.book import Plan
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.records import Record
from ttscale.evaluation.runner import Runner
from ttscale.evaluation.samplers import arms
from ttscale.evaluation.suite import maths
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import ESampReport, Failure, Samples, Usage

PROBLEMS = tuple(Problem(f"What is {i} + 1?", str(i + 1), str(i)) for i in range(6))
TEXTS = (r"\boxed{1}", r"\boxed{2}", "I do not know.", r"\boxed{3}")
REPORT = ESampReport(4, 2, {"fault": 1}, 0.5)


class Scripted:
    """Answers the last request first; a request for a question in `broken` fails."""

    model = "scripted"

    def __init__(self, *broken: str, dies_after: int | None = None) -> None:
        self.broken = broken
        self.dies_after = dies_after
        self.asked: list[Ask] = []

    def draw_all(self, asked: Sequence[Ask]) -> Iterator[Answered]:
        """Four known texts, in turn."""
        self.asked += asked
        for told, number in enumerate(reversed(range(len(asked)))):
            if told == self.dies_after:
                raise EngineError("gone")
            yield self._answer(number, asked[number])

    def _answer(self, number: int, ask: Ask) -> Answered:
        if any(words in ask.prompt.question for words in self.broken):
            return Answered(number, Samples(ask.n, ()), 1.0, (), "no luck")
        found = tuple(
            replace(candidate(TEXTS[i % 4], logprob=-2.0, token_count=5), index=i)
            for i in range(ask.n)
        )
        esamp = REPORT if ask.sampler.esamp else None
        samples = Samples(ask.n, found, (), Usage(7, 5 * ask.n), esamp)
        return Answered(number, samples, 2.0, tuple(0.5 + i for i in range(ask.n)))


def plan() -> Plan:
    """Two samplers on the sums."""
    suites = (maths(Task("sums", PROBLEMS)),)
    return Plan(suites, arms(("vanilla", "esamp"), (1.0,), 32), 4, seed=3)


def fill(path: Path, todo: Plan, engine: BatchEngine) -> Pool:
    """Run to the end and read what was stored."""
    with PoolWriter(path) as writer:
        BatchRunner(todo, read_pool(path), writer, engine).fill()
    return read_pool(path)


async def test_the_pool_is_that_of_an_engine_asked_one_by_one(tmp_path: Path) -> None:
    """Records differ in their times alone: same seeds, texts, grades, usage and ESamp reports."""
    batch = fill(tmp_path / "batch.jsonl", plan(), Scripted())
    texts = [candidate(text, logprob=-2.0, token_count=5) for text in TEXTS]
    path = tmp_path / "single.jsonl"
    with PoolWriter(path) as writer:
        engine = ScriptedEngine(texts, esamp=REPORT)
        await Runner(plan(), read_pool(path), writer, engine).fill()
    single = read_pool(path)

    assert batch.problems == single.problems
    assert batch.samplers == single.samplers
    assert batch.grades == single.grades
    assert {k: replace(s, seconds=0, at=0) for k, s in batch.samples.items()} == {
        k: replace(s, seconds=0, at=0) for k, s in single.samples.items()
    }
    assert {(d.problem, d.sampler): (d.seed, d.returned) for d in batch.draws} == {
        (d.problem, d.sampler): (d.seed, d.returned) for d in single.draws
    }


def test_times_usage_and_reports_are_the_workers(tmp_path: Path) -> None:
    """What the engine measured is stored, not when the program came to read it."""
    pool = fill(tmp_path / "s.jsonl", plan(), Scripted())

    assert pool.samples["sums", "0", "vanilla@1", 2].seconds == 2.5
    assert {draw.seconds for draw in pool.draws} == {2.0}
    assert {(d.prompt_tokens, d.completion_tokens) for d in pool.draws} == {(7, 20)}
    reports = {d.sampler: d.esamp for d in pool.draws}
    assert reports["vanilla@1"] is None
    assert reports["esamp@1"] == REPORT.to_json()


def test_the_samplers_are_drawn_in_their_order(tmp_path: Path) -> None:
    """An interrupted run has finished the first sampler before it has begun the next."""
    engine = Scripted()
    fill(tmp_path / "s.jsonl", plan(), engine)

    assert [ask.sampler.esamp is not None for ask in engine.asked] == [False] * 6 + [True] * 6
    assert {ask.n for ask in engine.asked} == {4}


def test_a_failed_request_costs_its_own_samples_alone(tmp_path: Path) -> None:
    """Its reason is stored, and the next run asks for it again with another seed."""
    path = tmp_path / "s.jsonl"
    pool = fill(path, plan(), Scripted("What is 3"))
    failed = [draw for draw in pool.draws if draw.failures]
    assert {(d.problem, d.returned, d.failures) for d in failed} == {("3", 0, ("no luck",))}
    assert {key[1] for key in pool.samples} == {"0", "1", "2", "4", "5"}

    again = Scripted()
    pool = fill(path, plan(), again)
    assert [ask.prompt.question[:9] for ask in again.asked] == ["What is 3"] * 2
    assert {s.draw for s in pool.samples.values() if s.problem == "3"} == {1}
    assert len(pool.samples) == 6 * 2 * 4


def test_one_lost_sample_is_told_with_its_reason(tmp_path: Path) -> None:
    """M of N samples are kept."""

    class Lossy(Scripted):
        def _answer(self, number: int, ask: Ask) -> Answered:
            whole = super()._answer(number, ask)
            kept = whole.samples.candidates[:-1]
            lost = (Failure(ask.n - 1, "lost"),)
            return replace(
                whole,
                samples=replace(whole.samples, candidates=kept, failures=lost),
                finished=whole.finished[:-1],
            )

    pool = fill(tmp_path / "s.jsonl", plan(), Lossy())
    assert len(pool.samples) == 6 * 2 * 3
    assert {draw.failures for draw in pool.draws} == {("lost",)}


def test_what_was_told_before_the_engine_failed_is_kept(tmp_path: Path) -> None:
    """The next run asks for the rest alone, and writes nothing twice."""
    path = tmp_path / "s.jsonl"
    with pytest.raises(EngineError, match="gone"):
        fill(path, plan(), Scripted(dies_after=5))
    held = read_pool(path)
    assert len(held.samples) == len(held.grades) == 5 * 4

    engine = Scripted()
    pool = fill(path, plan(), engine)
    assert len(engine.asked) == 12 - 5
    assert all(pool.samples[key] == sample for key, sample in held.samples.items())
    lines = path.read_text().splitlines()
    assert sum(line.startswith('{"type": "sample"') for line in lines) == len(pool.samples) == 48


def test_a_full_pool_asks_for_nothing(tmp_path: Path) -> None:
    """Samples without a grade are graded all the same."""
    path = tmp_path / "s.jsonl"
    full = fill(path, plan(), Scripted())
    ungraded: list[Record] = [*full.runs, *full.problems.values(), *full.samples.values()]
    with PoolWriter(tmp_path / "ungraded.jsonl") as writer:
        for record in ungraded:
            writer.append(record)

    engine = Scripted(dies_after=0)
    pool = fill(tmp_path / "ungraded.jsonl", plan(), engine)
    assert engine.asked == []
    assert pool.grades == full.grades


def test_a_question_that_makes_no_prompt_costs_itself(tmp_path: Path) -> None:
    """The others are asked; the reason is stored."""
    problems = (PROBLEMS[0], Problem("  ", "1", "blank"), PROBLEMS[2])
    suites = (maths(Task("sums", problems), instruction=""),)
    engine = Scripted()
    pool = fill(tmp_path / "s.jsonl", replace(plan(), suites=suites), engine)

    assert len(engine.asked) == 4
    reasons = {draw.failures for draw in pool.draws if draw.problem == "blank"}
    assert reasons == {("a question must not be empty",)}


def test_a_pool_of_something_else_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    """Another seed must go to another folder."""
    path = tmp_path / "s.jsonl"
    fill(path, plan(), Scripted())
    engine = Scripted()
    with pytest.raises(InvalidInput, match="seed 3"):
        fill(path, replace(plan(), seed=4), engine)
    assert engine.asked == []
