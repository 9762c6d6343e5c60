"""What came of each question, and of all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ttscale.errors import ScoreError
from ttscale.evaluation import Problem, Task
from ttscale.strategies import Outcome


@dataclass(frozen=True)
class Grade:
    """How one outcome compares with the gold answer.

    Attributes:
        right: Whether the strategy's answer is right; abstaining is wrong.
        samples_right: Samples whose own answer is right.
        samples: Samples that came back.
    """

    right: bool
    samples_right: int
    samples: int


@dataclass(frozen=True)
class Result:
    """One question and what came of it.

    Attributes:
        problem: The question.
        outcome: What the strategy found; None when the question was lost before it could.
        grade: The comparison with the gold answer; None when there is none, or the question is
            lost.
        error: Why the question was lost (no sample, or no score for one of its answers); empty
            when it was not.
    """

    problem: Problem
    outcome: Outcome | None
    grade: Grade | None = None
    error: str = ""

    @property
    def lost(self) -> bool:
        """Whether the question is left out of the accuracies; it is not a wrong answer."""
        return bool(self.error)


def result_of(task: Task, problem: Problem, outcome: Outcome) -> Result:
    """The outcome with its grade. Comparing answers may take seconds; call it off the loop."""
    if not outcome.candidates:
        return Result(problem, outcome, error=outcome.reason or "no sample came back")
    try:
        return Result(problem, outcome, grade_of(task, problem, outcome))
    except ScoreError as error:
        return Result(problem, outcome, error=str(error))


def grade_of(task: Task, problem: Problem, outcome: Outcome) -> Grade | None:
    """Compare the answer, and that of each sample, with the gold answer, if there is one."""
    if problem.gold is None:
        return None
    values = [None if answer is None else answer.value for answer in outcome.answers]
    known = {value: task.right(value, problem) for value in {*values, outcome.answer}}
    right = sum(known[value] for value in values)
    return Grade(known[outcome.answer], right, len(values))


@dataclass(frozen=True)
class Share:
    """So many right of so many."""

    name: str
    right: int
    total: int


def shares(results: Sequence[Result]) -> tuple[Share, ...]:
    """Accuracy of the strategy, of single samples, and of an oracle that knows the right one."""
    grades = [result.grade for result in results if result.grade is not None]
    count = len(grades)
    return (
        Share("strategy", sum(g.right for g in grades), count),
        Share(
            "single sample", sum(g.samples_right for g in grades), sum(g.samples for g in grades)
        ),
        Share("oracle (any sample)", sum(g.samples_right > 0 for g in grades), count),
    )
