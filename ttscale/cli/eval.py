"""`ttscale eval`: fill a pool of samples, then say what it shows."""

from __future__ import annotations

import argparse
import asyncio
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ttscale import _check
from ttscale.cli import report
from ttscale.cli.codes import DONE, NO_ENGINE, RUN_FAILED
from ttscale.cli.engine import EngineFactory, factory_of, first_model, ray_engine
from ttscale.cli.eval_progress import EvalProgress
from ttscale.cli.screen import Screen
from ttscale.engines import Engine
from ttscale.engines.batch import BatchEngine
from ttscale.errors import InvalidInput, TTScaleError
from ttscale.evaluation.batch import BatchRunner
from ttscale.evaluation.book import Plan, check_plan
from ttscale.evaluation.config import Config, config_of, read_config
from ttscale.evaluation.pool import NAME, Pool, PoolWriter, read_pool
from ttscale.evaluation.runner import Runner

REDRAWS = 2
"""How often what servers did not bring is asked for again, within one run."""
FLAGS = ("model", "n", "seed", "max_tokens", "concurrency")
OF_TASK = ("count", "instruction", "system", "opening", "stop")
WORDS = (
    *("config", "task", *OF_TASK, "sampler", "temperatures", "judge"),
    *(*FLAGS, "base_url", "ray", "ray_address", "out"),
)
Start = Callable[[], AbstractContextManager[Engine | BatchEngine]]


def run(args: argparse.Namespace, screen: Screen, engine_factory: EngineFactory) -> int:
    """Draw what the folder lacks and write its report.

    Raises:
        InvalidInput: The arguments are refused, or do not continue what the folder holds.
        KeyboardInterrupt: After everything that was finished has been stored.
    """
    check_places(args)
    config = settings_of(args)
    folder = Path(args.out)
    plan = replace(config.plan(command_of(args)), redraws=REDRAWS if args.base_url else 0)
    start = start_of(args, config, plan, engine_factory)
    pool = read_pool(folder / NAME)
    check_plan(plan, pool, config.model)
    options = report.options_of(args, config.prices.model_dump())
    if not args.no_report:  # before hours of drawing, not after
        report.check_libraries(options)
    with PoolWriter(folder / NAME) as writer:
        try:
            _fill(plan, pool, writer, screen, start)
        except _NoEngine as error:
            screen.error(error)
            return NO_ENGINE
    failed = plan.total - held(plan, pool)
    if failed:
        screen.error(f"{failed} samples could not be drawn; the same command tries them again")
    if not args.no_report:
        report.write(folder, screen, options)
    return RUN_FAILED if failed else DONE


class _NoEngine(TTScaleError):
    """The engine could not be made."""


def start_of(
    args: argparse.Namespace, config: Config, plan: Plan, engine_factory: EngineFactory
) -> Start:
    """What starts the engine that was asked for.

    Raises:
        InvalidInput: The arguments about Ray are refused.
        MissingDependency: Ray is asked for and not installed.
    """
    if args.ray is None:
        return partial(factory_of(args, engine_factory), config.model)
    if config.judges:
        raise InvalidInput("--ray starts engines that only draw; drop it, or the judges")
    if by_others := [arm.family for arm in plan.arms if arm.by is not None]:
        raise InvalidInput(
            f"sampler {by_others[0]!r} asks the model step by step, which --ray cannot; drop one"
        )
    from ttscale.scaleout.ray_data import check_installed

    check_installed()
    return partial(ray_engine, config.model, args.ray, args.ray_address, config.concurrency)


def check_places(args: argparse.Namespace) -> None:
    """Raise InvalidInput unless the flags say in one way where engines are."""
    if args.ray is None:
        if args.ray_address is not None:
            raise InvalidInput("--ray-address has no meaning without --ray; give both")
        return
    _check.integer("--ray", args.ray, 1)
    if args.base_url:
        raise InvalidInput("--ray starts engines, --base-url names servers; give one of them")


def _fill(plan: Plan, pool: Pool, writer: PoolWriter, screen: Screen, start: Start) -> None:
    """Draw what is missing; without anything missing no engine is started."""
    if is_full(plan, pool):
        screen.note("every sample is there already; no engine is started")
        return
    progress = EvalProgress(screen, plan, pool)
    try:
        context = start()
    except InvalidInput:
        raise
    except TTScaleError as error:
        raise _NoEngine(str(error)) from error
    with context as engine:
        try:
            with progress:
                if isinstance(engine, BatchEngine):
                    BatchRunner(plan, pool, writer, engine, progress.watch).fill()
                else:
                    asyncio.run(Runner(plan, pool, writer, engine, progress.watch).fill())
        except KeyboardInterrupt:
            screen.note(
                f"{held(plan, pool)} of {plan.total} samples are stored; the same command goes on"
            )
            raise


def held(plan: Plan, pool: Pool) -> int:
    """How many of the plan's samples the pool holds."""
    return sum(key in pool.samples for key in plan.sample_keys())


def is_full(plan: Plan, pool: Pool) -> bool:
    """Whether every sample of the plan is there and graded, and judged where that is asked for."""
    return all(key in pool.samples and key in pool.grades for key in plan.sample_keys()) and all(
        key in pool.selections for key in plan.selection_keys()
    )


def settings_of(args: argparse.Namespace) -> Config:
    """The configuration file, if there is one, with the flags put over it."""
    values = read_config(args.config) if args.config else {}
    for name in FLAGS:
        if (given := getattr(args, name)) is not None:
            values[name] = given
    if args.base_url and "model" not in values:
        values["model"] = first_model(args.base_url)
    if args.sampler:
        values["samplers"] = args.sampler
    if args.judge:
        values["judges"] = args.judge
    if args.temperatures is not None:
        values["temperatures"] = _numbers(args.temperatures)
    of_task = {key: given for key in OF_TASK if (given := getattr(args, key)) is not None}
    if args.task:
        values["task"] = [{"name": name, **of_task} for name in args.task]
    elif of_task:
        raise InvalidInput(
            f"--{next(iter(of_task))} goes with --task; in a file it is a key of a [[task]]"
        )
    if "task" not in values:
        raise InvalidInput("name at least one task with --task, or a configuration file")
    return config_of(values, args.config or "the arguments")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InvalidInput(
            f"--temperatures must be numbers with commas between, got {text!r}"
        ) from error


def command_of(args: argparse.Namespace) -> str:
    """The command line, as it can be given again."""
    words = ["ttscale", "eval"]
    for name in WORDS:
        given = getattr(args, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None:
                words += ["--" + name.replace("_", "-"), str(value)]
    return shlex.join(words)
