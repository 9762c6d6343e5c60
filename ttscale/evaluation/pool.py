"""One stored pool of samples: JSON lines, appended as samples finish, read back after any end.

A line is one record (`ttscale.evaluation.records`). Whoever is killed in mid-write leaves at most
one torn last line; the next writer takes it away, and a reader passes over it. Each line has
reached the operating system before the next sample is looked at, so the death of the process loses
nothing; `sync`, once a request, also survives the death of the machine.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from ttscale.errors import InvalidInput
from ttscale.evaluation.records import (
    FORMAT,
    DrawRecord,
    GradeRecord,
    Key,
    ProblemRecord,
    Record,
    RunRecord,
    SampleRecord,
    SamplerRecord,
    SelectionRecord,
    from_json,
    to_json,
)

NAME = "samples.jsonl"
"""Name of the pool's file within its folder."""

CHUNK = 1 << 16  # bytes looked at, from the end, for the start of a torn line


@dataclass
class Pool:
    """What a pool holds, by name.

    Attributes:
        runs: The sessions, in their order.
        problems: By task and problem.
        samplers: By name.
        samples: By key. A key stands for one sample, however often it was written.
        grades: By key; the latest one counts.
        draws: Requests that have ended.
        selections: By key; the latest one counts.
    """

    runs: list[RunRecord] = field(default_factory=list)
    problems: dict[tuple[str, str], ProblemRecord] = field(default_factory=dict)
    samplers: dict[str, SamplerRecord] = field(default_factory=dict)
    samples: dict[Key, SampleRecord] = field(default_factory=dict)
    grades: dict[Key, GradeRecord] = field(default_factory=dict)
    draws: list[DrawRecord] = field(default_factory=list)
    selections: dict[tuple[str, str, str, str, int], SelectionRecord] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Take in one record."""
        match record:
            case RunRecord():
                self.runs.append(record)
            case ProblemRecord():
                self.problems[record.task, record.problem] = record
            case SamplerRecord():
                self.samplers[record.sampler] = record
            case SampleRecord():
                self.samples.setdefault(record.key, record)
            case GradeRecord():
                self.grades[record.key] = record
            case DrawRecord():
                self.draws.append(record)
            case SelectionRecord():
                self.selections[record.key] = record


def read_pool(path: str | Path) -> Pool:
    """Read a pool; an empty one when there is no file yet.

    A last line that was torn while it was written is passed over.

    Raises:
        InvalidInput: The file cannot be read, or a line other than the last is broken.
    """
    pool = Pool()
    file = Path(path)
    if not file.exists():
        return pool
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    for number, line in _lines(content):
        try:
            pool.add(from_json(json.loads(line)))
        except ValueError as error:  # InvalidInput, JSON and Unicode errors are all of this kind
            raise InvalidInput(f"{str(path)!r}, line {number} is no record: {error}") from error
    if pool.runs and pool.runs[0].format != FORMAT:
        raise InvalidInput(
            f"{str(path)!r} has format {pool.runs[0].format}, this version reads format {FORMAT}"
        )
    return pool


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbered lines; a torn last one is left out."""
    lines = content.split(b"\n")
    torn = lines.pop()
    if torn and _is_whole(torn):
        lines.append(torn)
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _is_whole(line: bytes) -> bool:
    """Whether a line without its end is a record all the same."""
    try:
        from_json(json.loads(line))
    except ValueError:
        return False
    return True


class PoolWriter:
    """Appends records to a pool; safe to call from several threads.

    Args:
        path: The pool's file; made with its folder when it is not there.

    Raises:
        InvalidInput: The file cannot be written, or another process is writing to it.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise InvalidInput(f"cannot write {str(path)!r}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise InvalidInput(
                f"another process is writing to {str(path)!r}; wait for it, or choose another "
                "folder"
            ) from error
        self._mend()

    def __enter__(self) -> PoolWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write one record; it is with the operating system when this returns."""
        line = json.dumps(to_json(record), allow_nan=False) + "\n"
        rest = line.encode("ascii")
        with self._lock:
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def sync(self) -> None:
        """Have everything written so far on the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Write everything out and let others write."""
        with self._lock:
            if self._file >= 0:
                os.fsync(self._file)
                os.close(self._file)
                self._file = -1

    def _mend(self) -> None:
        """End a whole last line that lacks its end, or take a torn one away."""
        size = os.fstat(self._file).st_size
        tail = b""
        start = size
        while start > 0 and b"\n" not in tail:
            step = min(CHUNK, start)
            start -= step
            tail = os.pread(self._file, step, start) + tail
        torn = tail.rpartition(b"\n")[2]
        if torn and _is_whole(torn):
            os.write(self._file, b"\n")
        elif torn:
            os.ftruncate(self._file, size - len(torn))
