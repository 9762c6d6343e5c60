"""A task as it is put to a model: the problems, the words around them, and how to read a reply."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ttscale.answers import Answer, extract_answer
from ttscale.evaluation.tasks import Problem, Task
from ttscale.types import Prompt

MATHS_INSTRUCTION = "Give the final answer as \\boxed{answer}."
"""What follows every question of a task with answers, unless the caller says otherwise."""

Reader = Callable[[str], Answer | None]
_NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?", re.ASCII)


@dataclass(frozen=True)
class Suite:
    """A task, and everything that turns its problems into prompts and replies into answers.

    Attributes:
        task: The problems and their scorer.
        kind: Kind of answer, as in `ttscale.answers.extract_answer`; strategies are given it.
        instruction: What follows each question; empty for nothing.
        system: The system turn; None for none.
        raw: Whether questions are texts to be continued, without a chat template.
        scored: Whether a sample can be right or wrong.
        reader: What takes the answer out of a reply; None reads by `kind`.
        stop: Texts at which a sample ends.
        opening: How every answer begins: the model goes on from there, and samples are kept with
            it in front.
    """

    task: Task
    kind: str = "auto"
    instruction: str = ""
    system: str | None = None
    raw: bool = False
    scored: bool = True
    reader: Reader | None = None
    stop: tuple[str, ...] = ()
    opening: str = ""

    @property
    def name(self) -> str:
        """Name of the task."""
        return self.task.name

    def prompt(self, problem: Problem) -> Prompt:
        """The problem as it is put to the model; samples are asked for with the opening, too."""
        text = "\n\n".join(part for part in (problem.question, self.instruction) if part)
        return Prompt.raw(text) if self.raw else Prompt.of(text, self.system)

    def read(self, text: str) -> Answer | None:
        """The answer that a sample states; None when it states none."""
        reader = self.reader or partial(extract_answer, kind=self.kind)
        return reader(text)

    def settings(self) -> dict[str, object]:
        """What of this decides the samples, for the pool's header."""
        told: dict[str, object] = {
            "kind": self.kind,
            "instruction": self.instruction,
            "system": self.system,
            "raw": self.raw,
            "scored": self.scored,
        }
        added = {"stop": list(self.stop), "opening": self.opening}
        return {**told, **{name: value for name, value in added.items() if value}}


def kind_of(task: Task) -> str:
    """`number` when answers are known and all of them are plain numbers, else `auto`."""
    golds = [problem.gold for problem in task.problems if problem.gold is not None]
    return "number" if golds and all(_NUMBER.fullmatch(gold) for gold in golds) else "auto"


def maths(task: Task, instruction: str | None = None, system: str | None = None) -> Suite:
    """The suite of a task whose answers are values: boxed answers are asked for."""
    default = MATHS_INSTRUCTION if instruction is None else instruction
    return Suite(task, kind_of(task), default, system)


def whole_text(text: str) -> Answer | None:
    """A reader for open tasks: nothing is stated, so nothing can be voted on."""
    del text
    return None


def open_ended(task: Task, system: str | None = None, *, raw: bool = False) -> Suite:
    """The suite of a task without right answers, such as a story or a continuation."""
    return Suite(task, "text", "", system, raw, scored=False, reader=whole_text)
