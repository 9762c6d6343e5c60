"""The samples that `lm_eval --log_samples` writes, read and written.

One file `samples_<task>_<date>.jsonl` a task, in a folder named for the model; one line a document,
with the prompt, the responses, what filters made of them, and metrics.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ttscale.answers import extract_answer
from ttscale.errors import InvalidInput
from ttscale.evaluation.exchange import (
    OWN,
    Converted,
    Group,
    foreign_run,
    foreign_sampler,
    groups,
    header_of,
    own_sample,
    sample_of,
    shown,
    slug,
)
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.prompts import prompt_of
from ttscale.evaluation.records import (
    GradeRecord,
    ProblemRecord,
    Record,
    SampleRecord,
)
from ttscale.evaluation.tasks import Problem, by_gold

METRIC = "exact_match"
LOST = (
    "the cost of each request and what ESamp did (the pool's draw records) is not in the files",
)
LOST_FOREIGN = (
    "lm-evaluation-harness keeps no lengths in tokens, log-probabilities, seeds or times: lengths "
    "count as 0, and there is no weighted vote",
)
REGRADED = "several responses have one metric there; they were graded anew against the target"
FILTERED = "documents with several filters: the first filter's answers were taken"

Line = Mapping[str, Any]


def export(pool: Pool, folder: Path) -> Converted:
    """Write a pool's samples: a folder for each sampler, a file for each task.

    Raises:
        InvalidInput: The pool is empty, or the folder cannot be written.
    """
    files = []
    for group in groups(pool):
        where = folder / slug(f"{group.run.model}__{group.sampler.sampler}")
        stamp = datetime.fromtimestamp(group.run.at, UTC).strftime("%Y-%m-%dT%H-%M-%S.%f")
        path = where / f"samples_{_word(group.task)}_{stamp}.jsonl"
        lines = (_line(pool, group, place) for place in range(len(group.problems)))
        try:
            where.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"cannot write {str(path)!r}: {error}") from error
        files.append(path)
    return Converted(files=tuple(files), lost=LOST)


def _word(task: str) -> str:
    """A task's name as the harness writes it in names of files."""
    return re.sub(r"\W", "_", task)


