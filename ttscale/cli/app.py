"""The entry point: reads the arguments, calls the command, turns errors into exit codes."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from ttscale.cli import models, serve, solve, strategies, verify
from ttscale.cli.codes import BAD_INPUT, INTERRUPTED, NO_ENGINE, RUN_FAILED
from ttscale.cli.engine import EngineFactory, local_engine
from ttscale.cli.parser import build_parser
from ttscale.cli.screen import Screen
from ttscale.errors import InvalidInput, MissingDependency, ModelNotFound, TTScaleError


def main(argv: Sequence[str] | None = None, engine_factory: EngineFactory = local_engine) -> int:
    """Run one command and return its exit code.

    Args:
        argv: The arguments; None takes those of the process.
        engine_factory: Makes the engine of a model name, as a context manager.
    """
    _never_fail_to_write()
    screen = Screen()
    try:
        return _command(argv, screen, engine_factory)
    except SystemExit as end:  # --help and --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        screen.note("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone. Python would complain again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RUN_FAILED
    except TTScaleError as error:
        screen.error(error)
        return exit_code(error)


def exit_code(error: TTScaleError) -> int:
    """The code of an error that ended a command."""
    if isinstance(error, InvalidInput):
        return BAD_INPUT
    return NO_ENGINE if isinstance(error, MissingDependency | ModelNotFound) else RUN_FAILED


def _command(argv: Sequence[str] | None, screen: Screen, engine_factory: EngineFactory) -> int:
    parser = build_parser()
    args, rest = parser.parse_known_args(argv)
    if args.command == "serve":
        return serve.run(args, rest)  # vLLM reads what we do not know
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return _run(args, screen, engine_factory)


def _run(args: argparse.Namespace, screen: Screen, engine_factory: EngineFactory) -> int:
    match args.command:
        case "solve":
            return solve.run(args, screen, engine_factory)
        case "eval":
            from ttscale.cli import eval as evaluate

            return evaluate.run(args, screen, engine_factory)
        case "report":
            from ttscale.cli import report

            return report.run(args, screen)
        case "convert":
            from ttscale.cli import convert

            return convert.run(args, screen)
        case "bench":
            from ttscale.cli import bench

            return bench.run(args, screen, engine_factory)
        case "models":
            return models.run(args, screen)
        case "strategies":
            return strategies.run(screen)
        case _:
            return verify.run(args, screen)


def _never_fail_to_write() -> None:
    """Let a terminal that cannot show a character show its escape instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
