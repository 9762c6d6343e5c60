"""What a caller may ask of ESamp, and the legal range of each setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ttscale import _check
from ttscale.errors import InvalidInput

BETA_RANGE = (0.0, 4.0)
SCOPES = ("prompt", "shared")
LATENT_DISTILLERS = ("ridge", "swiglu")
DISTILLERS = (*LATENT_DISTILLERS, "vocab")
"""Those that learn the state itself, then the ablation that learns the tokens' distribution."""
FUSIONS = ("mix", "subtract", "noise")
FLAGS = ("gate", "hold_eos")
KEY_PREFIX = "esamp_"
MAX_GROUP_LENGTH = 128
_GROUP = re.compile(r"[A-Za-z0-9._:-]+")


@dataclass(frozen=True, slots=True)
class ESamp:
    """Settings of Exploratory Sampling for one request.

    Attributes:
        beta: Strength of the push away from what the distiller predicts, in [0, 4] (Eq. 6; the
            paper uses 0.25). 0 trains and reports, and changes no token.
        scope: `prompt` gives the parallel samples of one request a distiller of their own;
            `shared` trains one for all requests of the worker that ask for it.
        group: Requests that name the same group share one distiller, whatever their prompts.
            Excludes scope `shared`.
        distiller: `ridge` (closed form) or `swiglu` (the paper's, trained with Adam), or for
            ablations `vocab` (swiglu's network, trained through the LM head on the KL divergence).
        fusion: `mix` (Eq. 7), or for ablations `subtract` (`ref - beta * dist`) and `noise`
            (random directions of the same norm as the prediction error).
        seed: Seed of everything that the distiller draws.
        gate: Whether the push waits until the distiller knows something: it is off while the
            group's relative error is 1 or more (predicting zero is as good), full at 0.8 and below,
            and linear between. Without it every row is pushed from the first step, as in the paper.
        hold_eos: Whether the push may not make the end of a sample likelier: no end token gains on
            the likeliest other one. Without it the end is pushed like any token, as in the paper.

    Raises:
        InvalidInput: A value is outside its legal range.
    """

    beta: float = 0.25
    scope: str = "prompt"
    group: str | None = None
    distiller: str = "ridge"
    fusion: str = "mix"
    seed: int = 0
    gate: bool = True
    hold_eos: bool = True

    def __post_init__(self) -> None:
        _check.number("esamp_beta", self.beta, *BETA_RANGE)
        _check.choice("esamp_scope", self.scope, SCOPES)
        _check.choice("esamp_distiller", self.distiller, DISTILLERS)
        _check.choice("esamp_fusion", self.fusion, FUSIONS)
        _check.integer("esamp_seed", self.seed, 0, 2**31 - 1)
        for name in FLAGS:
            flag = _check.flag(KEY_PREFIX + name, getattr(self, name))
            object.__setattr__(self, name, flag)
        if self.group is not None:
            self._check_group(self.group)

    def _check_group(self, group: object) -> None:
        if (
            not isinstance(group, str)
            or len(group) > MAX_GROUP_LENGTH
            or not _GROUP.fullmatch(group)
        ):
            raise InvalidInput(
                f"esamp_group must be 1 to {MAX_GROUP_LENGTH} letters, digits or ._:-; "
                f"got {group!r}"
            )
        if self.scope == "shared":
            raise InvalidInput(
                f"esamp_group {group!r} and esamp_scope 'shared' exclude each other; drop one"
            )

    def to_keys(self) -> dict[str, str | int | float]:
        """The flat request keys (`vllm_xargs`, `SamplingParams.extra_args`) of these settings."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {name: int(getattr(self, name)) for name in FLAGS}  # servers take no booleans
        return {KEY_PREFIX + name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any]) -> ESamp | None:
        """Read the settings from flat request keys; None when no `esamp_` key is among them.

        Raises:
            InvalidInput: An `esamp_` key is unknown or its value is illegal.
        """
        own = {k.removeprefix(KEY_PREFIX): v for k, v in keys.items() if k.startswith(KEY_PREFIX)}
        if not own:
            return None
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(own) - known):
            allowed = ", ".join(KEY_PREFIX + name for name in sorted(known))
            raise InvalidInput(f"unknown key {KEY_PREFIX}{unknown[0]}; allowed are {allowed}")
        return cls(**own)
