"""One JSON object per question."""

from __future__ import annotations

import json
import math

from ttscale.cli.results import Result
from ttscale.strategies import Outcome, Spent
from ttscale.types import ESampReport


def line_of(result: Result, strategy: str, n: int) -> str:
    """The result as one line of JSON; non-ASCII characters are escaped, so any terminal works."""
    record: dict[str, object] = {
        "id": result.problem.id,
        "question": result.problem.question,
        **_outcome_keys(result.outcome, strategy, n),
    }
    if result.problem.gold is not None:
        record["gold"] = result.problem.gold
    if result.grade is not None:
        record["correct"] = result.grade.right
    if result.lost:
        record["error"] = result.error
    return json.dumps(record, allow_nan=False)


def _outcome_keys(outcome: Outcome | None, strategy: str, n: int) -> dict[str, object]:
    """The keys of an outcome; for a question that was lost, the same keys of an empty one."""
    return {
        "answer": outcome.answer if outcome else None,
        "reason": outcome.reason if outcome else "",
        "strategy": strategy,
        "n_requested": outcome.requested if outcome else n,
        "n_returned": outcome.returned if outcome else 0,
        "stopped": outcome.stopped if outcome else "",
        "tie": outcome.tie if outcome else False,
        "votes": [{"answer": v.answer, "count": v.count} for v in outcome.votes] if outcome else [],
        "candidates": _candidates(outcome) if outcome else [],
        "failures": [failure.reason for failure in outcome.failures] if outcome else [],
        "usage": {
            "prompt_tokens": outcome.usage.prompt_tokens if outcome else 0,
            "completion_tokens": outcome.usage.completion_tokens if outcome else 0,
        },
        "spent": _spent(outcome.spent if outcome else Spent()),
        "notes": dict(outcome.notes) if outcome else {},
        "esamp": _esamp(outcome.esamp) if outcome and outcome.esamp else None,
    }


def _spent(spent: Spent) -> dict[str, object]:
    return {
        "samples": spent.samples,
        "failed": spent.failed,
        "cancelled": spent.cancelled,
        "judge": spent.judge,
        "tokens": spent.tokens,
        "seconds": round(spent.seconds, 3),
    }


def _candidates(outcome: Outcome) -> list[dict[str, object]]:
    return [
        {
            "text": candidate.text,
            "answer": None if answer is None else answer.value,
            "finish_reason": candidate.finish_reason,
            "tokens": candidate.token_count,
        }
        for candidate, answer in zip(outcome.candidates, outcome.answers, strict=True)
    ]


def _esamp(report: ESampReport) -> dict[str, object]:
    error = report.relative_error
    return {
        "rows_mixed": report.rows_mixed,
        "steps_trained": report.steps_trained,
        "fallbacks": report.fallback_count,
        # JSON has no NaN and no infinity.
        "relative_error": error if error is not None and math.isfinite(error) else None,
    }
