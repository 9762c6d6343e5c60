"""How far an evaluation has come, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from ttscale.cli.screen import Screen
from ttscale.evaluation.book import Plan
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import GradeRecord, Record, SampleRecord

LINE_SECONDS = 30
"""Time between two lines where there is no terminal."""


class _Rate(ProgressColumn):
    """Samples per second."""

    def render(self, task: Task) -> Text:
        """The speed of the last half minute."""
        return Text("-" if task.speed is None else f"{task.speed:.1f} samples/s")


class EvalProgress:
    """Counts samples and grades as they are written; `watch` may be called from any thread."""

    def __init__(self, screen: Screen, plan: Plan, pool: Pool) -> None:
        self._screen = screen
        self._total = plan.total
        self._lock = threading.Lock()
        self._done = sum(key in pool.samples for key in plan.sample_keys())
        self._right: Counter[str] = Counter()
        self._graded: Counter[str] = Counter()
        for grade in pool.grades.values():
            self._grade(grade)
        self._now = ""
        self._last_line = time.monotonic()
        self._bar = _bar(screen) if screen.err.is_terminal else None
        if self._bar is not None:
            self._row = self._bar.add_task("", total=self._total, completed=self._done)
        elif self._done:
            screen.note(f"{self._done} of {self._total} samples are there already")

    def __enter__(self) -> EvalProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._screen.note(self._text())

    def watch(self, record: Record) -> None:
        """Take note of one new record."""
        with self._lock:
            if isinstance(record, SampleRecord):
                self._done += 1
                self._now = record.sampler
            elif isinstance(record, GradeRecord):
                self._grade(record)
            else:
                return
            self._show(step=isinstance(record, SampleRecord))

    def _grade(self, grade: GradeRecord) -> None:
        if grade.correct is not None:
            self._graded[grade.sampler] += 1
            self._right[grade.sampler] += grade.correct

    def _show(self, *, step: bool) -> None:
        if self._bar is not None:
            self._bar.update(self._row, advance=int(step), description=self._label())
        elif time.monotonic() - self._last_line > LINE_SECONDS:
            self._last_line = time.monotonic()
            self._screen.note(self._text())

    def _label(self) -> str:
        """The sampler at work and its share of right samples so far."""
        graded = self._graded[self._now]
        share = f", pass@1 {100 * self._right[self._now] / graded:.1f} %" if graded else ""
        return f"{self._now}{share}"

    def _text(self) -> str:
        return f"{self._done} of {self._total} samples; {self._label()}".rstrip("; ")


def _bar(screen: Screen) -> Bar:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    return Bar(
        *columns,
        console=screen.err,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
