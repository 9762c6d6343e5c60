"""`ttscale solve`: answer a question, a file of questions, or a task."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from contextlib import ExitStack

from ttscale.cli.codes import DONE, NO_ENGINE, RUN_FAILED
from ttscale.cli.engine import EngineFactory, factory_of, first_model
from ttscale.cli.job import Job, job_of
from ttscale.cli.jsonl import line_of
from ttscale.cli.progress import Progress
from ttscale.cli.render import accuracy_view, result_view
from ttscale.cli.results import Result, result_of, shares
from ttscale.cli.screen import Screen
from ttscale.engines import Engine
from ttscale.errors import TTScaleError
from ttscale.evaluation import Problem
from ttscale.models import EMBEDDED
from ttscale.strategies import arun

Emit = Callable[[Result], None]


def run(args: argparse.Namespace, screen: Screen, engine_factory: EngineFactory) -> int:
    """Solve what the arguments ask for; results are printed in order, as soon as they can be.

    Raises:
        InvalidInput: The arguments are refused; no engine was started.
        KeyboardInterrupt: After everything that was finished has been printed.
    """
    job = job_of(args)
    for error in job.line_errors:
        screen.error(f"{args.file}, line {error.line}: {error.reason}")
    with ExitStack() as stack:
        try:
            named = args.model or (first_model(args.base_url) if args.base_url else EMBEDDED)
            engine = stack.enter_context(factory_of(args, engine_factory)(named))
        except TTScaleError as error:
            screen.error(error)
            return NO_ENGINE
        results = _solve(job, engine, screen, as_json=args.json)
    failed = job.line_errors or any(result.lost for result in results)
    return RUN_FAILED if failed else DONE


def _solve(job: Job, engine: Engine, screen: Screen, *, as_json: bool) -> list[Result]:
    """Run the job, print every result and at the end the accuracies."""
    results: list[Result] = []
    progress = Progress(screen, len(job.task.problems), job.n)

    def emit(result: Result) -> None:
        results.append(result)
        with progress.paused():
            _print(result, job, screen, as_json=as_json)

    try:
        with progress:
            asyncio.run(solve_all(job, engine, progress, emit))
    finally:
        _print_accuracy(results, screen, as_json=as_json)
    return results


async def solve_all(job: Job, engine: Engine, progress: Progress, emit: Emit) -> None:
    """Solve the problems concurrently and hand their results to `emit`, in order.

    When it is cancelled, what has finished is handed on first.
    """
    permits = asyncio.Semaphore(job.concurrency)

    async def one(problem: Problem) -> Result:
        async with permits:
            result = await solve_one(job, problem, engine, progress)
        progress.question()
        return result

    tasks = [asyncio.create_task(one(problem)) for problem in job.task.problems]
    handed = 0
    try:
        for task in tasks:
            emit(await task)
            handed += 1
    except asyncio.CancelledError:
        for task in tasks[handed:]:
            if task.done() and not task.cancelled() and task.exception() is None:
                emit(task.result())
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def solve_one(job: Job, problem: Problem, engine: Engine, progress: Progress) -> Result:
    """Solve one problem; an error loses this question and none of the others."""
    try:
        outcome = await arun(
            job.strategy,
            engine,
            job.prompt(problem),
            seed=job.seed,
            budget=job.budget,
            on_candidate=progress.sample,
        )
        return await asyncio.to_thread(result_of, job.task, problem, outcome)
    except TTScaleError as error:
        return Result(problem, None, error=str(error))


def _print(result: Result, job: Job, screen: Screen, *, as_json: bool) -> None:
    if as_json:
        screen.line(line_of(result, job.strategy.name, job.n))
    else:
        screen.show(*result_view(result))
    if result.lost:
        screen.error(f"question {result.problem.id} was lost: {result.error}")


def _print_accuracy(results: list[Result], screen: Screen, *, as_json: bool) -> None:
    """Print the accuracies when answers are known; to stderr if stdout is for JSON alone."""
    if not any(result.grade for result in results):
        return
    lost = sum(result.lost for result in results)
    view = accuracy_view(shares(results), lost)
    if as_json:
        screen.note(*view)
    else:
        screen.show(*view)
