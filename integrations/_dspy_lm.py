"""`ESampLM`: a `dspy.LM` over a ttscale engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import dspy
from dspy import lm15

from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.integrations import _dspy_state as state
from ttscale.integrations import _dspy_wire as wire
from ttscale.integrations._dspy_engine import (
    SIBLINGS,
    AsyncSiblingEngine,
    SiblingEngine,
    Siblings,
    check_strategy,
)
from ttscale.sampling import Sampler
from ttscale.strategies import Strategy

FACTS: ContextVar[list[dict[str, Any]] | None] = ContextVar("ttscale_facts", default=None)
"""Where a module wants the facts (log-probability, length) of the answers of its call."""

_UNSET: Any = object()


class ESampLM(dspy.LM):  # type: ignore[misc]
    """A language model of DSPy that draws from a ttscale engine.

    Without a strategy, `n` candidates are one draw of n samples, which share a distiller. With a
    strategy, every answer is what the strategy selects from samples of its own, and `n` asks for
    that many selections. When a strategy abstains its first sample is the answer, with a warning
    in the log and the reason in the history.

    All settings are in DSPy's cache key, in saved programs and in the history, where each entry
    has a `ttscale` key with the settings and the facts of each answer (votes, log-probability,
    what ESamp did). `rollout_id` asks for fresh samples; with a seed each rollout has its own,
    derived from both. Any call may override settings: `temperature`, `top_p`, `top_k`,
    `max_tokens`, `stop`, `seed`, and `esamp` (an ESamp or None).

    Tools, images, JSON schemas and other settings that samplers do not have are refused with
    `LMUnsupportedFeatureError`. A failed draw is retried by DSPy; a refused request is not.

    Args:
        engine: What draws: a `LocalEngine`, a `ServerEngine` or any other ttscale engine.
        model: Name for DSPy, which its cache tells models apart by; `ttscale/<engine's model>`.
        strategy: What selects from samples; None gives plain candidates.
        sampler: How samples are drawn; the strategy's own, or `Sampler()`.
        esamp: Exploratory Sampling, in place of the sampler's.
        kwargs: Settings of `dspy.LM`, such as `cache`, `num_retries` and `callbacks`, and request
            settings that go before those of the sampler.

    Raises:
        InvalidInput: A setting is of the wrong kind or outside its legal range.
    """

    model: str

    def __init__(
        self,
        engine: Engine,
        model: str | None = None,
        *,
        strategy: Strategy[Any] | None = None,
        sampler: Sampler | None = None,
        esamp: ESamp | None = _UNSET,
        **kwargs: Any,
    ) -> None:
        if not isinstance(engine, Engine):
            raise InvalidInput(f"engine must be a ttscale engine with adraw(), got {engine!r}")
        pair = _engines(engine, strategy, sampler, esamp)
        plain, _ = wire.settings_of(pair[0].sampler)
        metadata = _merged(_own_metadata(pair[0]), kwargs.pop("metadata", None))
        state.remember(engine)
        super().__init__(
            model or _name(engine),
            engine=pair[0],
            async_engine=pair[1],
            metadata=metadata,
            **{**plain, **kwargs},
        )

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Answer as `dspy.LM` does: a list of answers, or a Response for a Request."""
        prompt, kwargs = self._with_metadata(prompt, kwargs)
        with self._siblings(prompt, kwargs):
            return super().__call__(prompt, messages=messages, **kwargs)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """The same, asynchronously."""
        prompt, kwargs = self._with_metadata(prompt, kwargs)
        with self._siblings(prompt, kwargs):
            return await super().acall(prompt, messages=messages, **kwargs)

    def copy(self, **kwargs: Any) -> ESampLM:
        """A copy with other settings, which shares the engine.

        Takes what the constructor takes; `engine` must be a ttscale engine.
        """
        changed = {"engine", "strategy", "sampler", "esamp"} & kwargs.keys()
        own = {name: kwargs.pop(name) for name in changed}
        copied: ESampLM = super().copy(**kwargs)
        if own:
            copied._reconfigure(own, kept=kwargs)
        return copied

    def update_history(self, entry: dict[str, Any]) -> None:
        """Add the settings and the facts of each answer to a history entry."""
        responses = entry["response"]
        responses = responses if isinstance(responses, tuple | list) else (responses,)
        facts = [(r.provider_data or {}).get(wire.CHANNEL, {}) for r in responses]
        entry["ttscale"] = {"settings": _asked(entry), "answers": facts}
        if (wanted := FACTS.get()) is not None:
            wanted[:] = facts
        super().update_history(entry)

    @classmethod
    def load_state(
        cls,
        state: dict[str, Any],
        *,
        allow_custom_lm_class: bool = False,  # noqa: ARG003 - DSPy asks before it comes here
    ) -> ESampLM:
        """The LM that `dump_state` has saved.

        Raises:
            InvalidInput: This process has no engine of the saved kind and model.
        """
        saved = {k: v for k, v in state.items() if k not in ("async_engine", "metadata")}
        pair = SiblingEngine.load_state(saved.pop("engine")["state"])
        others = {k: v for k, v in state["metadata"].items() if k != wire.CHANNEL}
        return cls(
            pair.engine,
            strategy=pair.strategy,
            sampler=pair.sampler,
            metadata=others,
            **{k: v for k, v in saved.items() if not k.startswith("_")},
        )

    def _reconfigure(self, own: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
        """Take other engines; request settings that `kept` names stay as they are."""
        old: SiblingEngine = self.engine
        engine = own.get("engine", old.engine)
        strategy = own.get("strategy", old.strategy)
        sampler = own.get("sampler")
        if sampler is None and "strategy" not in own:
            sampler = old.sampler
        pair = _engines(engine, strategy, sampler, own.get("esamp", _UNSET))
        self._engine_spec, self._async_engine_spec = pair
        if self.model == _name(old.engine) and "model" not in kept:
            self.model = _name(engine)
        state.remember(engine)
        if "sampler" in own or "strategy" in own:
            plain, _ = wire.settings_of(pair[0].sampler)
            self.kwargs.update({k: v for k, v in plain.items() if k not in kept})
        self.kwargs["metadata"] = {**self.kwargs["metadata"], **_own_metadata(pair[0])}

    def _with_metadata(self, prompt: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The call with its ttscale settings where DSPy's cache and history see them."""
        given = dict(kwargs)
        changes = {}
        if "esamp" in given:
            changes = {"esamp": wire.esamp_settings(_checked_esamp(given.pop("esamp")))}
        merged = _merged(self.kwargs["metadata"], given.pop("metadata", None))
        merged = _merged(merged, {wire.CHANNEL: changes})
        request = prompt if isinstance(prompt, lm15.Request) else given.get("request")
        if not isinstance(request, lm15.Request):
            return prompt, {**given, "metadata": merged}
        extensions = dict(request.config.extensions or {})
        extensions["metadata"] = _merged(merged, extensions.get("metadata"))
        config = replace(wire.completed(request.config, self.kwargs), extensions=extensions)
        given.pop("request", None)
        return replace(request, config=config), given

    @contextmanager
    def _siblings(self, prompt: Any, kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Tell the engine how many answers this call is going to ask for."""
        n = 1 if isinstance(prompt, lm15.Request) else kwargs.get("n") or self.kwargs.get("n") or 1
        rollout = kwargs.get("rollout_id", self.kwargs.get("rollout_id"))
        token = SIBLINGS.set(Siblings(left=n, rollout=rollout))
        try:
            yield
        finally:
            SIBLINGS.reset(token)


def _name(engine: Engine) -> str:
    return f"ttscale/{engine.model}"


def _engines(
    engine: Engine, strategy: Any, sampler: Sampler | None, esamp: ESamp | None
) -> tuple[SiblingEngine, AsyncSiblingEngine]:
    check_strategy(strategy)
    drawn = sampler or (strategy.sampler if strategy is not None else Sampler())
    if not isinstance(drawn, Sampler):
        raise InvalidInput(f"sampler must be a ttscale.Sampler, got {drawn!r}")
    if esamp is not _UNSET:
        drawn = replace(drawn, esamp=_checked_esamp(esamp))
    return SiblingEngine(engine, strategy, drawn), AsyncSiblingEngine(engine, strategy, drawn)


def _checked_esamp(esamp: object) -> ESamp | None:
    if esamp is not None and not isinstance(esamp, ESamp):
        raise InvalidInput(f"esamp must be a ttscale.ESamp or None, got {esamp!r}")
    return esamp


def _own_metadata(engine: SiblingEngine) -> dict[str, Any]:
    _, own = wire.settings_of(engine.sampler)
    return {wire.CHANNEL: {**own, **engine.describe()}}


def _merged(base: Mapping[str, Any], over: Mapping[str, Any] | None) -> dict[str, Any]:
    """Both, `over` before `base`; the ttscale entry is merged key by key."""
    over = over or {}
    own = {**base.get(wire.CHANNEL, {}), **over.get(wire.CHANNEL, {})}
    return {**base, **over, wire.CHANNEL: own}


def _asked(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The ttscale settings of a history entry."""
    if request := entry.get("request"):
        metadata = (request.config.extensions or {}).get("metadata", {})
    else:
        metadata = entry["kwargs"].get("metadata", {})
    return dict(metadata.get(wire.CHANNEL, {}))
