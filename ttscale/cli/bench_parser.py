"""The arguments of `ttscale bench`."""

from __future__ import annotations

import argparse
from typing import Any

from ttscale.bench import STANDARD
from ttscale.bench.workloads import TOKENS
from ttscale.models import EMBEDDED

NOTES = f"""\
A workload is PROMPTSxSAMPLES, then perhaps a scope and a distiller: 1x16, 4x16:shared,
16x4:prompt:swiglu. Without --workload these are timed:
  {", ".join(one.name.replace(" ", ":") for one in STANDARD)}

Each repeat runs the same work with and without ESamp, in changing order; the median ratio, its
95 % interval and the range are shown, and a ratio without work done is refused. The floor is what
the distiller's arithmetic and memory traffic alone would leave, at this machine's speed.

examples:
  ttscale bench
  ttscale bench --workload 1x16 --repeats 9 --json
  ttscale bench --base-url http://localhost:8000/v1 --model NAME --workload 16x4
  ttscale bench --sweep --out bench
"""


def add_bench(commands: Any) -> None:
    """Add the command to the parser's commands."""
    bench = commands.add_parser(
        "bench",
        help="time ESamp against plain sampling on this machine",
        description="Time ESamp against plain sampling, in pairs on one engine.",
        epilog=NOTES,
    )
    _add_what(bench)
    where = bench.add_argument_group("where")
    where.add_argument("--model", default=EMBEDDED, help="name or folder (default: %(default)s)")
    where.add_argument("--dtype", default="auto", help="type of the weights (default: auto)")
    where.add_argument("--base-url", metavar="URL", help="time a running server instead")
    where.add_argument("--json", action="store_true", help="print the result as JSON")
    where.add_argument("--out", metavar="DIR", help="also write bench.json, and a sweep's plots")


def _add_what(bench: argparse.ArgumentParser) -> None:
    what = bench.add_argument_group("what")
    what.add_argument(
        "--workload", action="append", metavar="PxS[:SCOPE[:DISTILLER]]", help="may be repeated"
    )
    what.add_argument("--sweep", action="store_true", help="curves over rows, prompts, width")
    what.add_argument("--repeats", type=int, default=5, help="pairs (default: 5)")
    what.add_argument(
        "--tokens", type=int, default=TOKENS, help=f"length of each sample (default: {TOKENS})"
    )
    what.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
