"""Reward models that a vLLM server holds: scores of whole solutions, of pairs, of steps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypedDict, Unpack

from pydantic import SecretStr

from ttscale import _check, _sync
from ttscale.answers import strip_thinking
from ttscale.engines import Engine
from ttscale.errors import InvalidInput, ScoreError
from ttscale.types import Candidate, Prompt, Usage
from ttscale.verifiers._each import check_times, score_each
from ttscale.verifiers._pooling import Json, PoolingClient, turns
from ttscale.verifiers.sheet import CandidateScore, ScoreSheet, check_range, score_of

AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "min": min,
    "prod": math.prod,
    "last": lambda scores: scores[-1],
    "mean": lambda scores: math.fsum(scores) / len(scores),
}
"""How the scores of steps make one score."""


class Settings(TypedDict, total=False):
    """What all reward models can be given by name.

    Attributes:
        low: The worst score that the model gives; 0 by default.
        high: The best score, 1 by default; a score out of range is an error of that candidate.
        use_activation: Whether the server turns logits into probabilities; None leaves it to the
            model. Raw logits need their own `low` and `high`.
        api_key: Sent as a bearer token to the addresses alone; redirects are not followed.
        timeout: Seconds for one request; 60 by default.
        total_timeout: Seconds for all candidates; None, the default, for no limit.
        retries: How often a request is sent again, as in `ServerEngine`; 2 by default.
        concurrency: Requests at the same time; 16 by default.
        name: Name for reports.
        trust_env: Whether to use proxies and certificates named by environment variables.
    """

    low: float
    high: float
    use_activation: bool | None
    api_key: SecretStr | str | None
    timeout: float
    total_timeout: float | None
    retries: int
    concurrency: int
    name: str
    trust_env: bool


class _Served:
    """What all reward models share; the arguments are told in `Settings`."""

    kind = "reward-model"

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        unknown = settings.keys() - Settings.__annotations__.keys()
        if unknown:
            legal = ", ".join(Settings.__annotations__)
            raise InvalidInput(f"settings must be among {legal}; got {', '.join(sorted(unknown))}")
        self._low, self._high = settings.get("low", 0.0), settings.get("high", 1.0)
        self._name = settings.get("name", self.kind)
        self._timeout = settings.get("timeout", 60.0)
        self._total = settings.get("total_timeout")
        self._concurrency = settings.get("concurrency", 16)
        check_range(self._low, self._high)
        check_times(self._timeout, self._total, self._concurrency)
        self._common: dict[str, Json] = {} if model is None else {"model": model}
        if (activation := settings.get("use_activation")) is not None:
            self._common["use_activation"] = activation
        self._client = PoolingClient(
            base_url,
            api_key=settings.get("api_key"),
            timeout=self._timeout,
            retries=settings.get("retries", 2),
            trust_env=settings.get("trust_env", False),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client.urls})"

    @property
    def name(self) -> str:
        """Name for reports."""
        return self._name

    @property
    def low(self) -> float:
        """The worst score."""
        return self._low

    @property
    def high(self) -> float:
        """The best score."""
        return self._high

    async def ascore(
        self,
        prompt: Prompt,
        candidates: Sequence[Candidate],
        engine: Engine,  # noqa: ARG002 - part of the protocol; the reward model is elsewhere
    ) -> ScoreSheet:
        """Score every candidate; see `Verifier.ascore`."""
        spent: list[Usage] = []

        async def score(candidate: Candidate) -> object:
            return await self._score(prompt, candidate.text, spent)

        scores = await score_each(
            candidates,
            score,
            self.low,
            self.high,
            timeout=self._timeout,
            total_timeout=self._total,
            concurrency=self._concurrency,
        )
        return ScoreSheet(scores, sum(spent, Usage()))

    async def _score(self, prompt: Prompt, text: str, spent: list[Usage]) -> float:
        """The score of one candidate."""
        raise NotImplementedError

    def close(self) -> None:
        """Close all connections; a second call does nothing."""
        _sync.run(self._client.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RewardModel(_Served):
    """An outcome reward model: `/classify` reads the conversation with the solution as its end.

    For models served with `vllm serve MODEL --runner pooling` that classify sequences, through
    their chat template. One request a candidate; the server batches them.

    Args:
        base_url: Address of the server, with or without `/v1`; several with the same model share
            the work.
        model: Its name there; None takes the one that the server has.
        label: Place of the class whose probability is the score; needed when there are several.
        settings: See `Settings`.

    Raises:
        InvalidInput: An argument is refused.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str | None = None,
        *,
        label: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(base_url, model, **settings)
        self._label = None if label is None else _check.integer("label", label, 0)

    async def _score(self, prompt: Prompt, text: str, spent: list[Usage]) -> float:
        body: dict[str, Json] = {**self._common, "messages": turns(prompt, strip_thinking(text))}
        answer = await self._client.ask("classify", body, 1)
        spent.append(answer.cost)
        return _of_label(answer.data[0].probs or [], self._label)


