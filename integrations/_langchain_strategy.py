"""Strategies from what a LangChain user writes: an object, or a name and a few settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import NAMES, Strategy, make
from ttscale.verifiers import CallableVerifier, Verifier

DEFAULT_COUNT = 8
SETTINGS = ("strategy", "n_candidates", "esamp", "verifier")


def to_strategy(
    strategy: object, n: int | None, esamp: object = None, verifier: object = None
) -> Strategy[Any]:
    """The strategy to run.

    Args:
        strategy: A strategy, or a name of `ttscale.strategies.NAMES`.
        n: Number of samples; None leaves a strategy's own, and is 8 with a name.
        esamp: A strength, settings, or False for plain sampling; None leaves a strategy's own, and
            is ESamp's default with a name.
        verifier: A verifier or a function (question, text) -> score; None leaves a strategy's own.

    Raises:
        InvalidInput: A setting is refused, or the strategy has no such setting.
    """
    if isinstance(strategy, str):
        name = _check.choice("strategy", strategy, NAMES)
        sampler = Sampler(esamp=to_esamp(True if esamp is None else esamp))
        return make(name, DEFAULT_COUNT if n is None else n, sampler, to_verifier(verifier))
    if not all(hasattr(strategy, member) for member in ("start", "ask", "tell", "outcome")):
        raise InvalidInput(
            f"strategy must be a strategy or one of {', '.join(sorted(NAMES))}; got {strategy!r}"
        )
    changes: dict[str, object] = {}
    if n is not None:
        changes["n"] = n
    if esamp is not None:
        sampler = getattr(strategy, "sampler", Sampler())
        changes["sampler"] = replace(sampler, esamp=to_esamp(esamp))
    if verifier is not None:
        changes["verifier"] = to_verifier(verifier)
    return _changed(strategy, changes)


def _changed(strategy: Any, changes: Mapping[str, object]) -> Strategy[Any]:
    """The strategy with other settings, as far as it has them."""
    if not changes:
        made: Strategy[Any] = strategy
        return made
    known = {f.name for f in fields(strategy)} if is_dataclass(strategy) else set()
    if missing := sorted(set(changes) - known):
        raise InvalidInput(
            f"strategy {strategy!r} has no setting {missing[0]!r}; set it when making the strategy"
        )
    changed: Strategy[Any] = replace(strategy, **changes)
    return changed


def with_settings(
    strategy: Strategy[Any], settings: Mapping[str, Any]
) -> tuple[Strategy[Any], dict[str, Any]]:
    """The strategy whose sampler has the call's settings, and those that it cannot take.

    A strategy takes none when it has no sampler that can be changed, and never temperature 0, at
    which only one sample can be drawn. A seed of the call is the run's, not the sampler's.

    Args:
        strategy: The strategy.
        settings: Fields of `Sampler` that the model or the call sets.
    """
    sampler = getattr(strategy, "sampler", None) if is_dataclass(strategy) else None
    if not isinstance(sampler, Sampler):
        return strategy, dict(settings)
    greedy = settings.get("temperature") == 0
    left = {"temperature": 0} if greedy else {}
    taken = {name: value for name, value in settings.items() if name not in left}
    if "seed" in taken:
        taken["seed"] = None
    changed = replace(sampler, **taken)
    return (strategy if changed == sampler else _changed(strategy, {"sampler": changed})), left


def to_esamp(esamp: object) -> ESamp | None:
    """Settings of ESamp: from settings, a mapping of them, a strength, or whether to use it."""
    if esamp is None or esamp is False:
        return None
    if isinstance(esamp, ESamp):
        return esamp
    if isinstance(esamp, Mapping):
        return ESamp.from_keys({f"esamp_{name}": value for name, value in esamp.items()})
    if esamp is True:
        return ESamp()
    return ESamp(beta=esamp)  # type: ignore[arg-type]


def to_verifier(verifier: object) -> Verifier | None:
    """A verifier, also from a function."""
    if verifier is None or isinstance(verifier, Verifier):
        return verifier
    return CallableVerifier(verifier)  # type: ignore[arg-type]
