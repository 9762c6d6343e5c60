"""LiveCodeBench on small files of its columns, with programs run in the real sandbox."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from pathlib import Path

import pytest

from ttscale.errors import InvalidInput
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.contests import Case, passes, same_output
from ttscale.evaluation.livecodebench import files_of, hidden_text
from ttscale.evaluation.pickled import text_in
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem

STARTER = "class Solution:\n    def twice(self, values: List[int]) -> List[int]:\n        "
RIGHT = f"{STARTER}return [2 * v for v in values]"


def packed(tests: object) -> str:
    """Hidden tests as the data set has them: JSON, pickled, compressed, in base 64."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def one_test(given: str, wanted: str, kind: str) -> dict[str, str]:
    """One test as the data set has it."""
    return {"input": given, "output": wanted, "testtype": kind}


def row(name: str, **columns: object) -> dict[str, object]:
    """A row that reads two numbers and writes their sum, but for what is given."""
    return {
        "question_title": "Sum",
        "question_content": "Write the sum of two numbers.",
        "platform": "atcoder",
        "question_id": name,
        "contest_id": "abc1",
        "contest_date": "2024-08-10T00:00:00",
        "starter_code": "",
        "difficulty": "easy",
        "public_test_cases": json.dumps([one_test("1 2\n", "3\n", "stdin")]),
        "private_test_cases": packed([one_test("5 5\n", "10\n", "stdin")]),
        "metadata": "{}",
        **columns,
    }


FUNCTION = row(
    "f",
    contest_date="2023-05-07T00:00:00",
    starter_code=STARTER,
    public_test_cases=json.dumps([one_test("[1, 2]", "[2, 4]", "functional")]),
    private_test_cases=packed([one_test("[]", "[]", "functional")]),
    metadata=json.dumps({"func_name": "twice"}),
)


def suite(folder: Path, *rows: dict[str, object], **settings: str) -> Suite:
    """The task of a file of these rows."""
    path = folder / "test.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in rows))
    return TaskSpec("livecodebench", settings={"path": str(path), **settings}).suite()


def score(made: Suite, name: str, program: str) -> float:
    """What the program is worth on the problem of that name."""
    problem = next(p for p in made.task.problems if p.id == name)
    return made.task.score(program, problem)


def test_a_program_must_pass_public_and_hidden_tests(tmp_path: Path) -> None:
    """One that knows the example alone fails, by the hidden test."""
    made = suite(tmp_path, row("s"))
    assert score(made, "s", "print(sum(map(int, input().split())))") == 1.0
    assert score(made, "s", "print(3)") == 0.0
    assert score(suite(tmp_path, row("s"), tests="public"), "s", "print(3)") == 1.0


def test_a_function_is_called_with_the_arguments_of_each_line(tmp_path: Path) -> None:
    """`List` is there without an import, a tuple is as good as a list, another value is not."""
    made = suite(tmp_path, FUNCTION)
    assert score(made, "f", RIGHT) == 1.0
    assert score(made, "f", RIGHT.replace("return [2", "return tuple([2").replace("s]", "s])")) == 1
    assert score(made, "f", RIGHT.replace("2 *", "3 *")) == 0.0
    assert score(made, "f", "class Solution:\n    pass") == 0.0
    two = [Case("1\n[2]", "[3]"), Case("0\n[0]", "[0]")]
    assert passes("def add(a, b):\n    return [a + b[0]]", two, "add")


def test_the_question_says_which_form_the_answer_must_have(tmp_path: Path) -> None:
    """Standard input and output, or the code to begin with."""
    made = suite(tmp_path, row("s"), FUNCTION)
    first, second = (made.prompt(problem).question for problem in made.task.problems)
    assert "standard input" in first
    assert STARTER.strip() in second
    assert "standard input" not in second
    assert all("Python code block" in text for text in (first, second))
    found = made.read("So:\n```python\nprint(3)\n```")
    assert found is not None
    assert found.value == "print(3)"


def test_days_choose_problems(tmp_path: Path) -> None:
    """Both ends count; without a problem left it says so."""
    rows = (row("s"), FUNCTION)
    late = suite(tmp_path, *rows, start="2024-08-10", end="2024-08-10")
    assert [problem.id for problem in late.task.problems] == ["s"]
    with pytest.raises(InvalidInput, match="within these days"):
        suite(tmp_path, *rows, start="2025-01-01")
    with pytest.raises(InvalidInput, match="day such as"):
        suite(tmp_path, *rows, start="August")


def test_a_count_takes_the_first_that_fit(tmp_path: Path) -> None:
    """Counted after the days have chosen."""
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in (FUNCTION, row("a"), row("b"))))
    settings = {"path": str(path), "start": "2024-01-01"}
    made = TaskSpec("livecodebench", 1, settings=settings).suite()
    assert [problem.id for problem in made.task.problems] == ["a"]
    assert score(made, "a", "print(sum(map(int, input().split())))") == 1.0


