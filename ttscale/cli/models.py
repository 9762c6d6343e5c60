"""`ttscale models`: the models that come with ttscale."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from ttscale import models
from ttscale.cli.codes import DONE
from ttscale.cli.screen import Screen

MEGABYTE = 1_000_000


def run(args: argparse.Namespace, screen: Screen) -> int:
    """List the models, or make the embedded one and print its folder."""
    if args.action == "pull":
        screen.line(str(models.pull(screen.note)))
    else:
        screen.show(model_table())
    return DONE


def model_table() -> Table:
    """One row per model: name, whether it is there, size on disk, folder."""
    table = Table("model", "present", "size", box=None, header_style="")
    table.add_column("folder", overflow="fold")  # a path that is cut cannot be used
    if folder := models.embedded_path():
        size = f"{folder_bytes(folder) / MEGABYTE:.0f} MB"
        table.add_row(models.EMBEDDED, "yes", size, str(folder))
    else:
        place = "run `ttscale models pull` (93 MB; made on first use otherwise)"
        table.add_row(models.EMBEDDED, "no", "-", place)
    return table


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder, in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
