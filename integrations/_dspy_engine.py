"""The two engines, sync and async, that stand between `dspy.LM` and a ttscale engine.

DSPy asks an engine for one response at a time, and asks n times for n candidates. `ESampLM` says
through `SIBLINGS` how many it is going to ask for, so that all of them come from one draw.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

from dspy import lm15

from ttscale import _sync
from ttscale._concurrent import gather
from ttscale.engines import CandidateHook, Engine
from ttscale.errors import EngineError, InvalidInput
from ttscale.integrations import _dspy_state as state
from ttscale.integrations import _dspy_wire as wire
from ttscale.sampling import Sampler
from ttscale.strategies import Strategy, arun
from ttscale.types import Candidate, Prompt, Samples

log = logging.getLogger(__name__)

MAX_SEED = 2**31
_END_MARK = re.compile(r"\s*\[\[ ## completed ## \]\].*", re.DOTALL)
_FIELD_MARK = re.compile(r"\[\[ ## (\w+) ## \]\]\s*")


@dataclass
class Siblings:
    """The responses that one call of the LM still asks for.

    Attributes:
        left: How many it has not been given yet.
        rollout: The call's rollout id; None without one.
        ready: Those that were drawn and not given yet.
    """

    left: int = 1
    rollout: object = None
    ready: list[lm15.Response] = field(default_factory=list)


SIBLINGS: ContextVar[Siblings | None] = ContextVar("ttscale_siblings", default=None)
SHARED_GROUP: ContextVar[str | None] = ContextVar("ttscale_shared_group", default=None)
"""Name of the ESamp group that calls join which are candidates of one another."""


class SiblingEngine:
    """What `dspy.LM` calls: one response per call, all siblings from one draw.

    A copy is the same object, so that copies of a program share the model.
    """

    supports_function_calling = False
    supports_reasoning = False
    supports_response_schema = False
    supported_params = frozenset({"max_tokens", "seed", "stop", "temperature", "top_k", "top_p"})

    def __init__(
        self, engine: Engine, strategy: Strategy[Any] | None = None, sampler: Sampler | None = None
    ) -> None:
        self.engine = engine
        self.strategy = strategy
        self.sampler = sampler or Sampler()

    def complete(self, request: lm15.Request) -> lm15.Response:
        """The next of the siblings; see `Siblings`."""
        siblings = SIBLINGS.get() or Siblings()
        with wire.translated_errors():
            if not siblings.ready:
                siblings.ready = _sync.run(self._draw(request, siblings))
            return _next(siblings)

    def stream(self, request: lm15.Request) -> Iterator[lm15.StreamEvent]:
        """The finished response, replayed; nothing is shown before the selection."""
        yield from wire.events_of(self.complete(request))

    def describe(self) -> dict[str, Any]:
        """Engine and strategy as JSON values, without samplers, which each request can change."""
        return {
            "engine": state.describe_engine(self.engine),
            "strategy": state.describe(self.strategy, skip=("sampler",)),
        }

    def close(self) -> None:
        """Do nothing: the ttscale engine belongs to whoever made it."""

    def dump_state(self) -> dict[str, Any]:
        """The engine's model, the strategy and the sampler, without any object that lives."""
        own = self.describe()
        state.rebuild(own["strategy"])  # what cannot be loaded must not be saved
        return {**own, "sampler": state.describe(self.sampler)}

    @classmethod
    def load_state(cls, saved: Mapping[str, Any]) -> SiblingEngine:
        """The engine that was saved; see `find_engine`."""
        return cls(
            state.find_engine(saved["engine"]),
            state.rebuild(saved["strategy"]),
            state.rebuild(saved["sampler"]),
        )

    def __deepcopy__(self, memo: object) -> SiblingEngine:
        return self

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], SiblingEngine], tuple[Any]]:
        return type(self).load_state, (self.dump_state(),)

    async def _draw(self, request: lm15.Request, siblings: Siblings) -> list[lm15.Response]:
        """All responses that are still asked for; fewer when some samples failed."""
        prompt = wire.prompt_of(request)
        self._check_identity(request)
        sampler = _for_rollout(wire.sampler_of(request.config, self.sampler), siblings.rollout)
        if self.strategy is None:
            samples = await self.engine.adraw(prompt, siblings.left, _in_group(sampler))
            if not samples.candidates:
                raise EngineError(f"no sample came back: {_first_reason(samples)}")
            return wire.sibling_responses(samples, self.engine.model)
        seeds = [_nth_seed(sampler.seed, place) for place in range(siblings.left)]
        runs = [self._select(prompt, sampler.with_seed(seed)) for seed in seeds]
        return await gather(runs)

    def _check_identity(self, request: lm15.Request) -> None:
        """Refuse a call that names another engine or strategy: it would not be used."""
        own = ((request.config.extensions or {}).get("metadata") or {}).get(wire.CHANNEL, {})
        for name, mine in self.describe().items():
            if own.get(name, mine) != mine:
                raise InvalidInput(
                    f"a call cannot change the {name}; use lm.copy({name}=...), got {own[name]!r}"
                )

    async def _select(self, prompt: Prompt, sampler: Sampler) -> lm15.Response:
        """Run the strategy once; the sample that it selects is the response."""
        settings: Any = self.strategy  # a frozen dataclass, which its protocol does not tell
        strategy: Strategy[Any] = replace(settings, sampler=_in_group(sampler))
        readable = _ReadableEngine(self.engine)
        outcome = await arun(strategy, readable, prompt)
        if not outcome.candidates:
            raise EngineError(outcome.reason)
        if outcome.candidate is None:
            log.warning("%s selected nothing (%s); its first sample is used", *_why(outcome))
        place = (outcome.candidate or outcome.candidates[0]).index
        return wire.selected_response(outcome, readable.drawn[place], self.engine.model)


