"""Tasks of reasoning-gym (arXiv 2505.24760), scored by its own rules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from ttscale import _check
from ttscale.errors import InvalidInput, MissingDependency, ScoreError
from ttscale.evaluation.tasks import Problem, Task

RUNS_ANSWERS = frozenset(
    {
        "binary_matrix",
        "countdown",
        "intermediate_integration",
        "n_queens",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
        "spiral_matrix",
        "string_insertion",
    }
)
"""Tasks whose scorers run the answer as Python (`eval`, sympy's `parse_expr`), as of 0.1.25."""


def from_reasoning_gym(
    name: str, count: int, seed: int = 0, settings: Mapping[str, object] | None = None
) -> Task:
    """The first `count` problems of a reasoning-gym task, generated from `seed`.

    `settings` are the task's own, such as `max_terms` of chain_sum: they say how hard it is.
    Needs the extra `ttscale[eval]`. Tasks in `RUNS_ANSWERS` are refused: a model's text is never
    executed here. The task's `score` raises ScoreError when reasoning-gym fails on an answer.

    Raises:
        MissingDependency: reasoning-gym is not installed.
        InvalidInput: The task is unknown or refused, or count or seed is out of range.
    """
    _check.integer("count", count, 1)
    _check.integer("seed", seed, 0)
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise MissingDependency(
            f"task {name!r} needs reasoning-gym, not installed; run pip install 'ttscale[eval]'"
        ) from error
    _check_name(name, list(DATASETS))
    try:
        dataset = reasoning_gym.create_dataset(name, size=count, seed=seed, **(settings or {}))
        entries = [dataset[place] for place in range(count)]
    except (AssertionError, TypeError, ValueError) as error:
        raise InvalidInput(f"reasoning-gym cannot make task {name!r}: {error}") from error
    places = {str(place): entry for place, entry in enumerate(entries)}

    def score(answer: str, problem: Problem) -> float:
        try:
            return float(dataset.score_answer(answer, places[problem.id]))
        except Exception as error:  # foreign code that meets a model's text
            raise ScoreError(
                f"the scorer of task {name!r} failed on {answer!r}: {error}"
            ) from error

    return Task(name, tuple(_problem(key, entry) for key, entry in places.items()), score)


def _check_name(name: str, known: list[str]) -> None:
    if name in RUNS_ANSWERS:
        raise InvalidInput(
            f"task {name!r} is refused: its scorer in reasoning-gym runs the answer as Python"
        )
    if name not in known:
        close = difflib.get_close_matches(name, set(known) - RUNS_ANSWERS, n=4, cutoff=0.4)
        near = ", ".join(close) or "gsm_symbolic, chain_sum, basic_arithmetic"
        raise InvalidInput(f"unknown task {name!r}; close names are {near}")


def _problem(key: str, entry: dict[str, object]) -> Problem:
    gold = entry.get("answer")
    return Problem(str(entry["question"]), None if gold is None else str(gold), key)
