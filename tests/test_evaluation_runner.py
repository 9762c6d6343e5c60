"""Filling a pool: nothing lost, nothing doubled, whenever the run is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ttscale.errors import EngineError, EngineStopped, InvalidInput, ScoreError
from ttscale.evaluation import Problem, Task
from ttscale.evaluation.book import Plan, draw_seed
from ttscale.evaluation.pool import Pool, PoolWriter, read_pool
from ttscale.evaluation.runner import Runner
from ttscale.evaluation.samplers import arms
from ttscale.evaluation.suite import Suite, maths, open_ended
from ttscale.sampling import Sampler
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import ESampReport, Prompt, Samples

PROBLEMS = tuple(Problem(f"What is {i} + 1?", str(i + 1), str(i)) for i in range(6))
TASK = Task("sums", PROBLEMS)
TEXTS = [r"\boxed{1}", r"\boxed{2}", "I do not know.", r"\boxed{3}"]


def plan(
    *samplers: str, n: int = 4, suite: Suite | None = None, temperatures: tuple[float, ...] = (1.0,)
) -> Plan:
    """A plan over the six sums."""
    swept = arms(samplers or ("vanilla",), temperatures, 32)
    return Plan((suite or maths(TASK),), swept, n, seed=3)


async def fill(path: Path, todo: Plan, engine: ScriptedEngine) -> Pool:
    """Run to the end and read what was stored."""
    with PoolWriter(path) as writer:
        await Runner(todo, read_pool(path), writer, engine).fill()
    return read_pool(path)


async def test_every_sample_is_stored_and_graded(tmp_path: Path) -> None:
    """Text, tokens, log-probability, answer and score; what abstains is wrong."""
    engine = ScriptedEngine([candidate(r"\boxed{1}", logprob=-2.0, token_count=5), TEXTS[2]])
    pool = await fill(tmp_path / "s.jsonl", plan("vanilla", "min-p:p=0.2", n=2), engine)
    assert len(pool.samples) == 6 * 2 * 2
    first = pool.samples["sums", "0", "vanilla@1", 0]
    assert (first.text, first.tokens, first.finish, first.logprob) == (r"\boxed{1}", 5, "stop", -2)
    assert first.seconds >= 0
    grade = pool.grades["sums", "0", "vanilla@1", 0]
    assert (grade.answer, grade.answer_kind, grade.score, grade.correct) == ("1", "number", 1, True)
    silent = pool.grades["sums", "0", "vanilla@1", 1]
    assert (silent.answer, silent.score, silent.correct) == (None, 0.0, False)
    assert pool.samplers["min-p:p=0.2@1"].settings["min_p"] == 0.2
    assert pool.problems["sums", "5"].gold == "6"
    assert {draw.completion_tokens for draw in pool.draws} == {9}


async def test_samples_are_kept_with_the_opening_that_was_given(tmp_path: Path) -> None:
    """The model goes on from it; answers are read from the whole. Stop texts reach the engine."""
    suite = replace(maths(TASK), opening=r"So the answer is \boxed{", stop=("!",))
    engine = ScriptedEngine(["1} apples"])
    pool = await fill(tmp_path / "s.jsonl", plan(n=1, suite=suite), engine)
    assert {call.prompt.prefix for call in engine.calls} == {suite.opening}
    assert {call.sampler.stop for call in engine.calls} == {("!",)}
    assert pool.samples["sums", "0", "vanilla@1", 0].text == r"So the answer is \boxed{1} apples"
    assert pool.grades["sums", "0", "vanilla@1", 0].answer == "1"


async def test_samplers_share_prompts_and_seeds(tmp_path: Path) -> None:
    """What is compared differs in the sampler alone; problems have seeds of their own."""
    engine = ScriptedEngine(TEXTS)
    await fill(tmp_path / "s.jsonl", plan("vanilla", "esamp"), engine)
    by_prompt: dict[Prompt, set[int | None]] = {}
    for call in engine.calls:
        by_prompt.setdefault(call.prompt, set()).add(call.sampler.seed)
    assert all(len(seeds) == 1 for seeds in by_prompt.values())
    assert len(set.union(*by_prompt.values())) == len(PROBLEMS)


async def test_a_full_pool_is_not_drawn_again(tmp_path: Path) -> None:
    """The second run of the same plan asks the engine for nothing."""
    path = tmp_path / "s.jsonl"
    await fill(path, plan(), ScriptedEngine(TEXTS))
    again = ScriptedEngine(TEXTS)
    await fill(path, plan(), again)
    assert again.calls == []


async def test_a_pool_grows(tmp_path: Path) -> None:
    """More samples are drawn beside those that are there, with another seed."""
    path = tmp_path / "s.jsonl"
    before = await fill(path, plan(n=2), ScriptedEngine(TEXTS))
    engine = ScriptedEngine(TEXTS)
    pool = await fill(path, plan(n=5), engine)
    assert [call.n for call in engine.calls] == [3] * 6
    assert len(pool.samples) == 6 * 5
    assert all(pool.samples[key] == held for key, held in before.samples.items())
    mine = [s for s in pool.samples.values() if s.problem == "0"]
    assert [(s.index, s.draw) for s in mine] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)]
    assert len({s.seed for s in mine}) == 2


async def test_failed_samples_are_drawn_next_time(tmp_path: Path) -> None:
    """A sample that fails costs itself alone, its reason is kept, and the next run tries again."""
    path = tmp_path / "s.jsonl"
    pool = await fill(path, plan(n=3), ScriptedEngine([TEXTS[0], ValueError("lost"), TEXTS[1]]))
    assert {key[3] for key in pool.samples} == {0, 2}
    assert pool.draws[0].failures == ("lost",)
    pool = await fill(path, plan(n=3), ScriptedEngine(TEXTS))
    assert len(pool.samples) == 6 * 3


class Failing(ScriptedEngine):
    """An engine whose request for one question fails as a whole."""

    def __init__(self, error: Exception) -> None:
        super().__init__(TEXTS)
        self.error = error

    async def adraw(self, prompt: Prompt, n: int, sampler: Sampler, **hooks: object) -> Samples:
        """Fail on one question."""
        if prompt.question.startswith("What is 3"):
            raise self.error
        return await super().adraw(prompt, n, sampler, **hooks)  # type: ignore[arg-type]


async def test_a_failed_request_costs_its_own_samples_alone(tmp_path: Path) -> None:
    """The other problems are drawn; the reason is stored."""
    pool = await fill(tmp_path / "s.jsonl", plan(), Failing(EngineError("no luck")))
    assert {key[1] for key in pool.samples} == {"0", "1", "2", "4", "5"}
    assert [d.failures for d in pool.draws if d.problem == "3"] == [("no luck",)]


async def test_a_dead_engine_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    """What finished before stays; the next run completes it."""
    path = tmp_path / "s.jsonl"
    with pytest.raises(EngineStopped):
        await fill(path, plan(), Failing(EngineStopped("gone")))
    engine = ScriptedEngine(TEXTS)
    held = len(read_pool(path).samples)
    pool = await fill(path, plan(), engine)
    assert len(pool.samples) == 6 * 4
    assert sum(call.n for call in engine.calls) == 6 * 4 - held


async def test_esamp_and_open_tasks_are_recorded(tmp_path: Path) -> None:
    """ESamp's report is kept without numbers that JSON lacks; open tasks have no right answer."""
    engine = ScriptedEngine(["Once"], esamp=ESampReport(4, 2, {}, float("nan")))
    suite = open_ended(Task("stories", (Problem("Tell a story.", None, "1"),)))
    pool = await fill(tmp_path / "s.jsonl", plan("esamp", suite=suite), engine)
    assert pool.draws[0].esamp is not None
    assert pool.draws[0].esamp["rows_mixed"] == 4
    assert pool.draws[0].esamp["relative_error"] is None
    assert {grade.correct for grade in pool.grades.values()} == {None}


