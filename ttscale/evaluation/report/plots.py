"""The plots of a report, drawn once by matplotlib: SVG for the page, SVG and PNG as files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ttscale.errors import MissingDependency
from ttscale.evaluation.figures import figure
from ttscale.evaluation.summary import ArmSummary, TaskSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.1, 3.0  # inches: text is legible when the page is as wide as a phone
PNG_DPI = 200
COLOURS = (
    *("#4a4a4a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31"),
    *("#882255", "#332288", "#999933", "#117733"),
)
"""Okabe and Ito's palette, then Paul Tol's; the baseline is grey."""


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        name: Name of its files.
        title: What it shows, in a few words.
        caption: How to read it.
        svg: The picture as an `svg` element.
        png: The picture as PNG.
    """

    name: str
    title: str
    caption: str
    svg: str
    png: bytes


def check_matplotlib() -> None:
    """Raise MissingDependency unless matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401 - whether it is there
    except ImportError as error:
        raise MissingDependency(
            "reports need matplotlib; run pip install 'ttscale[eval]'"
        ) from error


def plots(task: TaskSummary) -> tuple[Plot, ...]:
    """Every plot that the task has figures for.

    Raises:
        MissingDependency: matplotlib is not installed.
    """
    check_matplotlib()
    heat = shown_temperature(task)
    at = f"All at temperature {heat:g}. Bands are 95 % intervals over problems."
    found = [
        _curves(task, "pass", "pass@k", "Solved by at least one of k samples", at),
        _curves(
            task,
            "majority",
            "maj@k",
            "Solved by the majority vote of k samples",
            "Dashed: an oracle that picks a right sample (pass@k). Dotted: a sample picked at "
            f"random (pass@1). {at}",
            bounds=True,
        ),
        _frontiers(task),
        _curves(
            task,
            "distinct",
            "novelty",
            "Novelty over time",
            f"Different answers among the first k samples. {at}",
            label="different answers",
        ),
        _curves(
            task,
            "vendi",
            "vendi",
            "Effective number of different texts",
            f"Vendi score of k samples. {at}",
            label="Vendi score",
        ),
        _curves(
            task,
            "similarity_at",
            "position",
            "Similarity along the text",
            f"Mean cosine of the samples' first words, of some problems. {at}",
            label="similarity",
            across="words read",
        ),
    ]
    return tuple(plot for plot in found if plot is not None)


def shown_temperature(task: TaskSummary) -> float:
    """The temperature at which curves are shown: the middle one that most families have."""
    every = [arm.temperature for arm in task.arms]
    most = max(every.count(heat) for heat in every)
    common = sorted({heat for heat in every if every.count(heat) == most})
    return common[len(common) // 2]


def shown_arms(task: TaskSummary) -> list[ArmSummary]:
    """The samplers at the shown temperature, the baseline first."""
    heat = shown_temperature(task)
    return [arm for arm in task.arms if arm.temperature == heat]


def colour_of(task: TaskSummary, family: str) -> str:
    """The colour of a family, the same in every plot and table."""
    return COLOURS[list(task.families).index(family) % len(COLOURS)]


def _curves(
    task: TaskSummary,
    curve: str,
    name: str,
    title: str,
    caption: str,
    *,
    label: str = "",
    across: str = "samples k",
    bounds: bool = False,
) -> Plot | None:
    """One figure against a number, a line for each family; with `bounds` the best and the random
    selector's beside it."""
    arms = [arm for arm in shown_arms(task) if curve in arm.curves]
    if not arms or len(arms[0].curves[curve].at) < 2:
        return None
    scale = 1.0 if label else 100.0

    def draw(axes: Axes) -> None:
        for arm in arms:
            found, colour = arm.curves[curve], colour_of(task, arm.family)
            low, mean, high = (
                [scale * x for x in part] for part in (found.low, found.mean, found.high)
            )
            axes.fill_between(found.at, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(found.at, mean, color=colour, label=arm.family)
            if bounds and "pass" in arm.curves:
                oracle = [scale * x for x in arm.curves["pass"].mean]
                axes.plot(found.at, oracle, color=colour, linestyle="--", linewidth=0.8)
                axes.axhline(oracle[0], color=colour, linestyle=":", linewidth=0.8)
        axes.set_xlabel(across)
        axes.set_ylabel(label or "problems (%)")
        if not label:
            axes.set_ylim(bottom=0)
        _log_ticks(axes, arms[0].curves[curve].at)

    return _plot(f"{_slug(task.task)}-{name.replace('@', '-at-')}", title, caption, draw)


def _log_ticks(axes: Axes, at: Sequence[int]) -> None:
    """Doublings, evenly spaced: further samples count by ratio."""
    ticks = [k for k in at if k in (at[0], at[-1]) or k & (k - 1) == 0] if len(at) > 8 else at
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(ticks), [str(k) for k in ticks])
    axes.xaxis.minorticks_off()


