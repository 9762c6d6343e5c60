"""Pools from and to the files of other harnesses: what all of them share."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ttscale.errors import InvalidInput
from ttscale.evaluation.pool import NAME, Pool, PoolWriter
from ttscale.evaluation.records import (
    GradeRecord,
    ProblemRecord,
    Record,
    RunRecord,
    SampleRecord,
    SamplerRecord,
)
from ttscale.types import Prompt

OWN = "ttscale"
"""Key under which a foreign file keeps what only a pool knows."""


@dataclass(frozen=True)
class Converted:
    """What became of a conversion.

    Attributes:
        records: Records of a pool, its header first; empty when files were written.
        files: Files that were written.
        lost: What the other format does not hold, in sentences.
    """

    records: tuple[Record, ...] = ()
    files: tuple[Path, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """The samples of one task by one sampler, as other harnesses keep them: one file each."""

    run: RunRecord
    task: str
    sampler: SamplerRecord
    settings: Mapping[str, object]
    problems: tuple[tuple[ProblemRecord, tuple[tuple[SampleRecord, GradeRecord | None], ...]], ...]

    def own(self) -> dict[str, object]:
        """What only a pool knows of the group."""
        return {
            "run": asdict(self.run),
            "sampler": asdict(self.sampler),
            "task": self.task,
            "settings": dict(self.settings),
        }


def groups(pool: Pool) -> Iterator[Group]:
    """Every task and sampler of a pool that has samples.

    Raises:
        InvalidInput: The pool is empty.
    """
    from ttscale.evaluation.prompts import task_settings

    if not pool.runs or not pool.samples:
        raise InvalidInput("the pool holds no sample")
    by_name: dict[tuple[str, str], dict[str, list[SampleRecord]]] = {}
    for key in sorted(pool.samples):
        task, problem, sampler, _ = key
        by_name.setdefault((task, sampler), {}).setdefault(problem, []).append(pool.samples[key])
    for (task, sampler), found in by_name.items():
        rows = tuple(
            (pool.problems[task, name], tuple((s, pool.grades.get(s.key)) for s in found[name]))
            for (other, name) in pool.problems
            if other == task and name in found
        )
        settings = task_settings(pool, task)
        yield Group(pool.runs[0], task, pool.samplers[sampler], settings, rows)


def own_sample(sample: SampleRecord, grade: GradeRecord | None) -> dict[str, object]:
    """What only a pool knows of a sample: all of it but its text and names."""
    names = ("task", "problem", "sampler", "text")
    kept = {key: value for key, value in asdict(sample).items() if key not in names}
    told = None if grade is None else asdict(grade)
    return {**kept, "grade": told and {k: v for k, v in told.items() if k not in (*names, "index")}}


def sample_of(names: tuple[str, str, str], text: str, told: Mapping[str, Any]) -> list[Record]:
    """Sample and grade that `own_sample` was made of.

    Raises:
        InvalidInput: A value is missing or unknown.
    """
    values = {key: value for key, value in told.items() if key != "grade"}
    try:
        sample = SampleRecord(*names, text=text, **values)
        found: list[Record] = [sample]
        if told.get("grade") is not None:
            found.append(GradeRecord(*sample.key, **told["grade"]))
    except TypeError as error:
        raise InvalidInput(f"what ttscale noted of a sample is broken: {error}") from error
    return found


def header_of(told: Mapping[str, Any]) -> list[Record]:
    """Run and sampler that `Group.own` was made of.

    Raises:
        InvalidInput: A value is missing or unknown.
    """
    try:
        return [RunRecord(**told["run"]), SamplerRecord(**told["sampler"])]
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"what ttscale noted of a run is broken: {error!r}") from error


def foreign_run(model: str, task: str, scored: bool, source: str) -> RunRecord:
    """Header of samples that ttscale did not draw; their prompts are kept as raw text."""
    settings = {"kind": "auto", "instruction": "", "system": None, "raw": True, "scored": scored}
    return RunRecord(model, 0, {}, {"tasks": {task: settings}, "source": source}, "", time.time())


def foreign_sampler(model: str, temperature: float, settings: Mapping[str, Any]) -> SamplerRecord:
    """Sampler of samples that ttscale did not draw: families are models."""
    return SamplerRecord(f"{model}@{temperature:g}", model, temperature, dict(settings))


def shown(prompt: Prompt) -> str:
    """A prompt as one text: raw text as it is, turns as JSON."""
    if prompt.text is not None:
        return prompt.text
    return json.dumps([{"role": m.role, "content": m.content} for m in prompt.messages])


def slug(text: str) -> str:
    """A name for files."""
    return re.sub(r"[^A-Za-z0-9._@=+-]+", "-", text).strip("-") or "unnamed"


def write_pool(folder: Path, records: Sequence[Record]) -> Path:
    """Write a new pool.

    Raises:
        InvalidInput: The folder holds one already, or two sources hold the same sample.
    """
    path = folder / NAME
    if path.exists() and path.stat().st_size:
        raise InvalidInput(f"{str(folder)!r} holds a pool already; choose another folder")
    keys = [record.key for record in records if isinstance(record, SampleRecord)]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(f"two of the files hold sample {twice}; convert them one by one")
    with PoolWriter(path) as writer:
        for record in _once(records):
            writer.append(record)
    return path


def _once(records: Iterable[Record]) -> Iterator[Record]:
    """Records without repeats of headers, problems and samplers."""
    seen: list[Record] = []
    for record in records:
        if isinstance(record, RunRecord | ProblemRecord | SamplerRecord):
            if record in seen:
                continue
            seen.append(record)
        yield record