async def test_a_scorer_that_fails_is_no_wrong_answer(tmp_path: Path) -> None:
    """The grade has the reason in place of a score."""

    def score(answer: str, problem: Problem) -> float:
        raise ScoreError("broken scorer")

    pool = await fill(
        tmp_path / "s.jsonl",
        plan(n=1, suite=maths(Task("sums", PROBLEMS, score))),
        ScriptedEngine(TEXTS),
    )
    grade = pool.grades["sums", "0", "vanilla@1", 0]
    assert (grade.score, grade.correct, grade.error) == (None, None, "broken scorer")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Plan((maths(TASK),), arms(["vanilla"], [1.0], 32), 4, seed=4), "seed 3"),
        (Plan((maths(TASK, "Say it."),), arms(["vanilla"], [1.0], 32), 4, 3), "other settings"),
        (Plan((maths(TASK),), arms(["vanilla"], [1.0], 64), 4, 3), "'vanilla@1'"),
        (
            Plan(
                (maths(Task("sums", (Problem("What is 9?", "9", "0"),))),),
                arms(["vanilla"], [1.0], 32),
                4,
                3,
            ),
            "another question",
        ),
    ],
)
async def test_a_pool_of_something_else_is_not_continued(
    tmp_path: Path, other: Plan, message: str
) -> None:
    """Another seed, prompt, sampler or question must go to another folder."""
    path = tmp_path / "s.jsonl"
    await fill(path, plan(), ScriptedEngine(TEXTS))
    engine = ScriptedEngine(TEXTS)
    with pytest.raises(InvalidInput, match=message):
        await fill(path, other, engine)
    assert engine.calls == []


def test_seeds_differ_by_problem_and_draw_and_leave_room() -> None:
    """Samples of one request count up from its seed, and must not leave the legal range."""
    seeds = {draw_seed(0, "t", str(p), d) for p in range(50) for d in range(4)}
    assert len(seeds) == 200
    assert max(seeds) + 4096 < 2**31


SCRIPT = """
import asyncio, random, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_evaluation_runner import TEXTS, fill, plan
from ttscale.testing import ScriptedEngine

async def gate(prompt, index):
    await asyncio.sleep(random.random() * 0.03)

todo = plan("vanilla", "esamp", n=16)
asyncio.run(fill(Path(sys.argv[1]), todo, ScriptedEngine(TEXTS, gate=gate)))
"""


def test_kill_dash_nine_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Runs are killed as lines appear; the last one completes the pool, each sample once."""
    path = tmp_path / "s.jsonl"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    held: set[tuple[str, str, str, int]] = set()
    for lines in (25, 90, 200):
        process = subprocess.Popen([sys.executable, str(script), str(path)])
        while process.poll() is None and _lines(path) < lines:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        found = read_pool(path)
        assert held <= found.samples.keys()
        held = set(found.samples)
    assert 0 < len(held) < 192
    subprocess.run([sys.executable, str(script), str(path)], check=True, timeout=60)
    pool = read_pool(path)
    assert len(pool.samples) == len(pool.grades) == 6 * 2 * 16
    written = path.read_text().splitlines()
    assert sum(line.startswith('{"type": "sample"') for line in written) == 192


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