class AsyncSiblingEngine(SiblingEngine):
    """The same for `dspy.LM`'s asynchronous calls."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """The next of the siblings; see `Siblings`."""
        siblings = SIBLINGS.get() or Siblings()
        with wire.translated_errors():
            if not siblings.ready:
                work = self._draw(request, siblings)
                siblings.ready = await _sync.on_background_loop(work)
            return _next(siblings)

    async def stream(  # type: ignore[override]
        self, request: lm15.Request
    ) -> AsyncIterator[lm15.StreamEvent]:
        """The finished response, replayed; nothing is shown before the selection."""
        for event in wire.events_of(await self.complete(request)):
            yield event

    async def aclose(self) -> None:
        """Do nothing: the ttscale engine belongs to whoever made it."""


class _ReadableEngine:
    """Shows a strategy the samples without the field marks of DSPy's chat format.

    Attributes:
        drawn: The candidates as they were drawn, by index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.drawn: dict[int, Candidate] = {}

    @property
    def model(self) -> str:
        return self._engine.model

    async def adraw(
        self, prompt: Prompt, n: int, sampler: Sampler, *, on_candidate: CandidateHook | None = None
    ) -> Samples:
        samples = await self._engine.adraw(prompt, n, sampler, on_candidate=on_candidate)
        if not self.drawn:  # later draws are a verifier's
            self.drawn = {candidate.index: candidate for candidate in samples.candidates}
        plain = (replace(c, text=without_marks(c.text)) for c in samples.candidates)
        return replace(samples, candidates=tuple(plain))


def without_marks(text: str) -> str:
    """A text in DSPy's chat format as lines `field: value`; any other text as it is."""
    return _FIELD_MARK.sub(r"\1: ", _END_MARK.sub("", text))


def check_strategy(strategy: object) -> None:
    """Raise InvalidInput unless `strategy` is None or a strategy with a `sampler` setting."""
    usable = is_dataclass(strategy) and hasattr(strategy, "start")
    if strategy is not None and not (
        usable and isinstance(getattr(strategy, "sampler", None), Sampler)
    ):
        raise InvalidInput(
            f"strategy must be one of ttscale.strategies (or None), got {strategy!r}"
        )


def _next(siblings: Siblings) -> lm15.Response:
    siblings.left -= 1
    return siblings.ready.pop(0)


def _in_group(sampler: Sampler) -> Sampler:
    """The sampler in the ESamp group of the current module call, if there is one."""
    group, esamp = SHARED_GROUP.get(), sampler.esamp
    if group is None or esamp is None or esamp.group is not None or esamp.scope != "prompt":
        return sampler
    return replace(sampler, esamp=replace(esamp, group=group))


def _for_rollout(sampler: Sampler, rollout: object) -> Sampler:
    """A sampler with a seed gets another one for each rollout, so that rollouts differ."""
    if sampler.seed is None or rollout is None:
        return sampler
    digest = hashlib.sha256(f"{sampler.seed}/{rollout}".encode()).digest()
    return sampler.with_seed(int.from_bytes(digest[:8], "big") % MAX_SEED)


def _nth_seed(seed: int | None, place: int) -> int | None:
    return None if seed is None else (seed + place) % MAX_SEED


def _first_reason(samples: Samples) -> str:
    return samples.failures[0].reason if samples.failures else "no reason given"


def _why(outcome: Any) -> tuple[str, str]:
    return outcome.strategy, outcome.reason