def test_versions_are_the_data_sets_own() -> None:
    """release_v5 is five files, v5 the fifth, v4_v5 two of them."""
    assert files_of("release_v5") == tuple(f"test{i}.jsonl" for i in ("", 2, 3, 4, 5))
    assert files_of("v5") == ("test5.jsonl",)
    assert files_of("v4_v5") == ("test4.jsonl", "test5.jsonl")
    for wrong in ("release_v9", "v5_v4", "5"):
        with pytest.raises(InvalidInput, match="version must be"):
            files_of(wrong)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("text", ["[]", "é" * 300, "x" * 100_000])
def test_a_pickled_text_is_read(protocol: int, text: str) -> None:
    """Of every protocol and length."""
    assert text_in(pickle.dumps(text, protocol)) == text


class Evil:
    """An object whose unpickling would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    """A pickle that would do something is refused, and it has done nothing."""
    evil = pickle.dumps(Evil(tmp_path / "made"))
    with pytest.raises(InvalidInput, match="not run"):
        hidden_text(base64.b64encode(zlib.compress(evil)).decode())
    assert not (tmp_path / "made").exists()
    for other in (pickle.dumps(["[]"]), pickle.dumps(7), b"", b"\x80\x04", pickle.dumps("a")[:-1]):
        with pytest.raises(InvalidInput, match="pickle"):
            text_in(other)


def test_hidden_tests_may_be_plain_and_broken_ones_are_told() -> None:
    """As in the first version of the data set; else the error says what to do."""
    assert hidden_text('[{"input": ""}]') == '[{"input": ""}]'
    with pytest.raises(InvalidInput, match="tests=public"):
        hidden_text("%%%")
    with pytest.raises(InvalidInput, match="cut off"):
        hidden_text(base64.b64encode(zlib.compress(b"x" * 10_000)[:-4]).decode())


@pytest.mark.parametrize(
    ("written", "wanted", "same"),
    [
        ("3\n", "3", True),
        ("  1 2 \n3\n\n", "1 2\n3", True),
        ("1.0 2", "1 2.00", True),
        ("YES", "yes", False),
        ("1\n2", "1 2", False),
        ("0.3333333333", "0.3333333334", False),
        ("50000000000000001", "50000000000000000", False),
        ("1  2", "1 2", True),
        ("a  b", "a b", False),
        ("", "\n", True),
    ],
)
def test_outputs_are_compared_by_line(written: str, wanted: str, same: bool) -> None:
    """White space at the ends does not count, numbers count by their exact value."""
    assert same_output(written, wanted) is same


@pytest.mark.parametrize(
    ("program", "good"),
    [
        ("import sys\nif __name__ == '__main__':\n    print(sys.stdin.read())", True),
        ("print(input())\nexit()", True),
        ("print(input())\nraise ValueError", False),
        ("print(input(), end='\\n' * 200_000)", False),
        ("def broken(:", False),
    ],
)
def test_a_program_must_end_well(program: str, good: bool) -> None:
    """What it wrote does not count when it failed, or wrote without end."""
    assert passes(program, [Case("7", "7")]) is good


def test_a_function_that_does_not_return_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call has its own time, so the rest of the tests need not be waited for."""
    monkeypatch.setattr("ttscale.evaluation.contests.SECONDS", 0.2)
    loop = "def f(x):\n    while x: pass\n    return x"
    assert passes(loop, [Case("0", "0")], "f")
    assert not passes(loop, [Case("0", "0"), Case("1", "1")], "f")


def test_a_program_cannot_change_its_judge() -> None:
    """Names of the program that the judge could use are not the ones it uses."""
    cheat = (
        "class Same(list):\n    def __eq__(self, other): return True\n"
        "def isinstance(*_): return True\ndef list(*_): return [1]\n"
        "class AssertionError(Exception): pass\n_json = _method = None\n"
        "def f(x): return Same()"
    )
    assert not passes(cheat, [Case("1", "[1]")], "f")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"public_test_cases": "{}", "private_test_cases": "[]"}, "no test"),
        ({"public_test_cases": "[1]"}, "public_test_cases must be"),
        ({"metadata": "no"}, "metadata"),
        ({"metadata": '{"func_name": "a.b()"}'}, "Python name"),
        ({"metadata": '{"func_name": "f"}'}, "hold JSON"),
    ],
)
def test_a_broken_row_is_told(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """With the column; it is no wrong answer of the model."""
    made = suite(tmp_path, row("s", **change))
    problem = Problem("", None, "s")
    with pytest.raises(InvalidInput, match=message):
        made.task.score("print(3)", problem)


def test_wrong_settings_and_missing_files_are_told(tmp_path: Path) -> None:
    """Before anything is loaded where that is possible."""
    with pytest.raises(InvalidInput, match="no setting 'verison'"):
        TaskSpec("livecodebench", settings={"verison": "v5"}).suite()
    with pytest.raises(InvalidInput, match="not both"):
        TaskSpec("livecodebench", settings={"path": "x.jsonl", "version": "v5"}).suite()
    with pytest.raises(InvalidInput, match="path=FILE"):
        TaskSpec("livecodebench", settings={"path": str(tmp_path / "gone.jsonl")}).suite()
