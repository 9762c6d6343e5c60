"""Arguments of `ttscale solve` that say how a strategy works and what it may cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import Budget, Strategy, make
from ttscale.strategies.factory import NEED_VERIFIER
from ttscale.verifiers import SelfJudge

VERIFIERS = ("self-judge",)


def add_strategy_settings(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    group = parser.add_argument_group("strategy and budget of each question")
    group.add_argument(
        "--verifier",
        choices=VERIFIERS,
        help="what scores the samples (default: self-judge for strategies that need one)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the strategy, as `ttscale strategies` lists them; may be repeated",
    )
    group.add_argument("--max-samples", type=int, help="most samples")
    group.add_argument("--max-total-tokens", type=int, help="most tokens, read and written")
    group.add_argument("--deadline", type=float, metavar="SECONDS", help="longest time")


def strategy_of(args: argparse.Namespace, sampler: Sampler, kind: str) -> Strategy[Any]:
    """The strategy of the arguments; the model judges itself where a verifier is needed.

    Raises:
        InvalidInput: A setting is unknown or refused, or the strategy takes no verifier.
        MissingDependency: The strategy needs an extra that is not installed.
    """
    judged = args.verifier is not None or args.strategy in NEED_VERIFIER
    verifier = SelfJudge() if judged else None
    return make(args.strategy, args.n, sampler, verifier, kind, **settings_of(args.set))


def settings_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings from texts like `keep=0.3`; a value that is no JSON is a text.

    Raises:
        InvalidInput: A text has no `=`, or sets what has an option of its own.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark or not name:
            raise InvalidInput(f"--set takes NAME=VALUE, got {pair!r}")
        if name in ("n", "sampler", "kind", "verifier", "judge", "feedback", "similarity"):
            raise InvalidInput(f"--set cannot set {name!r}; see `ttscale solve --help`")
        settings[name] = _value(value)
    return settings


def budget_of(args: argparse.Namespace) -> Budget:
    """The budget of each question.

    Raises:
        InvalidInput: A limit is refused.
    """
    return Budget(args.max_samples, args.max_total_tokens, args.deadline)


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, list | dict):
        raise InvalidInput(f"--set takes numbers, texts, true, false and null, got {text!r}")
    return value
