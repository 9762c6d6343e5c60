"""Strategies with a judge, over stored samples: the samples are dealt, the judge asks the model."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ttscale import _check
from ttscale.engines import CandidateHook, Engine
from ttscale.errors import EngineStopped, TTScaleError
from ttscale.evaluation.board import Cell
from ttscale.evaluation.records import GradeRecord, SampleRecord, SelectionRecord
from ttscale.evaluation.selectors import ReplayEngine, worth
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem
from ttscale.sampling import Sampler
from ttscale.strategies import Strategy, arun
from ttscale.strategies.factory import TAKE_VERIFIER, make
from ttscale.types import Prompt, Samples
from ttscale.verifiers import SelfJudge

JUDGED = ("best-of-n", "tournament", "verifier-rerank", "weighted-vote")
"""Strategies that draw all samples first and then ask a judge about them."""


class JudgingEngine:
    """Deals stored samples of one prompt, and hands every other request to a live engine."""

    def __init__(self, prompt: Prompt, cell: Cell, live: Engine) -> None:
        self._stored = ReplayEngine(prompt, cell, live.model)
        self._prompt = prompt
        self._live = live

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._live.model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Deal or draw; see `Engine.adraw`."""
        source: Engine = self._stored if prompt == self._prompt else self._live
        return await source.adraw(prompt, n, sampler, on_candidate=on_candidate)


def check_judged(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        InvalidInput: One is no strategy with a judge that can be run over stored samples.
    """
    return tuple(dict.fromkeys(_check.choice("judge", name, JUDGED) for name in names))


def judged_strategy(name: str, n: int, kind: str) -> Strategy[object]:
    """The strategy, with the model as its own judge."""
    verifier = SelfJudge() if name in TAKE_VERIFIER else None
    return make(name, n, Sampler(), verifier, kind)


async def select(
    name: str,
    suite: Suite,
    problem: Problem,
    samples: Sequence[SampleRecord],
    grades: Sequence[GradeRecord],
    engine: Engine,
    seed: int,
) -> SelectionRecord:
    """Run one strategy over the stored samples of one problem.

    What goes wrong is written down with the record; only a dead engine is raised.

    Raises:
        EngineStopped: The engine has died.
    """
    cell = Cell(tuple(samples), tuple(grades))
    prompt = suite.prompt(problem)
    started = time.monotonic()
    first = samples[0]
    names = (first.task, first.problem, first.sampler, name, len(samples))
    try:
        strategy = judged_strategy(name, len(samples), suite.kind)
        outcome = await arun(strategy, JudgingEngine(prompt, cell, engine), prompt, seed=seed)
    except EngineStopped:
        raise
    except TTScaleError as error:
        return SelectionRecord(*names, None, None, error=str(error))
    right = None
    if suite.scored and outcome.candidates:
        right = worth(outcome, cell, np.array([float(bool(g.correct)) for g in grades]))
    spent = outcome.spent
    return SelectionRecord(
        *names,
        answer=outcome.answer,
        right=right,
        judged=spent.judge,
        prompt_tokens=spent.judge_usage.prompt_tokens,
        completion_tokens=spent.judge_usage.completion_tokens,
        seconds=round(time.monotonic() - started, 4),
        at=round(time.time(), 3),
        error="" if outcome.candidates else outcome.reason,
    )
