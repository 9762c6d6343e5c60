"""LiveCodeBench (Jain et al., arXiv 2403.07974): programs for contests, judged in the sandbox.

The data set `livecodebench/code_generation_lite` is a row of JSON lines files, `test.jsonl` to
`test6.jsonl`, one for each release; `release_v5` is the first five, 880 problems of contests from
May 2023 to January 2025. Hidden tests are a pickled text, compressed: it is read by
`ttscale.evaluation.pickled`, which executes nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import Any

from ttscale import _check
from ttscale.errors import InvalidInput, MissingDependency
from ttscale.evaluation.catalogue import Scalar, TaskSpec
from ttscale.evaluation.contests import Case, passes
from ttscale.evaluation.loaders import read_program
from ttscale.evaluation.pickled import text_in
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem, Task

HUB = "hf://datasets/livecodebench/code_generation_lite"
FILES = ("test.jsonl", "test2.jsonl", "test3.jsonl", "test4.jsonl", "test5.jsonl", "test6.jsonl")
VERSION = "release_v5"
SETTINGS = ("version", "start", "end", "tests", "path")
TESTS = ("all", "public")
LARGEST = 1 << 29
"""Bytes of one problem's hidden tests, unpacked; more is refused."""

STDIN, FUNCTIONAL = "stdin", "functional"
ASKED = {
    STDIN: "Write a Python program that reads from standard input and writes to standard output.",
    FUNCTIONAL: "Begin with this code and complete it:",
}
INSTRUCTION = "Answer with the whole program in one Python code block."
LIGHT = ("question_content", "question_id", "contest_date", "starter_code")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which problems are wanted, and by which tests they are judged.

    Attributes:
        files: Files of the data set, or one local file.
        start: First contest day; None for no bound.
        end: Last contest day; None for no bound.
        tests: `all`, or `public` for those that the question shows.
    """

    files: tuple[str, ...]
    start: date | None
    end: date | None
    tests: str

    @classmethod
    def of(cls, settings: Mapping[str, Scalar]) -> Wanted:
        """From the task's settings.

        Raises:
            InvalidInput: A setting is unknown or refused.
        """
        if unknown := sorted(set(settings) - set(SETTINGS)):
            raise InvalidInput(
                f"livecodebench has no setting {unknown[0]!r}; its settings: {', '.join(SETTINGS)}"
            )
        path = settings.get("path")
        if path is not None and "version" in settings:
            raise InvalidInput("livecodebench takes path or version, not both")
        files = files_of(str(settings.get("version", VERSION)))
        return cls(
            tuple(f"{HUB}/{name}" for name in files) if path is None else (str(path),),
            _day("start", settings.get("start")),
            _day("end", settings.get("end")),
            _check.choice("tests", settings.get("tests", "all"), TESTS),
        )

    def holds(self, row: Row) -> bool:
        """Whether the row's contest lies within the days."""
        day = _day("contest_date", str(row.get("contest_date"))[:10])
        return day is None or (
            (self.start is None or day >= self.start) and (self.end is None or day <= self.end)
        )


def files_of(version: str) -> tuple[str, ...]:
    """The files of a version as the data set names them: release_v5, v5, or v4_v5.

    Raises:
        InvalidInput: There is no such version.
    """
    found = re.fullmatch(r"release_v([1-6])|v([1-6])|v([1-6])_v([1-6])", version)
    if found is None or (found[3] and found[3] >= found[4]):
        raise InvalidInput(
            f"version must be release_v1 to release_v{len(FILES)}, v1 to v{len(FILES)} for what "
            f"one release added, or a span such as v4_v5; got {version!r}"
        )
    release, one, first, last = (int(number or 0) for number in found.groups())
    low, high = (1, release) if release else (one, one) if one else (first, last)
    return FILES[low - 1 : high]


