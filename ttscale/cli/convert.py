"""`ttscale convert`: a pool from or to the files of other harnesses."""

from __future__ import annotations

import argparse
from pathlib import Path

from ttscale.cli.codes import DONE
from ttscale.cli.screen import Screen
from ttscale.errors import InvalidInput
from ttscale.evaluation.exchange import Converted, write_pool
from ttscale.evaluation.pool import NAME, read_pool

LOGS = (".eval", ".json")
"""Endings of inspect_ai's logs; samples of lm-evaluation-harness end in `.jsonl`."""


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Convert, and say what the other format does not hold.

    Raises:
        InvalidInput: A source cannot be read, or the target is there already.
        MissingDependency: inspect_ai is needed and not installed.
    """
    out = Path(args.out)
    if args.to == "pool":
        done = [_load(Path(source)) for source in args.source]
        files = [write_pool(out, [record for one in done for record in one.records])]
        lost = list(dict.fromkeys(text for one in done for text in one.lost))
    else:
        if len(args.source) > 1:
            raise InvalidInput(f"--to {args.to} takes one folder, got {len(args.source)}")
        one = _export(Path(args.source[0]), args.to, out)
        files, lost = list(one.files), list(one.lost)
    screen.show(*(str(path) for path in files))
    for text in lost:
        screen.note(f"not kept: {text}")
    return DONE


def _load(source: Path) -> Converted:
    if source.suffix in LOGS:
        from ttscale.evaluation import inspect_files

        return inspect_files.load(source)
    if source.suffix != ".jsonl":
        raise InvalidInput(
            f"{str(source)!r} must be samples_*.jsonl of lm-evaluation-harness, or a log of "
            "inspect_ai (.eval, .json)"
        )
    from ttscale.evaluation import lm_eval_files

    return lm_eval_files.load(source)


def _export(folder: Path, to: str, out: Path) -> Converted:
    if not (folder / NAME).is_file():
        raise InvalidInput(f"{str(folder)!r} holds no {NAME}; give a folder of `ttscale eval`")
    pool = read_pool(folder / NAME)
    if to == "inspect":
        from ttscale.evaluation import inspect_files

        return inspect_files.export(pool, out)
    from ttscale.evaluation import lm_eval_files

    return lm_eval_files.export(pool, out)
