"""`ttscale serve`: vLLM's OpenAI-compatible server, with ESamp and the strategies in it."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec

from ttscale.errors import MissingDependency
from ttscale.esamp.settings import KEY_PREFIX, ESamp

# as in ttscale.worker.callers, which this ring does not import
DEFAULTS = "TTSCALE_ESAMP_DEFAULTS"
SHARE_GROUPS = "TTSCALE_ESAMP_SHARE_GROUPS"
SECRET = "TTSCALE_SERVER_SECRET"  # noqa: S105 - the name of the variable
MODULE = "ttscale.worker.serve"

Launch = Callable[[Sequence[str], Mapping[str, str]], None]


def become(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by `command`, so that signals and the exit code are the server's."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], list(command), dict(environment))  # noqa: S606 - our own interpreter


def run(args: argparse.Namespace, rest: Sequence[str], launch: Launch = become) -> int:
    """Check our own flags and start the server with all others.

    Raises:
        InvalidInput: A default of ESamp is outside its legal range.
        MissingDependency: vLLM is not installed.
    """
    environment = {**os.environ, **settings(args)}
    environment.setdefault(SECRET, secrets.token_hex(32))
    if find_spec("vllm") is None:
        raise MissingDependency(
            "ttscale serve needs vLLM: install ttscale[cpu] or, with an NVIDIA GPU, ttscale[gpu]"
        )
    launch([sys.executable, "-m", MODULE, *rest], environment)
    return 0


def settings(args: argparse.Namespace) -> dict[str, str]:
    """The environment variables that our flags stand for."""
    given = {KEY_PREFIX + f.name: getattr(args, KEY_PREFIX + f.name, None) for f in fields(ESamp)}
    keys = {key: value for key, value in given.items() if value is not None}
    ESamp.from_keys(keys)
    made = {DEFAULTS: json.dumps(keys)} if keys else {}
    return made | ({SHARE_GROUPS: "1"} if args.esamp_share_groups else {})