def livecodebench(spec: TaskSpec) -> Suite:
    """Problems with both kinds of tests: programs that are run, and functions that are called.

    Settings: `version` (release_v5), `start` and `end` (contest days, as 2024-08-01), `tests` (all
    or public), `path` (a local file of the same columns).

    Raises:
        InvalidInput: A setting is refused, or the rows cannot be loaded.
        MissingDependency: The package datasets is not installed.
    """
    wanted = Wanted.of(spec.settings)
    rows = _rows(wanted, spec.count)
    places = {_column(row, "question_id"): (place, row) for place, row in _chosen(rows, wanted)}
    taken = dict(islice(places.items(), spec.count))
    if not taken:
        raise InvalidInput("no problem of livecodebench lies within these days")
    problems = tuple(Problem(_question(row), None, name) for name, (_, row) in taken.items())

    def score(answer: str, problem: Problem) -> float:
        row = rows[taken[problem.id][0]]
        return float(passes(answer, cases_of(row, wanted.tests), function_of(row)))

    asked = INSTRUCTION if spec.instruction is None else spec.instruction
    task = Task(spec.name, problems, score)
    return Suite(task, "text", asked, spec.system, reader=read_program)


def cases_of(row: Row, tests: str = "all") -> tuple[Case, ...]:
    """The tests of a row: those of the question, then the hidden ones.

    Raises:
        InvalidInput: A column holds something else, or there is no test.
    """
    found = _listed(_column(row, "public_test_cases"), "public_test_cases")
    if tests == "all":
        found += _listed(hidden_text(_column(row, "private_test_cases")), "private_test_cases")
    if not found:
        raise InvalidInput(f"problem {row.get('question_id')!r} has no test")
    return tuple(found)


def hidden_text(packed: str) -> str:
    """The hidden tests as JSON: plain, or pickled, compressed and in base 64.

    Raises:
        InvalidInput: It is neither; nothing was executed to find out.
    """
    if packed.lstrip().startswith("["):
        return packed
    try:
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(packed, validate=True), LARGEST)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise InvalidInput(
            f"private_test_cases cannot be unpacked ({error}); tests=public judges without them"
        ) from error
    if not unpacker.eof:
        raise InvalidInput(f"private_test_cases is cut off, or longer than {LARGEST} bytes")
    return text_in(raw)


def function_of(row: Row) -> str | None:
    """Name of the function that is called; None where a program is run."""
    try:
        told = json.loads(_column(row, "metadata") or "{}")
    except ValueError as error:
        raise InvalidInput(f"column metadata must be JSON: {error}") from error
    name = told.get("func_name") if isinstance(told, dict) else None
    return str(name) if name else None


def _listed(text: str, column: str) -> list[Case]:
    try:
        found = json.loads(text)
        return [Case(str(case["input"]), str(case["output"])) for case in found]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(
            f"column {column} must be a list of objects with input and output: {error!r}"
        ) from error


def _question(row: Row) -> str:
    """The question, and the form that the answer must have."""
    starter = str(row.get("starter_code") or "").strip("\n")
    parts = [_column(row, "question_content").strip()]
    parts += (
        [ASKED[FUNCTIONAL], f"```python\n{starter}\n```"] if starter.strip() else [ASKED[STDIN]]
    )
    return "\n\n".join(parts)


def _chosen(rows: Sequence[Row], wanted: Wanted) -> Iterator[tuple[int, Row]]:
    """Place and light columns of each row that is wanted; hidden tests stay on the disk."""
    light: Any = rows
    if hasattr(light, "select_columns"):
        light = light.select_columns([name for name in LIGHT if name in light.column_names])
    return ((place, row) for place, row in enumerate(light) if wanted.holds(row))


def _rows(wanted: Wanted, count: int | None) -> Sequence[Row]:
    """The rows of the files; with a count no more of them is fetched than it takes."""
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(
            "task 'livecodebench' needs datasets; run pip install 'ttscale[eval]'"
        ) from error
    try:
        found: Any = datasets.load_dataset(
            "json", data_files=list(wanted.files), split="train", streaming=count is not None
        )
        return found if count is None else list(islice(filter(wanted.holds, found), count))
    except Exception as error:  # of the file, of the hub, and of whatever reaches the network
        raise InvalidInput(
            f"task 'livecodebench': cannot load {wanted.files[0]!r} ({error}); a network is "
            "needed, or a local copy: livecodebench:path=FILE.jsonl"
        ) from error


def _column(row: Row, name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"a row has no column {name!r}; its columns are {', '.join(row)}")
    return value


def _day(name: str, value: object) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise InvalidInput(f"{name} must be a day such as 2024-08-01, got {value!r}") from error
