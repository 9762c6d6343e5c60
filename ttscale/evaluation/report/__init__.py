"""The report of an evaluation: one HTML page, one Markdown page, plots and figures as JSON."""

from ttscale.evaluation.report.write import write_report

__all__ = ["write_report"]
