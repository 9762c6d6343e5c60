"""The arguments of `ttscale convert`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttscale.cli.parser import Parser

CONVERT_NOTES = """\
lm-evaluation-harness: samples_*.jsonl, as `lm_eval --log_samples` writes them; inspect_ai: logs, as
`inspect eval` writes them (needs ttscale[inspect]). What the other format does not hold is said.

examples:
  ttscale convert runs/sum --to lm-eval --out runs/sum-lm-eval
  ttscale convert runs/sum --to inspect --out logs
  ttscale convert results/gpt2/samples_gsm8k_2026-01-01T00-00-00.jsonl --to pool --out runs/gpt2
  ttscale convert logs/*.eval --to pool --out runs/logs
"""


def add_convert(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `ttscale convert`."""
    parser = commands.add_parser(
        "convert",
        help="make a pool of other harnesses' files, or their files of a pool",
        description="Convert samples from and to lm-evaluation-harness and inspect_ai.",
        epilog=CONVERT_NOTES,
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="files, or a pool's folder")
    parser.add_argument(
        "--to", choices=("pool", "lm-eval", "inspect"), required=True, help="what to write"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write to")
