"""Results for people: the answer, the votes, what ESamp did, and the accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ttscale.cli.results import Result, Share
from ttscale.cli.screen import visible
from ttscale.evaluation import wilson
from ttscale.strategies import Outcome
from ttscale.types import ESampReport

QUESTION_WIDTH = 100  # characters shown of a question
ANSWER_WIDTH = 60
VOTES_SHOWN = 8


def result_view(result: Result) -> list[RenderableType]:
    """Question, answer, gold answer, vote table and ESamp line of one result."""
    head = f"[{result.problem.id}] {visible(result.problem.question, QUESTION_WIDTH)}"
    if result.outcome is None or result.lost:
        return [head, f"  lost: {visible(result.error)}", ""]
    body: list[RenderableType] = [*answer_lines(result, result.outcome)]
    body.append(vote_table(result.outcome))
    body += cost_lines(result.outcome)
    if result.outcome.esamp is not None:
        body.append(esamp_line(result.outcome.esamp))
    return [head, *body, ""]


def answer_lines(result: Result, outcome: Outcome) -> list[str]:
    """The answer or why there is none; how many samples came back; whether it is right."""
    if outcome.answer is None:
        lines = [f"  no answer: {visible(outcome.reason)}"]
    else:
        tie = " (tie, decided by lot)" if outcome.tie else ""
        lines = [f"  answer: {visible(outcome.answer, ANSWER_WIDTH)}{tie}"]
    if result.grade is not None and result.problem.gold is not None:
        verdict = "right" if result.grade.right else "wrong"
        lines.append(f"  {verdict}; known answer: {visible(result.problem.gold, ANSWER_WIDTH)}")
    if outcome.failures:
        cause = visible(outcome.failures[0].reason)
        lines.append(
            f"  {outcome.returned} of {outcome.requested} samples came back; the first "
            f"failure: {cause}"
        )
    return lines


def vote_table(outcome: Outcome) -> Table:
    """Answers with their samples and weight, best first; then what did not vote."""
    table = Table("  votes", "samples", "weight", box=None, header_style="")
    for vote in outcome.votes[:VOTES_SHOWN]:
        answer = Text(f"  {visible(vote.answer, ANSWER_WIDTH)}")
        table.add_row(answer, str(vote.count), f"{vote.weight:.4g}")
    if rest := outcome.votes[VOTES_SHOWN:]:
        table.add_row(f"  ({len(rest)} others)", str(sum(vote.count for vote in rest)), "")
    if silent := sum(answer is None for answer in outcome.answers):
        table.add_row(f"  (no answer; {outcome.truncated} samples cut off)", str(silent), "")
    return table


def cost_lines(outcome: Outcome) -> list[str]:
    """What stopped the run, the strategy's own figures, and what it has cost beyond its samples."""
    spent, lines = outcome.spent, []
    if outcome.stopped:
        lines.append(f"  best so far: {visible(outcome.stopped)}")
    if outcome.notes:
        told = ", ".join(f"{name} {value:.4g}" for name, value in sorted(outcome.notes.items()))
        lines.append(f"  {told}")
    extra = [(spent.cancelled, "samples cancelled"), (spent.judge, "judgements")]
    if any(count for count, _ in extra):
        told = ", ".join(f"{count} {what}" for count, what in extra if count)
        lines.append(f"  {spent.samples} samples, {told}, {spent.tokens} tokens")
    return lines


def esamp_line(report: ESampReport) -> str:
    """What ESamp did, in one line."""
    error = "unknown" if report.relative_error is None else f"{report.relative_error:.3f}"
    causes = ", ".join(f"{cause} {count}" for cause, count in sorted(report.fallbacks.items()))
    return (
        f"  ESamp: {report.rows_mixed} rows mixed, {report.steps_trained} steps trained, "
        f"relative error {error}, {report.fallback_count} fallbacks"
        f"{f' ({causes})' if causes else ''}"
    )


def accuracy_view(shares: Sequence[Share], lost: int) -> list[RenderableType]:
    """Shares with their counts and Wilson intervals; lost questions are in none of them."""
    table = Table("accuracy", "share", "right", "95 % interval", box=None, header_style="")
    for share in shares:
        low, high = wilson(share.right, share.total)
        value = f"{share.right / share.total:.3f}" if share.total else "-"
        table.add_row(
            share.name, value, f"{share.right} of {share.total}", f"{low:.3f} to {high:.3f}"
        )
    left_out = f"; lost questions left out: {lost}" if lost else ""
    return [table, f" Wilson intervals of independent trials{left_out}"]
