"""Rows of the tables that both reports show."""

from __future__ import annotations

import json
import time

from ttscale.evaluation.figures import FIGURES
from ttscale.evaluation.summary import SELECTED, Summary, TaskSummary

ORDER = tuple(name for name in FIGURES)


def figure_names(task: TaskSummary) -> list[str]:
    """Names of the figures that a task has, in the order of reports; selectors last."""
    have = task.arms[0].figures
    selected = [name for name in have if name.startswith(SELECTED)]
    return [*(name for name in ORDER if name in have), *selected]


def cost_rows(task: TaskSummary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of what each sampler has cost."""
    head: tuple[str, ...] = (
        *("sampler", "samples", "tokens read", "tokens written", "seconds", "tokens/s", "ESamp"),
        "ESamp's share of operations",
    )
    judged = any(arm.cost.judged for arm in task.arms)
    if judged:
        head = (*head, "judges: samples", "tokens", "seconds")
    priced = any(arm.cost.money is not None for arm in task.arms)
    if priced:
        head = (*head, "money")
    rows: list[tuple[str, ...]] = []
    for arm in task.arms:
        cost = arm.cost
        speed = cost.tokens_per_second
        work = f"{cost.rows_mixed} rows mixed, {cost.steps_trained} steps trained"
        if cost.fallbacks:
            work += f", {cost.fallbacks} fallbacks"
        share = cost.esamp_share
        row: tuple[str, ...] = (
            arm.sampler,
            str(cost.samples) + (f" ({cost.failed} lost)" if cost.failed else ""),
            f"{cost.prompt_tokens}",
            f"{cost.completion_tokens}",
            f"{cost.seconds:.1f}",
            "-" if speed != speed else f"{speed:.0f}",
            work if cost.rows_mixed or cost.steps_trained else "-",
            "-" if share != share else f"{100 * share:.2f} %",
        )
        if judged:
            tokens = f"{cost.judge_prompt_tokens} read, {cost.judge_completion_tokens} written"
            row = (*row, str(cost.judged), tokens, f"{cost.judge_seconds:.1f}")
        rows.append((*row, f"{cost.money or 0.0:.6g}") if priced else row)
    return head, rows


def settings_rows(summary: Summary) -> list[tuple[str, str]]:
    """What is needed to draw the pool again."""
    rows: list[tuple[str, str]] = []
    for number, run in enumerate(summary.runs, start=1):
        name = f"session {number}" if len(summary.runs) > 1 else "session"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.at))
        rows.append((name, f"{stamp}; {run.command}" if run.command else stamp))
    if summary.runs:
        first = summary.runs[0]
        rows += [("model", first.model), ("seed", str(first.seed))]
        rows += [("versions", ", ".join(f"{k} {v}" for k, v in first.versions.items()))]
    for task in summary.tasks:
        rows += [(arm.sampler, settings_text(arm.settings)) for arm in task.arms]
        break
    for key, value in (summary.runs[-1].settings if summary.runs else {}).items():
        rows.append((key, json.dumps(value)))
    rows.append(("bootstrap", f"{summary.resamples} resamples of the problems"))
    return rows


def settings_text(settings: object) -> str:
    """A sampler's settings on one line."""
    return json.dumps(settings, sort_keys=True)