class CrossEncoder(_Served):
    """A cross-encoder: `/score` reads question and solution as a pair.

    For models served with `vllm serve MODEL --runner pooling` that score pairs, such as rerankers.
    All candidates are one request; when the server refuses it, each is sent alone, so that one too
    long is the error of that one. The arguments are those of `RewardModel`, without `label`.
    """

    kind = "cross-encoder"

    async def ascore(
        self, prompt: Prompt, candidates: Sequence[Candidate], engine: Engine
    ) -> ScoreSheet:
        """Score every candidate; see `Verifier.ascore`."""
        if not candidates:
            return ScoreSheet(())
        texts: list[Json] = [strip_thinking(candidate.text) for candidate in candidates]
        try:
            async with asyncio.timeout(self._total):
                answer = await self._client.ask("score", self._pairs(prompt, texts), len(texts))
        except (InvalidInput, ScoreError):
            return await super().ascore(prompt, candidates, engine)
        except TimeoutError:
            late = f"no score before total_timeout={self._total:g} s for all was up"
            return ScoreSheet.failed(len(texts), late)
        scores = [_scored(row.index, row.score, self.low, self.high) for row in answer.data]
        return ScoreSheet(tuple(scores), answer.cost)

    async def _score(self, prompt: Prompt, text: str, spent: list[Usage]) -> float:
        answer = await self._client.ask("score", self._pairs(prompt, [strip_thinking(text)]), 1)
        spent.append(answer.cost)
        return _known(answer.data[0].score)

    def _pairs(self, prompt: Prompt, texts: list[Json]) -> dict[str, Json]:
        return {**self._common, "text_1": prompt.question, "text_2": texts}


class ProcessReward(_Served):
    """A process reward model: `/pooling` reads the solution step by step, and scores each step.

    The solution is split at `separator`; `step_tag` is put behind every step, and the server must
    answer with one row for each (vLLM's pooling type STEP, which such models have by default).

    Args:
        base_url: As for `RewardModel`.
        model: As for `RewardModel`.
        step_tag: What marks the end of a step, as the model was trained.
        separator: What stands between the steps of a solution.
        aggregate: How one score is made of those of the steps: `min`, `prod`, `last` or `mean`.
        label: Place in a step's row of the probability that it is right; -1 for the last.
        settings: See `Settings`.

    Raises:
        InvalidInput: An argument is refused.
    """

    kind = "process-reward"

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str | None = None,
        *,
        step_tag: str = "<extra_0>",
        separator: str = "\n\n",
        aggregate: str = "min",
        label: int = -1,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(base_url, model, **settings)
        if not step_tag or not separator:
            raise InvalidInput("step_tag and separator must not be empty")
        self._aggregate = AGGREGATES[_check.choice("aggregate", aggregate, AGGREGATES)]
        self._tag, self._separator = step_tag, separator
        self._label = _check.integer("label", label, -1)

    async def asteps(self, prompt: Prompt, text: str) -> tuple[tuple[float, ...], Usage]:
        """The scores of a solution's steps, in order, and the tokens that were read.

        Raises:
            ScoreError: There is no step, or the server did not answer with a number for each.
            EngineError: The server fails.
            InvalidInput: It refuses the request.
        """
        # What the model must take for the end of a step must not come from the solution.
        parts = strip_thinking(text).split(self._separator)
        steps = [step for part in parts if (step := part.replace(self._tag, "")).strip()]
        if not steps:
            raise ScoreError("the candidate has no step to score")
        marked = "".join(step + self._tag for step in steps)
        body: dict[str, Json] = {
            **self._common,
            "messages": turns(prompt, marked),
            "task": "token_classify",
        }
        answer = await self._client.ask("pooling", body, 1)
        rows = answer.data[0].data or []
        if len(rows) != len(steps):
            raise ScoreError(
                f"the server answered with {len(rows)} rows for {len(steps)} steps; it must pool "
                f"by steps (pooling type STEP) and know {self._tag!r} as one token"
            )
        scores = [_of_label(r if isinstance(r, list) else [r], self._label) for r in rows]
        for score in scores:
            if not math.isfinite(score):
                raise ScoreError(f"a step's score must be a finite number, got {score!r}")
        return tuple(scores), answer.cost

    async def _score(self, prompt: Prompt, text: str, spent: list[Usage]) -> float:
        scores, cost = await self.asteps(prompt, text)
        spent.append(cost)
        return self._aggregate(scores)


def _of_label(row: Sequence[float], label: int | None) -> float:
    """The number of one class.

    Raises:
        ScoreError: There is none, or several and no `label`.
    """
    if label is None and len(row) > 1:
        raise ScoreError(f"the model has {len(row)} classes; give label= for the one that counts")
    place = 0 if label is None else label
    if not -len(row) <= place < len(row):
        raise ScoreError(f"the model has no class {place}, only {len(row)}")
    return row[place]


def _known(score: float | None) -> float:
    if score is None:
        raise ScoreError("the server answered without a score")
    return score


def _scored(place: int, score: float | None, low: float, high: float) -> CandidateScore:
    if score is None:
        return CandidateScore(place, error="the server answered without a score")
    return score_of(place, score, low, high)
