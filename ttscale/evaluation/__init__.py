"""Tasks with known answers, and how much a measured share can be trusted."""

from ttscale.evaluation.intervals import wilson
from ttscale.evaluation.reasoning_gym import from_reasoning_gym
from ttscale.evaluation.tasks import LineError, Problem, Task, by_gold, from_jsonl
from ttscale.evaluation.word_problems import word_problems

__all__ = [
    "LineError",
    "Problem",
    "Task",
    "by_gold",
    "from_jsonl",
    "from_reasoning_gym",
    "wilson",
    "word_problems",
]
