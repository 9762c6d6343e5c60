"""`ttscale report`: write an evaluation's report anew from its pool, without an engine."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ttscale.cli.codes import DONE
from ttscale.cli.screen import Screen, visible
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.evaluation.figures import figure
from ttscale.evaluation.pool import NAME, read_pool

if TYPE_CHECKING:
    from ttscale.evaluation.summary import TaskSummary

EMBEDDINGS = "embeddings.npz"
SHOWN = ("pass@1", "pass@n", "majority@n", "vendi", "distinct_2")


@dataclass(frozen=True)
class ReportOptions:
    """What the arguments say of the report."""

    embeddings: str
    resamples: int


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Write the report of a folder.

    Raises:
        InvalidInput: The folder holds no pool, or no problem is complete.
        MissingDependency: A package that a measure needs is not installed.
    """
    folder = Path(args.folder)
    if not (folder / NAME).is_file():
        raise InvalidInput(f"{str(folder)!r} holds no {NAME}; give a folder of `ttscale eval`")
    write(folder, screen, options_of(args))
    return DONE


def options_of(args: argparse.Namespace) -> ReportOptions:
    """The report's options among the arguments."""
    return ReportOptions(args.embeddings, args.resamples)


def check_libraries(options: ReportOptions) -> None:
    """Raise MissingDependency unless everything that the report needs is installed."""
    try:
        import sacrebleu  # noqa: F401 - whether it is there
        import vendi_score  # noqa: F401

        from ttscale.evaluation.metrics.embeddings import model_folder
        from ttscale.evaluation.report.plots import check_matplotlib
    except ImportError as error:
        raise MissingDependency(
            f"reports need {error.name}; run pip install 'ttscale[eval]', or give --no-report"
        ) from error
    check_matplotlib()
    if options.embeddings != "none":
        model_folder()


def write(folder: Path, screen: Screen, options: ReportOptions) -> None:
    """Measure the folder's pool, write the report, say what was found."""
    check_libraries(options)
    from ttscale.evaluation.metrics.embeddings import MiniLM, Remembered
    from ttscale.evaluation.report import write_report
    from ttscale.evaluation.summary import summarise

    pool = read_pool(folder / NAME)
    embedder = Remembered(MiniLM(), folder / EMBEDDINGS) if options.embeddings != "none" else None
    screen.note("measuring")
    summary = summarise(pool, embedder, options.resamples)
    if embedder is not None:
        embedder.save()
    written = write_report(folder, pool, summary)
    for task in summary.tasks:
        screen.show(f"{visible(task.task)}: {visible(task.headline)}", _table(task), "")
    screen.show(*(str(path) for path in written))


def _table(task: TaskSummary) -> Table:
    """The main figures of each sampler."""
    names = [name for name in SHOWN if name in task.arms[0].figures]
    labels = (figure(name).label.format(n=task.n) for name in names)
    table = Table("sampler", *labels, box=None, header_style="")
    for arm in task.arms:
        values = (figure(name).show(arm.figures[name].value) for name in names)
        table.add_row(Text(arm.sampler), *values)
    return table
