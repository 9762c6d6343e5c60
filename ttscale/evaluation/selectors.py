"""Strategies run over stored samples: every selector judged without drawing anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttscale import _sync
from ttscale._concurrent import gather
from ttscale.engines import CandidateHook
from ttscale.errors import EngineError, TTScaleError
from ttscale.evaluation.board import Board, Cell
from ttscale.sampling import Sampler
from ttscale.strategies import NAMES, Outcome, Strategy, arun
from ttscale.types import Candidate, Prompt, Samples, Usage

Floats = NDArray[np.float64]


class ReplayEngine:
    """An engine that deals stored samples, in their order, and draws nothing.

    Raises:
        EngineError: More is asked for than is stored, or another prompt than the stored one.
    """

    def __init__(self, prompt: Prompt, cell: Cell, model: str = "stored") -> None:
        self._prompt = prompt
        self._samples = cell.samples
        self._dealt = 0
        self._model = model
        self.refused = ""  # why, once it has refused to ask the model something else

    @property
    def model(self) -> str:
        """Name of the model that drew the samples."""
        return self._model

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Deal the next `n` stored samples; see `Engine.adraw`."""
        del sampler
        if prompt != self._prompt:
            self.refused = "it asks the model something else than the stored prompt"
            raise EngineError(self.refused)
        if self._dealt + n > len(self._samples):
            raise EngineError(f"it asks for more than the {len(self._samples)} stored samples")
        taken = self._samples[self._dealt : self._dealt + n]
        self._dealt += n
        dealt = tuple(
            Candidate(i, s.text, s.tokens, s.finish, s.logprob) for i, s in enumerate(taken)
        )
        for candidate in dealt:
            if on_candidate is not None:
                on_candidate(candidate)
        return Samples(n, dealt, usage=Usage(0, sum(c.token_count for c in dealt)))


@dataclass(frozen=True)
class Replays:
    """What became of every strategy.

    Attributes:
        values: By strategy, (samplers, problems): 1 where what it selected is right.
        left_out: By strategy, why it cannot be run over stored samples.
    """

    values: Mapping[str, Floats]
    left_out: Mapping[str, str]


def replay(board: Board, kind: str, seed: int = 0) -> Replays:
    """Run every named strategy over the stored samples of each problem.

    Strategies that ask a model for more than samples of the prompt (a judge, a critique, a next
    step) are left out, with the reason.

    Args:
        board: The samples, which must be scored.
        kind: Kind of answer to look for.
        seed: Seed of the strategies' ties.
    """
    values: dict[str, Floats] = {}
    left_out: dict[str, str] = {}
    for name, made in NAMES.items():
        strategy = _make(made, board.n, kind)
        if isinstance(strategy, str):
            left_out[name] = strategy
            continue
        try:
            values[name] = _run_all(strategy, board, seed)
        except TTScaleError as error:
            left_out[name] = str(error)
    return Replays(values, left_out)


def _make(made: type[Any], n: int, kind: str) -> Strategy[Any] | str:
    """The strategy with n samples, or why it cannot be made without more."""
    known = {"n": n, "kind": kind}
    fields = dataclasses.fields(made)
    names = {field.name for field in fields}
    needed = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
        and field.name not in known
    ]
    if needed:
        return f"it needs a {needed[0]}, which asks a model"
    if "n" not in names:
        return "it does not draw a fixed number of samples"
    try:
        strategy: Strategy[Any] = made(**{k: v for k, v in known.items() if k in names})
    except TTScaleError as error:
        return str(error)
    return strategy


def _run_all(strategy: Strategy[Any], board: Board, seed: int) -> Floats:
    shape = (len(board.arms), len(board.problems))
    places = list(np.ndindex(shape))
    jobs = [_one(strategy, board, a, p, seed) for a, p in places]
    return np.array(_sync.run(gather(jobs, 1))).reshape(shape)


async def _one(strategy: Strategy[Any], board: Board, arm: int, problem: int, seed: int) -> float:
    prompt = Prompt.of(board.problems[problem].question)
    cell = board.cells[arm, problem]
    stored = ReplayEngine(prompt, cell)
    outcome = await arun(strategy, stored, prompt, seed=seed)
    if stored.refused:  # also where the strategy makes do without the answer
        raise EngineError(stored.refused)
    if not outcome.candidates:
        reasons = {failure.reason for failure in outcome.failures}
        raise EngineError("; ".join(sorted(reasons)) or outcome.reason)
    if outcome.scores and all(score.error for score in outcome.scores):
        raise EngineError(f"the pool lacks what it scores by: {outcome.scores[0].error}")
    return worth(outcome, cell, board.correct[arm, problem])


def worth(outcome: Outcome, cell: Cell, correct: Floats) -> float:
    """Whether what was selected is right: by the sample's text, else by samples of its answer."""
    if outcome.candidate is not None:
        alike = [s.text == outcome.candidate.text for s in cell.samples]
    else:
        alike = [g.answer is not None and g.answer == outcome.answer for g in cell.grades]
    return float(correct[alike].mean()) if any(alike) else 0.0
