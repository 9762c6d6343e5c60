"""What `ttscale solve` was asked to do, checked before any engine is started."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttscale import _check
from ttscale.cli.strategy_parser import budget_of, strategy_of
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.evaluation import LineError, Problem, Task, from_jsonl, from_reasoning_gym
from ttscale.evaluation.word_problems import word_problems
from ttscale.sampling import Sampler
from ttscale.strategies import Budget, Strategy
from ttscale.types import Prompt

MATHS_INSTRUCTION = "Give the final answer as \\boxed{answer}."
"""What follows every question, unless `--instruction` or `--kind text` says otherwise."""

TASK_COUNT = 20
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Job:
    """Everything needed to solve, but the engine."""

    task: Task
    strategy: Strategy[Any]
    n: int
    budget: Budget
    line_errors: tuple[LineError, ...]
    system: str | None
    instruction: str
    seed: int | None
    concurrency: int

    def prompt(self, problem: Problem) -> Prompt:
        """The problem as it is put to the model."""
        parts = (problem.question, self.instruction)
        return Prompt.of("\n\n".join(part for part in parts if part), self.system)


def job_of(args: argparse.Namespace) -> Job:
    """Check the arguments and make the job.

    Raises:
        InvalidInput: An argument is missing, unknown or out of range.
        MissingDependency: The task needs an extra that is not installed.
    """
    _check.integer("concurrency", args.concurrency, 1)
    if args.seed is not None:
        _check.integer("seed", args.seed, 0, 2**31 - 1)
    sampler = sampler_of(args)
    task, line_errors = task_of(args)
    kind = args.kind or kind_of(task)
    default = "" if kind == "text" else MATHS_INSTRUCTION
    return Job(
        task=task,
        strategy=strategy_of(args, sampler, kind),
        n=args.n,
        budget=budget_of(args),
        line_errors=line_errors,
        system=args.system or None,
        instruction=default if args.instruction is None else args.instruction,
        seed=args.seed,
        concurrency=args.concurrency,
    )


def sampler_of(args: argparse.Namespace) -> Sampler:
    """The sampler of the arguments."""
    return Sampler(
        temperature=args.temperature,
        top_p=args.top_p,
        max_tokens=args.max_tokens,
        seed=args.seed,
        esamp=esamp_of(args),
        fire_temperature=args.fire_temperature,
    )


def esamp_of(args: argparse.Namespace) -> ESamp | None:
    """ESamp's settings, or None for `--no-esamp`, which allows none of them."""
    given = {"beta": args.beta, "distiller": args.distiller, "scope": args.scope}
    settings = {name: value for name, value in given.items() if value is not None}
    if args.esamp:
        return ESamp(**settings, seed=args.seed or 0)
    if settings:
        raise InvalidInput(f"--{next(iter(settings))} has no meaning with --no-esamp; drop one")
    return None


def task_of(args: argparse.Namespace) -> tuple[Task, tuple[LineError, ...]]:
    """The problems to solve, and the broken lines of the file if they come from one."""
    given = [s for s in (args.question, args.file, args.task) if s is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"give one of a question, --file and --task; got {len(given) or 'none'} of them"
        )
    if args.count is not None:
        if args.question is not None:
            raise InvalidInput("--count has no meaning with a single question; drop it")
        _check.integer("count", args.count, 1)
    if args.file is not None:
        return _file_task(args.file, args.count)
    if args.question is not None:
        Prompt.of(args.question)  # refuses an empty one
        return Task("question", (Problem(args.question, None, "1"),)), ()
    return _named_task(args.task, args.count or TASK_COUNT, args.seed or 0), ()


def _named_task(name: str, count: int, seed: int) -> Task:
    if name == "word_problems":
        return word_problems(count, seed)
    return from_reasoning_gym(name, count, seed)


def _file_task(path: str, count: int | None) -> tuple[Task, tuple[LineError, ...]]:
    problems, errors = from_jsonl(path)
    if not problems:
        first = f"; line {errors[0].line}: {errors[0].reason}" if errors else ""
        raise InvalidInput(f"{path!r} holds no problem that can be read{first}")
    return Task(Path(path).name, problems[:count]), errors


def kind_of(task: Task) -> str:
    """`number` when answers are known and all of them are plain numbers, else `auto`."""
    golds = [problem.gold for problem in task.problems if problem.gold is not None]
    return "number" if golds and all(_NUMBER.fullmatch(gold) for gold in golds) else "auto"