def _line(pool: Pool, group: Group, place: int) -> dict[str, object]:
    problem, pairs = group.problems[place]
    prompt = shown(prompt_of(pool, problem))
    doc = {"id": problem.problem, "question": problem.question, "answer": problem.gold}
    told = [grade.correct for _, grade in pairs if grade is not None and grade.correct is not None]
    metrics = {METRIC: sum(told) / len(told)} if told else {}
    asked = {"do_sample": True, "temperature": group.sampler.temperature, "until": []}
    return {
        "doc_id": place,
        "doc": doc,
        "target": problem.gold or "",
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": asked}},
        "resps": [[sample.text for sample, _ in pairs]],
        "filtered_resps": [[(grade and grade.answer) or "" for _, grade in pairs]],
        "filter": OWN,
        "metrics": list(metrics),
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(problem.gold or ""),
        **metrics,
        OWN: {**group.own(), "samples": [own_sample(s, g) for s, g in pairs]},
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def load(path: Path) -> Converted:
    """Read one file of samples.

    Raises:
        InvalidInput: The file cannot be read, or its documents have no generated text.
    """
    lines = list(_lines(path))
    if not lines:
        raise InvalidInput(f"{str(path)!r} holds no document")
    records: list[Record] = []
    try:
        if OWN in lines[0]:
            for line in lines:
                records += _own(line)
            return Converted(tuple(records), lost=LOST)
        return _foreign(lines, path)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise InvalidInput(
            f"{str(path)!r} holds no samples of lm_eval --log_samples: {error!r}"
        ) from error


def _lines(path: Path) -> Iterator[Line]:
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {str(path)!r}: {error}") from error
    for number, text in enumerate(content.split("\n"), start=1):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except ValueError as error:
            raise InvalidInput(f"{str(path)!r}, line {number} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise InvalidInput(f"{str(path)!r}, line {number} is no object")
        yield found


def _own(line: Line) -> list[Record]:
    """What a line that ttscale wrote was made of."""
    told, doc = line[OWN], line["doc"]
    task, name = told["task"], told["sampler"]["sampler"]
    found = [*header_of(told), ProblemRecord(task, doc["id"], doc["question"], doc["answer"])]
    for text, sample in zip(line["resps"][0], told["samples"], strict=True):
        found += sample_of((task, doc["id"], name), text, sample)
    return found


def _foreign(lines: Sequence[Line], path: Path) -> Converted:
    first: dict[str, Line] = {}
    for line in lines:
        first.setdefault(str(line["doc_id"]), line)
    lost = [*LOST_FOREIGN, *([FILTERED] if len(first) < len(lines) else [])]
    task = path.name.removeprefix("samples_").rpartition("_")[0] or path.stem
    model = path.parent.resolve().name
    asked = _asked(lines[0])
    heat = float(asked.get("temperature") or 0.0) if asked.get("do_sample") else 0.0
    sampler = foreign_sampler(model, heat, asked)
    scored = any(_metric(line) is not None for line in lines)
    records: list[Record] = [foreign_run(model, task, scored, "lm-evaluation-harness"), sampler]
    for name, line in first.items():
        texts = [str(text) for text in line["resps"][0]]
        if len(line["resps"]) > 1 or any(isinstance(text, list) for text in line["resps"][0]):
            raise InvalidInput(f"{str(path)!r} holds log-likelihoods, not generated texts")
        gold = str(line["target"]) if line["target"] not in (None, "") else None
        prompt = str(line["arguments"]["gen_args_0"]["arg_0"])
        problem = ProblemRecord(task, name, prompt, gold)
        records.append(problem)
        for index, text in enumerate(texts):
            key = (task, name, sampler.sampler, index)
            records.append(SampleRecord(*key, 0, 0, text, 0, "unknown", None, 0.0, 0.0))
        records += _grades(line, problem, sampler.sampler, texts)
        if len(texts) > 1 and REGRADED not in lost:
            lost.append(REGRADED)
    return Converted(tuple(records), lost=tuple(lost))


def _asked(line: Line) -> Mapping[str, Any]:
    found = line["arguments"]["gen_args_0"].get("arg_1")
    return found if isinstance(found, Mapping) else {}


def _metric(line: Line) -> float | None:
    """The document's first metric that is a number."""
    for name in line.get("metrics", ()):
        if isinstance(value := line.get(name), bool | int | float):
            return float(value)
    return None


def _grades(
    line: Line, problem: ProblemRecord, sampler: str, texts: Sequence[str]
) -> list[GradeRecord]:
    """Their own grade of a single response; several are graded against the target."""
    if len(texts) == 1:
        answer, score = _filtered(line), _metric(line)
        correct = None if score is None else score >= 1
        key = (problem.task, problem.problem, sampler, 0)
        return [GradeRecord(*key, answer, "text" if answer else "", None, score, correct)]
    found = []
    for index, text in enumerate(texts):
        stated = extract_answer(text)
        score = None
        if problem.gold is not None:
            asked = Problem(problem.question, problem.gold, problem.problem)
            score = 0.0 if stated is None else by_gold(stated.value, asked)
        found.append(
            GradeRecord(
                problem.task,
                problem.problem,
                sampler,
                index,
                None if stated is None else stated.value,
                "" if stated is None else stated.kind,
                None if stated is None else stated.unit,
                score,
                None if score is None else score >= 1,
            )
        )
    return found


def _filtered(line: Line) -> str | None:
    """What the filter made of a single response; None for nothing."""
    found = line.get("filtered_resps") or [None]
    while isinstance(found, list) and found:
        found = found[0]
    return str(found) if found not in (None, [], "", "[invalid]") else None
