"""Problems, tasks, and problems read from JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ttscale.answers import equivalent
from ttscale.errors import InvalidInput

GSM8K_MARK = "####"  # in GSM8K files the answer follows the worked solution and this mark


@dataclass(frozen=True, slots=True)
class Problem:
    """One question, with its right answer when that is known.

    Attributes:
        question: What is asked.
        gold: The right answer; None when unknown.
        id: Its name within the task.
    """

    question: str
    gold: str | None
    id: str


@dataclass(frozen=True, slots=True)
class LineError:
    """Why one line of a file is not a problem; lines count from 1."""

    line: int
    reason: str


Scorer = Callable[[str, Problem], float]


def by_gold(answer: str, problem: Problem) -> float:
    """1 if `answer` is equivalent to the problem's gold answer, else 0.

    Raises:
        InvalidInput: The problem has no gold answer.
    """
    if problem.gold is None:
        raise InvalidInput(f"problem {problem.id!r} has no gold answer to score against")
    return float(equivalent(answer, problem.gold))


@dataclass(frozen=True)
class Task:
    """Problems and what scores an answer to them: `score(answer, problem)` in [0, 1]."""

    name: str
    problems: tuple[Problem, ...]
    score: Scorer = by_gold

    def right(self, answer: str | None, problem: Problem) -> bool:
        """Whether the answer has the full score; abstaining (None) is not right."""
        return answer is not None and self.score(answer, problem) >= 1


def from_jsonl(path: str | Path) -> tuple[tuple[Problem, ...], tuple[LineError, ...]]:
    """Read problems from a file with one JSON object a line.

    Keys: `question`; optional `gold` or `answer` (text or number; of a text with `####`, as in
    GSM8K, what follows the last one) and `id` (else the line number). Other keys and empty lines
    are skipped. A broken line becomes a LineError, and the others are still read.

    Raises:
        InvalidInput: The file cannot be read.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InvalidInput(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    problems: list[Problem] = []
    errors: list[LineError] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            problems.append(_problem(line, number))
        except (ValueError, RecursionError) as error:
            errors.append(LineError(number, str(error)))
    return tuple(problems), tuple(errors)


def _problem(line: bytes, number: int) -> Problem:
    """The problem on one line; ValueError says what is wrong with it."""
    encoding = "utf-8-sig" if number == 1 else "utf-8"  # some editors put a mark in front
    record = json.loads(line.decode(encoding), parse_constant=_refuse_constant)
    if not isinstance(record, dict):
        raise InvalidInput(f"must be a JSON object, got {type(record).__name__}")
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InvalidInput("key 'question' must be a text that is not empty")
    name = _text(record, "id")
    gold = _gold(record)
    if gold is not None and GSM8K_MARK in gold:
        gold = gold.rpartition(GSM8K_MARK)[2].strip()
    problem = Problem(question, gold, str(number) if name is None else name)
    for text in (problem.question, problem.gold or "", problem.id):
        text.encode()  # half of a surrogate pair could neither be sent nor printed
    return problem


def _gold(record: Mapping[str, object]) -> str | None:
    gold = _text(record, "gold")
    return _text(record, "answer") if gold is None else gold


def _text(record: Mapping[str, object], key: str) -> str | None:
    """The value under `key` as text; None when it is missing or null."""
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"key {key!r} must be a text or a number, got {value!r}")
    return str(value)


def _refuse_constant(name: str) -> None:
    raise InvalidInput(f"{name} is not JSON")
