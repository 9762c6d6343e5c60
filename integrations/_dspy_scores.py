"""Scores of a module's candidates: by a reward function of DSPy's form or by a ttscale verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from ttscale import _sync
from ttscale.engines import CandidateHook, Engine
from ttscale.errors import InvalidInput, ScoreError
from ttscale.integrations._dspy_draw import Attempt, lm_of
from ttscale.integrations._dspy_fields import shown
from ttscale.integrations._dspy_lm import ESampLM
from ttscale.sampling import Sampler
from ttscale.types import Prompt, Samples
from ttscale.verifiers import CandidateScore, ScoreSheet, Verifier
from ttscale.verifiers.sheet import conform, score_of

MAX_REWARD = 1e300

Scores = tuple[CandidateScore, ...]
Reward = Callable[..., Any]


def by_reward(reward: Reward, inputs: Mapping[str, Any], attempts: Sequence[Attempt]) -> Scores:
    """`reward(inputs, prediction)` of each candidate.

    What goes wrong with one candidate is the error of that candidate alone.

    Raises:
        ScoreError: No candidate has a score.
    """
    # What a reward asks a model is no part of the program.
    with dspy.context(trace=[], send_stream=None):
        return checked([_rewarded(i, reward, inputs, a) for i, a in enumerate(attempts)])


async def aby_reward(
    reward: Reward, inputs: Mapping[str, Any], attempts: Sequence[Attempt]
) -> Scores:
    """The same off the event loop, since rewards are plain functions."""
    return await asyncio.to_thread(by_reward, reward, inputs, attempts)


def by_verifier(
    verifier: Verifier, module: Any, inputs: Mapping[str, Any], attempts: Sequence[Attempt]
) -> Scores:
    """The verifier's score of each candidate of `module`.

    Raises:
        ScoreError: No candidate has a score.
    """
    with dspy.context(trace=[], send_stream=None):
        lm = lm_of(module)
        work = verifier.ascore(_question(inputs), _candidates(attempts), engine_of(lm))
        return _counted(_sync.run(work), verifier, lm, len(attempts))


async def aby_verifier(
    verifier: Verifier, module: Any, inputs: Mapping[str, Any], attempts: Sequence[Attempt]
) -> Scores:
    """The same, asynchronously."""
    with dspy.context(trace=[], send_stream=None):
        lm = lm_of(module)
        work = verifier.ascore(_question(inputs), _candidates(attempts), engine_of(lm))
        return _counted(await _sync.on_background_loop(work), verifier, lm, len(attempts))


def checked(scores: Sequence[CandidateScore]) -> Scores:
    """The scores, if there is at least one.

    Raises:
        ScoreError: There is none.
    """
    if all(score.value is None for score in scores):
        raise ScoreError(f"no candidate has a score: {scores[0].error}")
    return tuple(scores)


def engine_of(lm: Any) -> Engine:
    """The ttscale engine of an `ESampLM`; for another LM one that refuses to draw."""
    if isinstance(lm, ESampLM):
        engine: Engine = lm.engine.engine
        return engine
    return _NoEngine(type(lm).__name__)


class _NoEngine:
    """Stands for the engine where the LM has none."""

    def __init__(self, lm: str) -> None:
        self.model = lm

    async def adraw(
        self,
        prompt: Prompt,  # noqa: ARG002 - the protocol's arguments
        n: int,  # noqa: ARG002
        sampler: Sampler,  # noqa: ARG002
        *,
        on_candidate: CandidateHook | None = None,  # noqa: ARG002
    ) -> Samples:
        raise InvalidInput(
            f"this verifier draws from a model, which needs ESampLM, not {self.model}"
        )


def _rewarded(
    place: int, reward: Reward, inputs: Mapping[str, Any], attempt: Attempt
) -> CandidateScore:
    try:
        value = reward(dict(inputs), dspy.Prediction(**attempt.fields))
    except Exception as error:  # noqa: BLE001 - foreign code; must not lose the others
        return CandidateScore(place, error=f"{type(error).__name__}: {error}")
    return score_of(place, value, -MAX_REWARD, MAX_REWARD)


def _question(inputs: Mapping[str, Any]) -> Prompt:
    return Prompt.of(shown({k: v for k, v in inputs.items() if k != "config"}))


def _candidates(attempts: Sequence[Attempt]) -> tuple[Any, ...]:
    return tuple(attempt.candidate for attempt in attempts)


def _counted(sheet: ScoreSheet, verifier: Verifier, lm: Any, count: int) -> Scores:
    """The sheet's scores, after its tokens were added to DSPy's usage."""
    tracker, usage = dspy.settings.usage_tracker, sheet.usage
    if tracker and usage.prompt_tokens + usage.completion_tokens:
        total = usage.prompt_tokens + usage.completion_tokens
        tokens = {"prompt_tokens": usage.prompt_tokens, "total_tokens": total}
        tracker.add_usage(lm.model, {**tokens, "completion_tokens": usage.completion_tokens})
    return checked(conform(sheet, count, verifier.low, verifier.high).scores)
