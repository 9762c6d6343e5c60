"""Tasks: problems from files, from generators, and how answers are scored."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale.errors import InvalidInput, MissingDependency, ScoreError
from ttscale.evaluation import (
    Problem,
    Task,
    by_gold,
    from_jsonl,
    from_reasoning_gym,
    word_problems,
)
from ttscale.evaluation.book import Request
from ttscale.evaluation.config import config_of
from ttscale.evaluation.reasoning_gym import RUNS_ANSWERS
from ttscale.evaluation.word_problems import TEMPLATES

EXAMPLE = Path(__file__).parents[1] / "examples" / "word_problems.jsonl"


def file_of(folder: Path, *lines: str | bytes) -> Path:
    """A file with these lines."""
    path = folder / "problems.jsonl"
    path.write_bytes(b"\n".join(li if isinstance(li, bytes) else li.encode() for li in lines))
    return path


def test_jsonl_reads_questions_golds_and_ids(tmp_path: Path) -> None:
    """Both names of the gold answer, numbers, and the line number as the id of last resort."""
    path = file_of(
        tmp_path,
        '{"question": "a?", "answer": 7, "id": "first"}',
        '{"question": "b?", "gold": "1/2", "answer": "worked"}',
        '{"question": "c?", "answer": null, "other": [1]}',
    )
    problems, errors = from_jsonl(path)
    assert problems == (
        Problem("a?", "7", "first"),
        Problem("b?", "1/2", "2"),
        Problem("c?", None, "3"),
    )
    assert errors == ()


def test_jsonl_takes_the_final_answer_of_gsm8k(tmp_path: Path) -> None:
    """Of a worked solution only what follows the mark is the gold answer."""
    path = file_of(tmp_path, json.dumps({"question": "q", "answer": "6*7 = 42\n#### 42"}))
    assert from_jsonl(path)[0][0].gold == "42"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "property name"),
        ("[1]", "must be a JSON object, got list"),
        ('{"q": "x"}', "'question' must be a text"),
        ('{"question": "  "}', "'question' must be a text"),
        ('{"question": 3}', "'question' must be a text"),
        ('{"question": "x", "answer": true}', "'answer' must be a text or a number"),
        ('{"question": "x", "id": {}}', "'id' must be a text or a number"),
        ('{"question": "x", "answer": NaN}', "NaN is not JSON"),
        ('{"question": "\\ud800"}', "surrogates"),
        (b'{"question": "\xff"}', "utf-8"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_broken_line_is_named_and_the_others_are_kept(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    """A broken line gives its number and what is wrong; the lines around it are still problems."""
    good = '{"question": "fine?"}'
    problems, errors = from_jsonl(file_of(tmp_path, good, "", line, good))
    assert [p.id for p in problems] == ["1", "4"]
    assert [e.line for e in errors] == [3]
    assert reason in errors[0].reason


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """A file saved with a mark in front reads like one without."""
    problems, errors = from_jsonl(file_of(tmp_path, b'\xef\xbb\xbf{"question": "x"}'))
    assert (len(problems), errors) == (1, ())


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there, or a folder, is named."""
    with pytest.raises(InvalidInput, match=r"nothing\.jsonl.*No such file"):
        from_jsonl(tmp_path / "nothing.jsonl")
    with pytest.raises(InvalidInput, match="directory"):
        from_jsonl(tmp_path)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_give_problems_or_line_errors(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    """No content makes reading fail, and every line error points into the file."""
    path = file_of(tmp_path_factory.mktemp("any"), *lines)
    problems, errors = from_jsonl(path)
    count = len(path.read_bytes().splitlines())
    assert len(problems) + len(errors) <= count
    assert all(1 <= e.line <= count for e in errors)


def test_gold_scoring_uses_equivalence() -> None:
    """Another spelling of the gold answer is right; another value is not."""
    problem = Problem("q", "1000", "x")
    assert by_gold("1,000", problem) == 1.0
    assert by_gold("100", problem) == 0.0


def test_gold_scoring_needs_a_gold_answer() -> None:
    """Scoring without a gold answer is an error, not a silent zero."""
    with pytest.raises(InvalidInput, match="no gold"):
        by_gold("7", Problem("q", None, "x"))


def test_right_asks_for_the_full_score() -> None:
    """Abstaining and partial scores are not right."""
    problem = Problem("q", "7", "x")
    partial = Task("t", (problem,), lambda answer, _: 0.99 if answer == "8" else 1.0)
    assert partial.right("7", problem)
    assert not partial.right("8", problem)
    assert not partial.right(None, problem)


def test_reasoning_gym_task_scores_with_its_own_rules() -> None:
    """The generated gold answer is right, another number is not; the seed decides the problems."""
    task = from_reasoning_gym("gsm_symbolic", 3, seed=5)
    assert [p.id for p in task.problems] == ["0", "1", "2"]
    for problem in task.problems:
        assert problem.gold is not None
        assert task.right(problem.gold, problem)
        assert not task.right("123456789", problem)
    assert from_reasoning_gym("gsm_symbolic", 3, seed=5).problems == task.problems
    assert from_reasoning_gym("gsm_symbolic", 3, seed=6).problems != task.problems


def test_scorer_that_fails_is_an_error_and_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """When reasoning-gym's own code fails on an answer, that is said, with the answer."""
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import GSMSymbolicDataset

    def fails(self: object, answer: str, entry: object) -> float:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(GSMSymbolicDataset, "score_answer", fails)
    task = from_reasoning_gym("gsm_symbolic", 1)
    with pytest.raises(ScoreError, match=r"failed on '1/0': by zero"):
        task.right("1/0", task.problems[0])


def test_unknown_reasoning_gym_task_lists_close_names() -> None:
    """A mistyped name is answered with the right one."""
    with pytest.raises(InvalidInput, match=r"close names are.*gsm_symbolic"):
        from_reasoning_gym("gsm_symbolc", 3)


@pytest.mark.parametrize("name", sorted(RUNS_ANSWERS))
def test_task_that_runs_answers_is_refused(name: str) -> None:
    """Tasks whose scorers execute the answer's text are not offered."""
    with pytest.raises(InvalidInput, match="runs the answer as Python"):
        from_reasoning_gym(name, 1)


def test_missing_reasoning_gym_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the extra to install is named."""
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(MissingDependency, match=r"ttscale\[eval\]"):
        from_reasoning_gym("gsm_symbolic", 1)


@pytest.mark.parametrize("count", [0, -1])
def test_empty_tasks_are_refused(count: int) -> None:
    """A task holds at least one problem."""
    with pytest.raises(InvalidInput, match="count"):
        from_reasoning_gym("gsm_symbolic", count)
    with pytest.raises(InvalidInput, match="count"):
        word_problems(count)


@given(st.integers(0, 10**6))
def test_word_problems_are_reproducible_and_well_formed(seed: int) -> None:
    """Same seed, same problems; every answer is a positive whole number below 50."""
    task = word_problems(2 * len(TEMPLATES), seed)
    assert task == word_problems(2 * len(TEMPLATES), seed)
    for problem in task.problems:
        assert problem.gold is not None
        assert 1 <= int(problem.gold) < 50
        assert problem.question.endswith("?")
        assert not re.search(r"-\d", problem.question)


def test_longer_task_starts_with_the_shorter_one() -> None:
    """Asking for more problems keeps those that were there."""
    assert word_problems(20, 3).problems[:7] == word_problems(7, 3).problems


def test_example_file_is_what_the_generator_makes() -> None:
    """The example's 24 problems are the generator's for seed 0, in order."""
    problems, errors = from_jsonl(EXAMPLE)
    assert errors == ()
    assert problems == word_problems(24, 0).problems


def test_answers_follow_from_the_numbers_in_the_questions() -> None:
    """Worked again from each question's own numbers, in the order in which they are stated."""
    worked: list[Callable[..., int]] = [
        lambda a, b: a + b,  # found more
        lambda price, a, b: a * price + b,  # tickets and a drink
        lambda a, b: a - b,  # gave away
        lambda a, older, years: a + older + years,  # ages
        lambda a, b: a * b,  # boxes
        lambda a, b, c: a + b - c,  # bought and lost
        lambda a, b: b // a,  # shared
        lambda speed, hours, more: speed * hours + more,  # cycled and walked
        lambda a: a + 2 * a,  # twice as many
        lambda a, price, paid: paid - a * price,  # change
        lambda pages, each, days: pages - each * days,  # pages left
        lambda rows, seats, taken: rows * seats - taken,  # free seats
        lambda start, each, weeks: start + each * weeks,  # savings
        lambda a, sold, each: (a - sold) // each,  # packed
    ]
    for place, problem in enumerate(word_problems(140, 7).problems):
        numbers = [int(text) for text in re.findall(r"\d+", problem.question)]
        assert problem.gold == str(worked[place % len(worked)](*numbers)), problem.question


def test_an_opening_begins_every_answer(tmp_path: Path) -> None:
    """The model gets it as a prefix; what a pool was drawn with tells of it and of stop texts."""
    path = tmp_path / "one.jsonl"
    path.write_text('{"question": "How many?", "gold": "7"}')
    told = {"name": str(path), "opening": "There are 3 and 4, so the answer is", "stop": ["\n"]}
    plan = config_of({"task": [told]}, "a test").plan()
    (suite,), (problem,) = plan.suites, plan.suites[0].task.problems
    asked = Request(suite, plan.arms[0], problem, (0,), draw=0, seed=0)
    assert asked.prompt().prefix == told["opening"]
    assert asked.sampler.stop == ("\n",)
    assert suite.settings() | {"opening": told["opening"], "stop": ["\n"]} == suite.settings()
