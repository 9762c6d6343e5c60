"""Putting a report into its folder."""

from __future__ import annotations

from pathlib import Path

from ttscale.errors import InvalidInput
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.report.html import page
from ttscale.evaluation.report.markdown import markdown
from ttscale.evaluation.report.plots import Plot, plots
from ttscale.evaluation.report.tables import vote_tables
from ttscale.evaluation.summary import Summary, to_json

SUMMARY, MARKDOWN, PAGE, PLOTS = "summary.json", "report.md", "report.html", "plots"


def write_report(folder: str | Path, pool: Pool, summary: Summary) -> tuple[Path, ...]:
    """Write summary.json, report.md, report.html and plots/ (SVG and PNG); returns the first three.

    Raises:
        InvalidInput: The folder cannot be written to.
        MissingDependency: matplotlib is not installed.
    """
    where = Path(folder)
    drawn = {task.task: plots(task) for task in summary.tasks}
    tables = {task.task: vote_tables(pool, task) for task in summary.tasks}
    texts = {
        SUMMARY: to_json(summary),
        MARKDOWN: markdown(summary, drawn, PLOTS),
        PAGE: page(summary, drawn, tables),
    }
    try:
        (where / PLOTS).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (where / name).write_text(text, encoding="utf-8", errors="replace")
        for task in drawn.values():
            for plot in task:
                _write_plot(where / PLOTS, plot)
    except OSError as error:
        raise InvalidInput(f"cannot write to {str(where)!r}: {error.strerror or error}") from error
    return tuple(where / name for name in texts)


def _write_plot(folder: Path, plot: Plot) -> None:
    (folder / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")
    (folder / f"{plot.name}.png").write_bytes(plot.png)
