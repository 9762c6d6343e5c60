"""`ttscale verify`: does ESamp work in the vLLM that is installed here?"""

from __future__ import annotations

import argparse

from ttscale.cli.screen import Screen


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Run the check of the worker, which needs vLLM, and return its exit code."""
    from ttscale.worker.verify import run as run_checks

    return run_checks(json=args.json, console=screen.out)
