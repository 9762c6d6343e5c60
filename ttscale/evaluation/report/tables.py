"""What was said: for some problems, the votes of each sampler and samples to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttscale.evaluation.board import ABSTAINS, Board, boards
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import GradeRecord, SampleRecord
from ttscale.evaluation.report.plots import shown_arms
from ttscale.evaluation.summary import TaskSummary

PROBLEMS = 16
SAMPLES = 6
ANSWERS = 5
CHARACTERS = 1200


@dataclass(frozen=True)
class Vote:
    """One answer, how many samples gave it, and whether it is right (None: nobody knows)."""

    answer: str
    count: int
    right: bool | None


@dataclass(frozen=True)
class Said:
    """One sample, cut to what can be shown."""

    text: str
    answer: str | None
    right: bool | None
    tokens: int


@dataclass(frozen=True)
class Ballot:
    """What one sampler's samples say to one problem.

    Attributes:
        sampler: The sampler.
        family: Its family.
        right: Number of right samples.
        votes: Answers, most frequent first; rare ones are left out.
        silent: Samples that state no answer.
        said: Some samples, right and wrong ones.
    """

    sampler: str
    family: str
    right: int
    votes: tuple[Vote, ...]
    silent: int
    said: tuple[Said, ...]


@dataclass(frozen=True)
class VoteTable:
    """One problem and the ballots of the samplers."""

    problem: str
    question: str
    gold: str | None
    ballots: tuple[Ballot, ...]


def vote_tables(pool: Pool, task: TaskSummary) -> tuple[VoteTable, ...]:
    """Tables of the problems on which the samplers differ most, then of the others in order.

    The samplers are those at the shown temperature; at most 16 problems, 6 samples of each.
    """
    board = next(board for board in boards(pool) if board.task == task.task)
    names = [arm.sampler for arm in shown_arms(task)]
    arms = [place for place, arm in enumerate(board.arms) if arm.sampler in names]
    right = board.correct[arms].sum(axis=2)
    order = np.argsort(-(right.max(axis=0) - right.min(axis=0)), kind="stable")
    return tuple(_table(board, int(p), arms) for p in order[:PROBLEMS])


def _table(board: Board, problem: int, arms: Sequence[int]) -> VoteTable:
    held = board.problems[problem]
    ballots = tuple(_ballot(board, arm, problem) for arm in arms)
    return VoteTable(held.problem, held.question, held.gold, ballots)


def _ballot(board: Board, arm: int, problem: int) -> Ballot:
    cell = board.cells[arm, problem]
    labels = board.answers[arm, problem]
    names, sizes = np.unique(labels[labels != ABSTAINS], return_counts=True)
    ranked = sorted(zip(names.tolist(), sizes.tolist(), strict=True), key=lambda x: (-x[1], x[0]))
    votes = []
    for name, size in ranked[:ANSWERS]:
        first = cell.grades[int(np.argmax(labels == name))]
        votes.append(Vote(first.answer or "", size, first.correct))
    return Ballot(
        sampler=board.arms[arm].sampler,
        family=board.arms[arm].family,
        right=int(board.correct[arm, problem].sum()),
        votes=tuple(votes),
        silent=int((labels == ABSTAINS).sum()),
        said=_some(cell.samples, cell.grades),
    )


def _some(samples: Sequence[SampleRecord], grades: Sequence[GradeRecord]) -> tuple[Said, ...]:
    """Right samples first, then wrong ones, half of each where there are enough."""
    pairs = list(zip(samples, grades, strict=True))
    good = [pair for pair in pairs if pair[1].correct]
    rest = [pair for pair in pairs if not pair[1].correct]
    kept = good[: max(SAMPLES // 2, SAMPLES - len(rest))]
    kept += rest[: SAMPLES - len(kept)]
    return tuple(
        Said(_cut(sample.text), grade.answer, grade.correct, sample.tokens)
        for sample, grade in kept
    )


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[:CHARACTERS] + " [...]"
