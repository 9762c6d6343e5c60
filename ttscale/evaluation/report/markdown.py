"""The report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ttscale.evaluation.compare import question_of, signed
from ttscale.evaluation.figures import figure
from ttscale.evaluation.report.plots import Plot
from ttscale.evaluation.report.rows import cost_rows, figure_names, settings_rows
from ttscale.evaluation.stats import Interval
from ttscale.evaluation.summary import Summary, TaskSummary


def markdown(summary: Summary, plots: Mapping[str, Sequence[Plot]], folder: str) -> str:
    """The whole report; plots are linked from `folder`."""
    parts = ["# Evaluation", ""]
    for task in summary.tasks:
        parts += _task(task, plots.get(task.task, ()), folder)
    parts += ["## Settings", ""]
    parts += _table(("", ""), settings_rows(summary))
    return "\n".join(parts).rstrip() + "\n"


def _task(task: TaskSummary, plots: Sequence[Plot], folder: str) -> list[str]:
    parts = [f"## {cell(task.task)}", "", f"**{cell(task.headline)}**", ""]
    if task.power:
        parts += [task.power, ""]
    if task.claims:
        claimed = [
            (
                c.family,
                question_of(c, task.n),
                signed(c.figure, c.interval, task.n),
                p_text(c.p_holm),
                "shown" if c.shown else "not shown",
            )
            for c in task.claims
        ]
        head = ("sampler", f"against {task.claims[0].baseline}", "difference", "p (Holm)", "")
        parts += _table(head, claimed)
    names = figure_names(task)
    labels = [figure(name).label.format(n=task.n) for name in names]
    rows = [
        (arm.sampler, *(with_interval(name, arm.figures[name]) for name in names))
        for arm in task.arms
    ]
    parts += ["### Figures", "", *_table(("sampler", *labels), rows)]
    parts += ["### Cost", "", *_table(*cost_rows(task))]
    if task.comparisons:
        compared = [
            (
                c.sampler,
                c.baseline,
                figure(c.figure).label.format(n=task.n),
                signed(c.figure, c.difference.interval, task.n),
                p_text(c.difference.p_holm),
            )
            for c in task.comparisons
        ]
        head = ("sampler", "against", "figure", "difference", "p (Holm)")
        parts += ["### At equal temperature", "", *_table(head, compared)]
    for plot in plots:
        parts += [f"![{plot.title}]({folder}/{plot.name}.svg)", "", f"{plot.title}. {plot.caption}"]
        parts += [""]
    parts += [f"- {cell(note)}" for note in notes_of(task)]
    return [*parts, ""]


def notes_of(task: TaskSummary) -> list[str]:
    """What a reader should know of a task's figures."""
    left = len(task.left_out)
    skipped = [f"{left} problems are not complete; no figure counts them"] if left else []
    cut = sum(arm.cost.interrupted for arm in task.arms)
    resumed = (
        [f"{cut} sets of samples were completed by a later request after an interruption"]
        if cut
        else []
    )
    return [*skipped, *resumed, *_lost(task), *task.notes]


def _lost(task: TaskSummary) -> list[str]:
    """Which groups lost their distiller, where servers drew them; empty where nobody tells."""
    costs = [arm.cost for arm in task.arms if arm.cost.explored and arm.cost.replicas]
    if not costs:
        return []
    groups, lost = sum(c.explored for c in costs), sum(c.lost_distillers for c in costs)
    again, names = sum(c.begun_again for c in costs), {n for c in costs for n in c.replicas}
    return [
        f"{lost} of {groups} groups lost their distiller, on {len(names)} replicas: {again} were "
        f"begun again as a whole, {lost - again} were completed by a later request"
    ]


def with_interval(name: str, found: Interval) -> str:
    """A figure with its interval."""
    about = figure(name)
    return f"{about.show(found.value)} [{about.show(found.low)}, {about.show(found.high)}]"


def p_text(p: float) -> str:
    """A p-value; very small ones by their bound."""
    if p != p:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cell(text: object) -> str:
    """Text that Markdown shows as it is."""
    shown = str(text).replace("\\", "\\\\")
    for mark in "|*_`<>[]#":
        shown = shown.replace(mark, f"\\{mark}")
    return " ".join(shown.split())


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head)]
    made = ["| " + " | ".join(map(str, line)) + " |" for line in lines[1:]]
    body = ["| " + " | ".join(cell(entry) for entry in row) + " |" for row in rows]
    first = "| " + " | ".join(cell(entry) for entry in head) + " |"
    return [first, *made, *body, ""]
