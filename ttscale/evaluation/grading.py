"""What samples state and what that is worth, as records of a pool."""

from __future__ import annotations

from collections.abc import Sequence

from ttscale.errors import InvalidInput, ScoreError
from ttscale.evaluation.records import GradeRecord, SampleRecord
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem


def grades(suite: Suite, problem: Problem, samples: Sequence[SampleRecord]) -> list[GradeRecord]:
    """Grade samples of one problem; equal answers are scored once."""
    scores: dict[str, tuple[float | None, str]] = {}
    found = []
    for sample in samples:
        answer = suite.read(sample.text)
        value = None if answer is None else answer.value
        if value is not None and value not in scores:
            scores[value] = _score(suite, problem, value)
        score, error = (0.0, "") if value is None else scores[value]
        scored = suite.scored and not error
        found.append(
            GradeRecord(
                *sample.key,
                answer=value,
                answer_kind="" if answer is None else answer.kind,
                unit=None if answer is None else answer.unit,
                score=score if scored else None,
                correct=score is not None and score >= 1 if scored else None,
                error=error,
            )
        )
    return found


def _score(suite: Suite, problem: Problem, value: str) -> tuple[float | None, str]:
    """Score of one answer, or why there is none."""
    if not suite.scored:
        return None, ""
    try:
        return suite.task.score(value, problem), ""
    except (ScoreError, InvalidInput) as error:
        return None, str(error)
