"""`ttscale report`: write an evaluation's report anew from its pool, without an engine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ttscale.cli.codes import DONE
from ttscale.cli.screen import Screen, visible
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.evaluation.cost import Prices
from ttscale.evaluation.figures import figure
from ttscale.evaluation.pool import NAME, read_pool

if TYPE_CHECKING:
    from ttscale.evaluation.metrics.perplexity import Remembered
    from ttscale.evaluation.summary import TaskSummary

EMBEDDINGS, LIKELIHOODS = "embeddings.npz", "perplexity.npz"
NONE = "none"
SHOWN = ("pass@1", "pass@n", "majority@n", "vendi", "distinct_2")


@dataclass(frozen=True)
class ReportOptions:
    """What the arguments say of the report."""

    embeddings: str
    resamples: int
    perplexity_model: str | None = None
    prices: Prices = field(default_factory=Prices)


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


def options_of(
    args: argparse.Namespace, prices: Mapping[str, float | None] | None = None
) -> ReportOptions:
    """The report's options among the arguments, whose prices go over those given.

    Raises:
        InvalidInput: A price is refused.
    """
    given = {name: getattr(args, f"price_{name}") for name in ("prompt", "completion", "hour")}
    flags = {name: price for name, price in given.items() if price is not None}
    total = Prices(**{**(prices or {}), **flags})
    return ReportOptions(args.embeddings, args.resamples, args.perplexity_model, total)


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
    if options.embeddings != NONE:
        model_folder()


def write(folder: Path, screen: Screen, options: ReportOptions) -> None:
    """Measure the folder's pool, write the report, say what was found."""
    check_libraries(options)
    from ttscale.evaluation.metrics import embeddings
    from ttscale.evaluation.report import write_report
    from ttscale.evaluation.summary import summarise

    pool = read_pool(folder / NAME)
    embedder = None
    if options.embeddings != NONE:
        embedder = embeddings.Remembered(embeddings.MiniLM(), folder / EMBEDDINGS)
    reader = _reader(folder / LIKELIHOODS, options.perplexity_model)
    screen.note("measuring")
    summary = summarise(pool, embedder, options.resamples, reader, options.prices)
    for kept in (embedder, reader):
        if kept is not None:
            kept.save()
    written = write_report(folder, pool, summary)
    for task in summary.tasks:
        screen.show(f"{visible(task.task)}: {visible(task.headline)}", _table(task), "")
    screen.show(*(str(path) for path in written))


def _reader(path: Path, name: str | None) -> Remembered | None:
    """What measures perplexity: under the model of that name, else under the folder's so far."""
    from ttscale.evaluation.metrics.perplexity import Remembered, model_in

    found = model_in(path) if name is None else name
    return None if found in (None, NONE) else Remembered(str(found), path)


def _table(task: TaskSummary) -> Table:
    """The main figures of each sampler."""
    names = [name for name in SHOWN if name in task.arms[0].figures]
    labels = (figure(name).label.format(n=task.n) for name in names)
    table = Table("sampler", *labels, box=None, header_style="")
    for arm in task.arms:
        values = (figure(name).show(arm.figures[name].value) for name in names)
        table.add_row(Text(arm.sampler), *values)
    return table
