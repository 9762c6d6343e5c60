"""The settings of a strategy module, as a part of a program that DSPy saves and loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from dspy.predict.parameter import Parameter

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.integrations import _dspy_state as state
from ttscale.integrations._dspy_fields import check_kind

MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Settings:
    """Settings of a strategy module.

    Attributes:
        n: Number of candidates; for the adaptive vote the largest.
        field: Output field that is voted on; None takes the last.
        kind: Kind of answer in a text field, as in `ttscale.answers.extract_answer`.
        temperature: Temperature of the candidates; None takes the LM's, or 1 where that is 0.
        esamp: ESamp settings; None leaves them to the LM.
        seed: Seed of ties.
        batch: Candidates per round of the adaptive vote.
        alpha: Error rate of the adaptive vote's test; None leaves only the exact rule.

    Raises:
        InvalidInput: A setting is outside its legal range.
    """

    n: int = 8
    field: str | None = None
    kind: str = "auto"
    temperature: float | None = None
    esamp: ESamp | None = None
    seed: int = 0
    batch: int = 8
    alpha: float | None = None

    def __post_init__(self) -> None:
        _check.integer("n", self.n, 1)
        check_kind(self.kind)
        _check.integer("seed", self.seed, 0, MAX_SEED)
        _check.integer("batch", self.batch, 1)
        if self.temperature is not None:
            _check.number("temperature", self.temperature, 0, 2, open_low=self.n > 1)
        if self.esamp is not None and not isinstance(self.esamp, ESamp):
            raise InvalidInput(f"esamp must be a ttscale.ESamp or None, got {self.esamp!r}")
        if self.alpha is not None:
            _check.number("alpha", self.alpha, 0, 0.5, open_low=True)


class SavedSettings(Parameter):  # type: ignore[misc]
    """Holds a module's settings where DSPy looks for what to save.

    DSPy saves parameters only, also of modules within modules, so settings must be one.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:  # noqa: ARG002 - DSPy's name
        """The settings as JSON values."""
        plain: dict[str, Any] = state.describe(self.settings)
        return {name: value for name, value in plain.items() if name != "class"}

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Take saved settings.

        Raises:
            InvalidInput: A setting is unknown or outside its legal range.
        """
        if unknown := sorted(saved.keys() - {f.name for f in fields(Settings)}):
            raise InvalidInput(f"the saved program has an unknown setting {unknown[0]!r}")
        self.settings = Settings(**{name: state.rebuild(value) for name, value in saved.items()})

    def reset(self) -> None:
        """Keep the settings; only what is learnt is reset."""
