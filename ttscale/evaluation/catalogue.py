"""Tasks by name: what `--task` and a configuration file may say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.evaluation.reasoning_gym import from_reasoning_gym
from ttscale.evaluation.suite import Suite, maths, open_ended
from ttscale.evaluation.tasks import Task, from_jsonl
from ttscale.evaluation.word_problems import word_problems

COUNT = 40
"""Problems of a generated task, unless the caller says otherwise."""

FILES = (".jsonl", ".ndjson")

Scalar = str | int | float | bool
Maker = Callable[["TaskSpec"], Suite]


@dataclass(frozen=True)
class TaskSpec:
    """What is asked for under the name of a task.

    Attributes:
        name: A name of `NAMED`, a file of JSON lines, or a task of reasoning-gym.
        count: Problems to take, from the first; None takes all of a file, 40 of others.
        seed: Seed of generated problems.
        settings: The task's own settings.
        instruction: What follows each question; None for the task's own.
        system: The system turn; None for none.
        opening: How every answer begins; see `Suite`.
        stop: Texts at which a sample ends; none for the task's own.
    """

    name: str
    count: int | None = None
    seed: int = 0
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    instruction: str | None = None
    system: str | None = None
    opening: str = ""
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.count is not None:
            _check.integer("count", self.count, 1)

    @classmethod
    def parse(cls, text: str) -> TaskSpec:
        """Read `name` or `name:setting=value,setting=value`."""
        if Path(text).suffix in FILES:
            return cls(text)
        name, _, rest = text.partition(":")
        pairs = [part.partition("=") for part in rest.split(",") if part.strip()]
        if bad := [key for key, sign, _ in pairs if not sign or not key.strip()]:
            raise InvalidInput(f"task {text!r}: {bad[0]!r} must be written setting=value")
        return cls(name, settings={key.strip(): _scalar(value) for key, _, value in pairs})

    def suite(self) -> Suite:
        """Make the task.

        Raises:
            InvalidInput: The name or a setting is refused, or the file cannot be read.
            MissingDependency: The task needs a package that is not installed.
        """
        made = self._made()
        return replace(made, opening=self.opening, stop=self.stop or made.stop)

    def _made(self) -> Suite:
        if Path(self.name).suffix in FILES:
            return _file(self)
        if self.name in NAMED:
            return NAMED[self.name](self)
        return self._maths(
            from_reasoning_gym(self.name, self.count or COUNT, self.seed, self.settings)
        )

    def _maths(self, task: Task) -> Suite:
        return maths(task, self.instruction, self.system)

    def refuse_settings(self, known: str = "") -> None:
        """Raise InvalidInput when settings were given beside the one that the task has, if any."""
        if others := sorted(set(self.settings) - {known}):
            legal = f"the setting {known} alone" if known else "no settings"
            raise InvalidInput(f"task {self.name!r} has {legal}, got {', '.join(others)}")


def _scalar(text: str) -> Scalar:
    """A setting's value: a truth value or a number when it reads as one, else a text."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _file(spec: TaskSpec) -> Suite:
    problems, errors = from_jsonl(spec.name)
    if errors:
        raise InvalidInput(f"{spec.name!r}, line {errors[0].line}: {errors[0].reason}")
    if not problems:
        raise InvalidInput(f"{spec.name!r} holds no problem")
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise InvalidInput(f"{spec.name!r} has two problems of id {twice!r}; ids must differ")
    suite = maths(Task(Path(spec.name).stem, problems[: spec.count]), spec.instruction, spec.system)
    if all(problem.gold is None for problem in suite.task.problems):
        return replace(suite, scored=False, instruction=spec.instruction or "")
    return suite


def _word_problems(spec: TaskSpec) -> Suite:
    spec.refuse_settings()
    return maths(word_problems(spec.count or COUNT, spec.seed), spec.instruction, spec.system)


def _creative(spec: TaskSpec) -> Suite:
    """Open prompts of our own, in a file beside this one; nothing is right or wrong."""
    spec.refuse_settings()
    problems, _ = from_jsonl(Path(__file__).with_name("creative.jsonl"))
    return open_ended(Task("creative", problems[: spec.count]), spec.system)


def _livecodebench(spec: TaskSpec) -> Suite:
    from ttscale.evaluation.livecodebench import livecodebench

    return livecodebench(spec)


def _loaded(spec: TaskSpec) -> Suite:
    from ttscale.evaluation import loaders

    makers = {
        "humaneval": loaders.humaneval,
        "gpqa_diamond": loaders.gpqa_diamond,
        "books": loaders.books,
    }
    return makers.get(spec.name, loaders.competition)(spec)


NAMED: Mapping[str, Maker] = MappingProxyType(
    {
        "word_problems": _word_problems,
        "creative": _creative,
        "livecodebench": _livecodebench,
        **dict.fromkeys(
            ("humaneval", "aime24", "aime25", "gpqa_diamond", "math500", "books"), _loaded
        ),
    }
)
"""The tasks that have a name of their own."""
