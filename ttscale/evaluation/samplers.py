"""Samplers by name, and the sweep of each over temperature.

A name is `vanilla`, or a name with settings: `esamp:distiller=swiglu,beta=0.5`. What is compared is
a family: one such name over all temperatures of the sweep. An arm is a family at one temperature,
written `esamp:beta=0.5@0.8`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from ttscale import _check
from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.evaluation.contrastive import Contrastive
from ttscale.evaluation.records import SamplerRecord
from ttscale.evaluation.trees import Trees
from ttscale.sampling import Sampler

TEMPERATURES = (0.4, 0.6, 0.8, 1.0, 1.2)
"""The sweep, unless the caller says otherwise."""

Value = int | float | str
Settings = Mapping[str, Value]


class Drawer(Protocol):
    """Settings, as a dataclass, of what draws in an engine's place."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def check(self, model: str) -> None:
        """Raise InvalidInput, before anything is drawn, unless it can draw with `model`."""
        ...

    def on(self, engine: Engine) -> Engine:
        """The engine that draws instead, by way of `engine` or beside it."""
        ...


@dataclass(frozen=True, slots=True)
class Arm:
    """One family at one temperature: what a pool holds samples of.

    Attributes:
        family: The sampler's name with its settings, without the temperature.
        temperature: The temperature of the sweep.
        sampler: What the engine is given, without a seed.
        by: What draws in the engine's place; None for the engine itself.
    """

    family: str
    temperature: float
    sampler: Sampler
    by: Drawer | None = None

    @property
    def name(self) -> str:
        """Name in pools and reports."""
        return f"{self.family}@{self.temperature:g}"

    def record(self) -> SamplerRecord:
        """The arm as a pool keeps it."""
        plain = asdict(Sampler())
        given = {key: value for key, value in asdict(self.sampler).items() if value != plain[key]}
        own = {} if self.by is None else asdict(self.by)
        settings = {**given, **own, "temperature": self.sampler.temperature}
        return SamplerRecord(self.name, self.family, self.temperature, settings)


Build = Callable[[Sampler, Settings], Sampler]
"""Makes a family's sampler of the common one (temperature, longest sample) and its settings."""


def _unchanged(base: Sampler, _: Settings) -> Sampler:
    return base


@dataclass(frozen=True, slots=True)
class Family:
    """A sampler that has a name.

    Attributes:
        about: What it does, in one line.
        defaults: Its settings and their values when none are given.
        build: Makes the sampler.
        by: Makes what draws in the engine's place, of the settings.
    """

    about: str
    defaults: Settings
    build: Build = _unchanged
    by: Callable[[Settings], Drawer] | None = None


ESAMP_DEFAULTS: Settings = MappingProxyType(
    {
        "beta": 0.25,
        "distiller": "ridge",
        "scope": "prompt",
        "fusion": "mix",
        "gate": 1,
        "hold_eos": 1,
    }
)


def _esamp(base: Sampler, given: Settings) -> Sampler:
    return replace(base, esamp=ESamp(**{k: given[k] for k in ESAMP_DEFAULTS}))  # type: ignore[arg-type]


def _fire(base: Sampler, given: Settings) -> Sampler:
    return replace(base, fire_temperature=given["first"], top_k=given["top_k"])  # type: ignore[arg-type]


def _matched(base: Sampler, given: Settings) -> Sampler:
    beta = _check.number("beta", given["beta"], 0, 4)
    return replace(base, temperature=base.temperature / (1 + beta))


FIRE_DEFAULTS: Settings = MappingProxyType({"first": 30.0, "top_k": 16})

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "vanilla": Family("plain sampling", {}),
        "matched": Family(
            "plain sampling at temperature / (1 + beta), as sharp as ESamp's logits without "
            "its distiller",
            {"beta": 0.25},
            _matched,
        ),
        "top-p": Family(
            "nucleus sampling",
            {"p": 0.95},
            lambda base, given: replace(base, top_p=given["p"]),  # type: ignore[arg-type]
        ),
        "min-p": Family(
            "tokens of at least p times the likeliest one's probability",
            {"p": 0.1},
            lambda base, given: replace(base, min_p=given["p"]),  # type: ignore[arg-type]
        ),
        "fire": Family("a hot first token", FIRE_DEFAULTS, _fire),
        "esamp": Family("Exploratory Sampling", ESAMP_DEFAULTS, _esamp),
        "fire+esamp": Family(
            "a hot first token, then Exploratory Sampling",
            {**FIRE_DEFAULTS, **ESAMP_DEFAULTS},
            lambda base, given: _esamp(_fire(base, given), given),
        ),
        "noise": Family(
            "random directions as long as ESamp's: an ablation",
            {**ESAMP_DEFAULTS, "fusion": "noise"},
            _esamp,
        ),
        "subtract": Family(
            "the distilled logits subtracted: an ablation",
            {**ESAMP_DEFAULTS, "fusion": "subtract"},
            _esamp,
        ),
        "vocab": Family(
            "a distiller trained through the LM head on tokens' distributions: an ablation",
            {**ESAMP_DEFAULTS, "distiller": "vocab"},
            _esamp,
        ),
        "tree": Family(
            "tree of thoughts, searched breadth first by the model's own values",
            asdict(Trees()),
            by=lambda given: Trees(**given),  # type: ignore[arg-type]
        ),
        "contrastive": Family(
            "contrastive decoding with a second, weaker model",
            {"amateur": "", "alpha": 0.1, "beta": 0.5},
            by=lambda given: Contrastive(**given),  # type: ignore[arg-type]
        ),
    }
)
"""The samplers by name."""


def arms(names: Sequence[str], temperatures: Sequence[float], max_tokens: int) -> tuple[Arm, ...]:
    """Every sampler named at every temperature, in that order.

    Raises:
        InvalidInput: A name, a setting or a temperature is refused, or one stands there twice.
    """
    if not names or not temperatures:
        raise InvalidInput("name at least one sampler and one temperature")
    found = [arm_of(name, heat, max_tokens) for name in names for heat in temperatures]
    twice = {arm.name for arm in found if sum(arm.name == other.name for other in found) > 1}
    if twice:
        raise InvalidInput(f"the sampler {sorted(twice)[0]!r} is asked for twice; drop one")
    return tuple(found)


def arm_of(name: str, temperature: float, max_tokens: int) -> Arm:
    """The sampler of one name at one temperature.

    Raises:
        InvalidInput: The name or one of its settings is refused.
    """
    _check.number("temperature", temperature, 0, 2, open_low=True)
    word, _, rest = name.strip().partition(":")
    if word not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise InvalidInput(f"unknown sampler {word!r}; allowed are {known}")
    family = FAMILIES[word]
    given = _settings(word, rest, family.defaults)
    base = Sampler(temperature=temperature, max_tokens=max_tokens)
    label = word + (":" + ",".join(f"{k}={v}" for k, v in sorted(given.items())) if given else "")
    settings = {**family.defaults, **given}
    by = None if family.by is None else family.by(settings)
    return Arm(label, temperature, family.build(base, settings), by)


def _settings(word: str, text: str, defaults: Settings) -> dict[str, Value]:
    """The settings after the colon, each of the type of its default."""
    found: dict[str, Value] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or key not in defaults:
            legal = ", ".join(defaults) or "none"
            raise InvalidInput(f"sampler {word!r} has no setting {part!r}; its settings: {legal}")
        found[key] = _value(f"{word}:{key}", value, defaults[key])
    return found


def _value(name: str, text: str, like: Value) -> Value:
    try:
        return type(like)(text)
    except ValueError as error:
        raise InvalidInput(f"{name} must be a number, got {text!r}") from error
