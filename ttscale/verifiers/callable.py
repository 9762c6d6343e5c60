"""A verifier made of a plain function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ttscale import _check
from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.types import Candidate, Prompt
from ttscale.verifiers.sheet import CandidateScore, ScoreSheet, check_range, score_of

ScoreFunction = Callable[[str, str], float | Awaitable[float]]


@dataclass(frozen=True, slots=True)
class CallableVerifier:
    """Scores each candidate with `fn(question, text)`.

    What goes wrong with one candidate (the function raises, or returns no number, NaN or a number
    out of range) is the error of that candidate alone.

    Attributes:
        fn: Takes the last user turn and the candidate's text; may be asynchronous. A synchronous
            function runs in worker threads, up to `concurrency` of them at once, and is not
            stopped by cancellation.
        low: The worst score that `fn` returns.
        high: The best score that `fn` returns.
        name: Name for reports.
        concurrency: Calls that run at the same time; 1 for a function that is not thread-safe.

    Raises:
        InvalidInput: `fn` cannot be called, or a setting is outside its legal range.
    """

    fn: ScoreFunction
    low: float = 0.0
    high: float = 1.0
    name: str = "callable"
    concurrency: int = 8

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise InvalidInput(f"fn must be callable as fn(question, text), got {self.fn!r}")
        check_range(self.low, self.high)
        _check.integer("concurrency", self.concurrency, 1)

    async def ascore(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        engine: Engine,  # noqa: ARG002 - part of the protocol; a function needs no model
    ) -> ScoreSheet:
        """Score every candidate; see `Verifier.ascore`."""
        jobs = [self._score(i, prompt.question, c.text) for i, c in enumerate(candidates)]
        return ScoreSheet(tuple(await gather(jobs, self.concurrency)))

    async def _score(self, place: int, question: str, text: str) -> CandidateScore:
        try:
            value = await self._call(question, text)
        except Exception as error:  # noqa: BLE001 - foreign code; must not lose the others
            return CandidateScore(place, error=f"{type(error).__name__}: {error}")
        return score_of(place, value, self.low, self.high)

    async def _call(self, question: str, text: str) -> object:
        call = getattr(self.fn, "__call__", None)  # noqa: B004 - objects with an async __call__
        if inspect.iscoroutinefunction(self.fn) or inspect.iscoroutinefunction(call):
            value: object = self.fn(question, text)
        else:
            value = await asyncio.to_thread(self.fn, question, text)
        return await value if inspect.isawaitable(value) else value
