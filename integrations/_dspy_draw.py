"""Running a module so that all its candidates are drawn together.

A predictor draws its n candidates with one request. Any other module runs n times at once, each
time with a rollout of its own. Candidates that do not parse are dropped; the others are kept with
the trace that they would leave if they alone had been drawn.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError

from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.integrations._dspy_engine import SHARED_GROUP
from ttscale.integrations._dspy_fields import shown
from ttscale.integrations._dspy_lm import FACTS, ESampLM
from ttscale.types import Candidate

MAX_THREADS = 64
MAX_SHOWN = 80  # characters of a text that did not parse
DEFAULT_TEMPERATURE = 1.0

Step = tuple[Any, Mapping[str, Any], Any]
"""One entry of DSPy's trace: predictor, inputs, prediction."""


@dataclass(frozen=True)
class Attempt:
    """One candidate: the fields that it states, and the trace that belongs to it."""

    fields: Mapping[str, Any]
    candidate: Candidate
    steps: tuple[Step, ...] = ()
    signature: Any = None


@dataclass(frozen=True)
class Batch:
    """The candidates of one round, and why others were dropped."""

    attempts: tuple[Attempt, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Draw:
    """How one round is drawn.

    Attributes:
        n: Number of candidates.
        temperature: Their temperature; None takes the LM's.
        esamp: ESamp settings; None leaves them to the LM.
        round: Number of the round: later rounds must not be answered from the first one's cache.
        alone: Whether there is one candidate in all rounds together, which may be greedy.
    """

    n: int
    temperature: float | None = None
    esamp: ESamp | None = None
    round: int = 0
    alone: bool = False


def is_predictor(module: Any) -> bool:
    """Whether `module` passes its `config` to one predictor."""
    return isinstance(module, dspy.Predict | dspy.ChainOfThought)


def draw(module: Any, inputs: Mapping[str, Any], how: Draw) -> Batch:
    """Run `module` for `how.n` candidates.

    Raises:
        AdapterParseError, LMError: What went wrong with the first candidate, when none is left.
    """
    if is_predictor(module):
        with _watched(module, inputs, how) as (call, sight):
            return sight.batch(module(**call))
    with _shared_group():
        runs = [_Run(module, inputs, how, place) for place in range(how.n)]
        with ThreadPoolExecutor(min(how.n, MAX_THREADS)) as pool:
            jobs = [pool.submit(contextvars.copy_context().run, run) for run in runs]
            return _collected([job.result() for job in jobs])


async def adraw(module: Any, inputs: Mapping[str, Any], how: Draw) -> Batch:
    """The same, asynchronously."""
    if is_predictor(module):
        with _watched(module, inputs, how) as (call, sight):
            return sight.batch(await module.acall(**call))
    with _shared_group():
        runs = [_Run(module, inputs, how, place) for place in range(how.n)]
        return _collected(await asyncio.gather(*(run.arun() for run in runs)))


class _Sight:
    """What is seen of one request of n candidates: which parse, and what the LM knows of them."""

    def __init__(self) -> None:
        self.facts: list[dict[str, Any]] = []
        self.kept: list[int] = []
        self.dropped: list[str] = []

    def tolerant(self, adapter: Any) -> Any:
        """A copy of an adapter that drops what it cannot parse, unless nothing is left.

        DSPy's own adapters fail all candidates when one does not parse, and then ask again for
        all of them in another format.
        """
        twin, parse_all = copy.copy(adapter), adapter._call_postprocess
        twin._call_postprocess = lambda *args: self._parse_each(parse_all, *args)
        if fallback := getattr(adapter, "_make_json_adapter_fallback", None):
            twin._make_json_adapter_fallback = lambda: self.tolerant(fallback())
        return twin

    def batch(self, prediction: Any) -> Batch:
        """The candidates of the prediction, each with the trace of the call."""
        completions = prediction.completions
        steps = list(dspy.settings.trace)
        columns = dict(completions.items())
        attempts = []
        for place in range(len(completions)):
            fields = {name: column[place] for name, column in columns.items()}
            own = [_narrowed(step, prediction, fields) for step in steps]
            candidate = self._candidate(place, fields)
            attempts.append(Attempt(fields, candidate, tuple(own), completions.signature))
        return Batch(tuple(attempts), tuple(self.dropped))

    def _parse_each(
        self,
        parse_all: Callable[..., list[Any]],
        processed: Any,
        original: Any,
        outputs: Any,
        *rest: Any,
    ) -> list[Any]:
        values: list[Any] = []
        self.kept, errors = [], []
        for place, output in enumerate(outputs):
            try:
                values += parse_all(processed, original, [output], *rest)
                self.kept.append(place)
            except AdapterParseError as error:
                errors.append(error)
        self.dropped = [_short(error) for error in errors]
        if not values:
            raise errors[0]
        return values

    def _candidate(self, place: int, fields: Mapping[str, Any]) -> Candidate:
        drawn = self.kept[place] if place < len(self.kept) else place
        facts = self.facts[drawn] if drawn < len(self.facts) else {}
        return Candidate(
            index=drawn,
            text=shown(fields),
            token_count=facts.get("token_count", 0),
            finish_reason=facts.get("finish_reason", "stop"),
            logprob=facts.get("logprob"),
        )


@contextmanager
def _watched(
    module: Any, inputs: Mapping[str, Any], how: Draw
) -> Iterator[tuple[dict[str, Any], _Sight]]:
    """The keyword arguments of one call for n candidates, and what is seen of it."""
    lm, sight = lm_of(module), _Sight()
    config = {**inputs.get("config", {}), **_settings(lm, how)}
    base = config.get("rollout_id", getattr(lm, "kwargs", {}).get("rollout_id"))
    if how.round:
        config["rollout_id"] = _rollout(base, how.round)
    adapter = sight.tolerant(dspy.settings.adapter or dspy.ChatAdapter())
    token = FACTS.set(sight.facts)
    try:
        # Losing candidates must neither be streamed nor stay in the caller's trace.
        with dspy.context(adapter=adapter, trace=[], send_stream=None):
            yield {**inputs, "config": config}, sight
    finally:
        FACTS.reset(token)


def _narrowed(step: Step, prediction: Any, fields: Mapping[str, Any]) -> Step:
    """The trace entry with one candidate in place of all of them."""
    predictor, inputs, output = step
    if output is not prediction:
        return step
    signature = prediction.completions.signature
    return predictor, inputs, dspy.Prediction.from_completions([dict(fields)], signature=signature)


def _settings(lm: Any, how: Draw) -> dict[str, Any]:
    """Request settings of one round; the temperature is explicit, or DSPy would change it."""
    settings: dict[str, Any] = {"n": how.n}
    if how.temperature is not None:
        settings["temperature"] = how.temperature
    elif not how.alone:
        own = getattr(lm, "kwargs", {}).get("temperature")
        settings["temperature"] = own or DEFAULT_TEMPERATURE
    if how.esamp is not None:
        if not isinstance(lm, ESampLM):
            raise InvalidInput(f"esamp needs an ESampLM, and the LM is a {type(lm).__name__}")
        settings["esamp"] = how.esamp
    return settings


@dataclass
class _Run:
    """One of several runs of a module, on a copy of it with an LM of its own rollout."""

    module: Any
    inputs: Mapping[str, Any]
    how: Draw
    place: int
    origin: dict[int, Any] = field(default_factory=dict)

    def __call__(self) -> Attempt | AdapterParseError | LMError:
        with ExitStack() as stack:
            twin = self._twin(stack)
            try:
                return self._attempt(twin(**self.inputs))
            except (AdapterParseError, LMError) as error:
                return error

    async def arun(self) -> Attempt | AdapterParseError | LMError:
        with ExitStack() as stack:
            twin = self._twin(stack)
            try:
                if hasattr(twin, "aforward"):
                    return self._attempt(await twin.acall(**self.inputs))
                return self._attempt(await asyncio.to_thread(twin, **self.inputs))
            except (AdapterParseError, LMError) as error:
                return error

    def _twin(self, stack: ExitStack) -> Any:
        """A copy of the module, in a context of its own that lasts as long as `stack`."""
        twin = self.module.deepcopy()
        copied: dict[int, Any] = {}
        for own, other in zip(_predictors(self.module), _predictors(twin), strict=True):
            self.origin[id(other)] = own
            if own.lm is not None:
                other.lm = copied.setdefault(id(own.lm), self._own_rollout(own.lm))
        lm = dspy.settings.lm
        lm = self._own_rollout(lm) if lm is not None else None
        stack.enter_context(dspy.context(lm=lm, trace=[], send_stream=None))
        return twin

    def _own_rollout(self, lm: Any) -> Any:
        settings = _settings(lm, self.how)
        settings.pop("n")
        base = lm.kwargs.get("rollout_id")
        return lm.copy(rollout_id=_rollout(base, self.how.round, self.place), **settings)

    def _attempt(self, prediction: Any) -> Attempt:
        fields = dict(prediction.items())
        steps = [(self.origin.get(id(p), p), i, o) for p, i, o in dspy.settings.trace]
        return Attempt(fields, Candidate(self.place, shown(fields), 0, "stop"), tuple(steps))


def _collected(done: Sequence[Attempt | AdapterParseError | LMError]) -> Batch:
    attempts = tuple(item for item in done if isinstance(item, Attempt))
    errors = [item for item in done if not isinstance(item, Attempt)]
    if not attempts:
        raise errors[0]
    return Batch(attempts, tuple(_short(error) for error in errors))


@contextmanager
def _shared_group() -> Iterator[None]:
    """Let the runs that start within share one distiller, as the samples of one request do."""
    token = SHARED_GROUP.set(SHARED_GROUP.get() or f"dspy-{uuid.uuid4().hex}")
    try:
        yield
    finally:
        SHARED_GROUP.reset(token)


def _predictors(module: Any) -> list[Any]:
    """All predictors within, also those of compiled parts, in a fixed order."""
    return [found for _, found in module.named_sub_modules(type_=dspy.Predict)]


def lm_of(module: Any) -> Any:
    """The LM that a predictor is going to use."""
    own = next((p.lm for p in _predictors(module) if p.lm is not None), None)
    return own or dspy.settings.lm


def _rollout(*parts: object) -> int:
    """A rollout id for a part of a call, which differs from those that people write."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big")


def _short(error: AdapterParseError | LMError) -> str:
    """Why one candidate was dropped, in one line."""
    if isinstance(error, AdapterParseError):
        text = str(error.lm_response)
        return f"did not parse: {text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + ' ...'!r}"
    return f"{type(error).__name__}: {error}"
