"""What was asked: the prompts behind a pool's samples, from its header and its problems."""

from __future__ import annotations

from collections.abc import Mapping

from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import ProblemRecord
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem, Task
from ttscale.types import Prompt


def task_settings(pool: Pool, task: str) -> Mapping[str, object]:
    """What decides a task's samples, as the pool's header has it; empty when it does not say."""
    for run in pool.runs:
        tasks = run.settings.get("tasks")
        found = tasks.get(task) if isinstance(tasks, Mapping) else None
        if isinstance(found, Mapping):
            return found
    return {}


def prompt_of(pool: Pool, problem: ProblemRecord) -> Prompt:
    """The prompt whose samples the pool holds; these begin with the task's opening, if any."""
    told = task_settings(pool, problem.task)
    system = told.get("system")
    suite = Suite(
        Task(problem.task, ()),
        instruction=str(told.get("instruction") or ""),
        system=system if isinstance(system, str) else None,
        raw=told.get("raw") is True,
    )
    return suite.prompt(Problem(problem.question, problem.gold, problem.problem))
