"""A pool laid out for measuring: for one task, samplers x problems x samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ttscale.answers import Answer, classes
from ttscale.errors import InvalidInput
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import (
    DrawRecord,
    GradeRecord,
    ProblemRecord,
    SampleRecord,
    SamplerRecord,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ABSTAINS = -1
ValueOf = Callable[["Cell", int], float]


@dataclass(frozen=True)
class Cell:
    """The samples of one problem by one sampler, by index, with their grades."""

    samples: tuple[SampleRecord, ...]
    grades: tuple[GradeRecord, ...]


@dataclass(frozen=True)
class Board:
    """One task's part of a pool, as a full box: every sampler has n samples of every problem.

    Attributes:
        task: Name of the task.
        n: Samples of each problem by each sampler.
        scored: Whether samples can be right or wrong.
        problems: The problems that every sampler has completed.
        arms: The samplers.
        cells: By place of the sampler and of the problem.
        left_out: Problems that are not complete, which no figure counts.
        draws: The requests behind the samples, of every problem.
    """

    task: str
    n: int
    scored: bool
    problems: tuple[ProblemRecord, ...]
    arms: tuple[SamplerRecord, ...]
    cells: Mapping[tuple[int, int], Cell]
    left_out: tuple[str, ...]
    draws: tuple[DrawRecord, ...]

    @cached_property
    def correct(self) -> Floats:
        """(samplers, problems, n): 1 for a right sample, else 0."""
        return self._gather(lambda cell, i: float(bool(cell.grades[i].correct)))

    @cached_property
    def confidence(self) -> Floats | None:
        """(samplers, problems, n): exp of the mean log-probability; None if any is unknown."""
        found = self._gather(_confidence)
        return None if np.isnan(found).any() else found

    @cached_property
    def tokens(self) -> Floats:
        """(samplers, problems, n): length of each sample in tokens."""
        return self._gather(lambda cell, i: float(cell.samples[i].tokens))

    @cached_property
    def answers(self) -> Ints:
        """(samplers, problems, n): class of each sample's answer within its problem.

        Equal numbers mean equivalent answers, over all samplers; ABSTAINS is no answer.
        """
        found = np.full((len(self.arms), len(self.problems), self.n), ABSTAINS, dtype=np.int64)
        for p in range(len(self.problems)):
            label = self._labels(p)
            for a in range(len(self.arms)):
                for i, grade in enumerate(self.cells[a, p].grades):
                    if (answer := grade.as_answer()) is not None:
                        found[a, p, i] = label[answer]
        return found

    def texts(self, arm: int, problem: int) -> list[str]:
        """The samples' texts."""
        return [sample.text for sample in self.cells[arm, problem].samples]

    def families(self) -> dict[str, list[int]]:
        """Places of each family's samplers, by rising temperature; families as they came."""
        found: dict[str, list[int]] = {}
        for place, arm in enumerate(self.arms):
            found.setdefault(arm.family, []).append(place)
        for places in found.values():
            places.sort(key=lambda place: self.arms[place].temperature)
        return found

    def _labels(self, problem: int) -> dict[Answer, int]:
        """The class of each answer that any sampler gave to a problem."""
        stated = {
            answer
            for a in range(len(self.arms))
            for grade in self.cells[a, problem].grades
            if (answer := grade.as_answer()) is not None
        }
        unique = sorted(stated, key=lambda answer: (answer.value, answer.kind, answer.unit or ""))
        groups = classes(unique)
        return {unique[i]: number for number, group in enumerate(groups) for i in group}

    def _gather(self, value: ValueOf) -> Floats:
        found = np.empty((len(self.arms), len(self.problems), self.n))
        for (a, p), cell in self.cells.items():
            found[a, p] = [value(cell, i) for i in range(self.n)]
        return found


def _confidence(cell: Cell, index: int) -> float:
    sample = cell.samples[index]
    if sample.logprob is None or sample.tokens == 0:
        return float("nan")
    return float(np.exp(sample.logprob / sample.tokens))


def boards(pool: Pool) -> tuple[Board, ...]:
    """One board for each task of the pool that has a complete problem.

    Raises:
        InvalidInput: No task has one.
    """
    tasks = list(dict.fromkeys(task for task, _ in pool.problems))
    found = [board for task in tasks if (board := _board(pool, task)) is not None]
    if not found:
        raise InvalidInput(
            "the pool holds no problem that every sampler has completed; run `ttscale eval` on it "
            "until the end"
        )
    return tuple(found)


def _board(pool: Pool, task: str) -> Board | None:
    usable = _usable(pool, task)
    arms = tuple(arm for arm in pool.samplers.values() if any(k[0] == arm.sampler for k in usable))
    problems = [held for (name, _), held in pool.problems.items() if name == task]
    counts = {
        arm.sampler: [len(usable.get((arm.sampler, p.problem), ())) for p in problems]
        for arm in arms
    }
    n = min((max(count) for count in counts.values()), default=0)
    whole = [
        p
        for place, p in enumerate(problems)
        if n and all(count[place] >= n for count in counts.values())
    ]
    if not whole:
        return None
    cells = {
        (a, p): _cell(pool, usable[arm.sampler, held.problem][:n])
        for a, arm in enumerate(arms)
        for p, held in enumerate(whole)
    }
    kept = {held.problem for held in whole}
    return Board(
        task=task,
        n=n,
        scored=any(g.correct is not None for cell in cells.values() for g in cell.grades),
        problems=tuple(whole),
        arms=arms,
        cells=cells,
        left_out=tuple(p.problem for p in problems if p.problem not in kept),
        draws=tuple(draw for draw in pool.draws if draw.task == task),
    )


def _usable(pool: Pool, task: str) -> dict[tuple[str, str], list[SampleRecord]]:
    """Graded samples by sampler and problem, by index; one whose scorer failed is not usable."""
    found: dict[tuple[str, str], list[SampleRecord]] = {}
    for key in sorted(pool.samples):
        grade = pool.grades.get(key)
        if key[0] == task and grade is not None and not grade.error:
            found.setdefault((key[2], key[1]), []).append(pool.samples[key])
    return found


def _cell(pool: Pool, samples: Sequence[SampleRecord]) -> Cell:
    return Cell(tuple(samples), tuple(pool.grades[sample.key] for sample in samples))