def _frontiers(task: TaskSummary) -> Plot | None:
    """Diversity against quality: a point for each sampler at each temperature."""
    gain = next((g for g in ("vendi", "distinct_2") if g in task.arms[0].figures), None)
    if gain is None or "pass@1" not in task.arms[0].figures:
        return None
    about = figure(gain)

    def draw(axes: Axes) -> None:
        for family in task.families:
            arms = sorted(
                (arm for arm in task.arms if arm.family == family), key=lambda arm: arm.temperature
            )
            quality, spread = ([arm.figures[name] for arm in arms] for name in ("pass@1", gain))
            axes.errorbar(
                [100 * q.value for q in quality],
                [about.scale * s.value for s in spread],
                xerr=_bars([(100 * q.low, 100 * q.value, 100 * q.high) for q in quality]),
                yerr=_bars(
                    [
                        (about.scale * s.low, about.scale * s.value, about.scale * s.high)
                        for s in spread
                    ]
                ),
                color=colour_of(task, family),
                label=family,
                marker="o",
                markersize=4,
                elinewidth=0.7,
                linewidth=1.2,
            )
            for arm, q, s in zip(arms, quality, spread, strict=True):
                axes.annotate(
                    f"{arm.temperature:g}",
                    (100 * q.value, about.scale * s.value),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=7,
                    color=colour_of(task, family),
                )
        axes.set_xlabel("quality: pass@1 (%)")
        axes.set_ylabel(f"diversity: {about.label}")

    caption = (
        "One point for each temperature (the small number). Up and to the right is better; what "
        "only moves along a line is a change of temperature. Bars are 95 % intervals."
    )
    return _plot(f"{_slug(task.task)}-frontier", "Diversity against quality", caption, draw)


def _bars(ends: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """Lengths below and above each value."""
    return [[max(0.0, v - low) for low, v, _ in ends], [max(0.0, high - v) for _, v, high in ends]]


def _plot(name: str, title: str, caption: str, draw: Callable[[Axes], None]) -> Plot:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style = Path(__file__).with_name("plots.mplstyle")
    with matplotlib.rc_context({"svg.hashsalt": name}, fname=style):
        picture = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(picture)
        axes = picture.add_subplot()
        draw(axes)
        count = len(axes.get_legend_handles_labels()[1])
        picture.legend(loc="outside upper left", ncols=2 if count > 1 else 1)
        vector, pixels = io.StringIO(), io.BytesIO()
        picture.savefig(vector, format="svg", metadata={"Date": None}, transparent=True)
        picture.savefig(pixels, format="png", dpi=PNG_DPI)
    return Plot(name, title, caption, _element(vector.getvalue(), title), pixels.getvalue())


def _element(document: str, title: str) -> str:
    """The `svg` element of a document, named for those who cannot see it."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r' (?:width|height)="[\d.]+pt"', "", element, count=2)
    return element.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)


def _slug(text: str) -> str:
    """A name for files."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "task"
