"""How candidates are drawn: the sampler, one half of every strategy (the other is the selector)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp

FIRE_RANGE = (0.0, 100.0)
MAX_TOP_LOGPROBS = 20


@dataclass(frozen=True, slots=True)
class Sampler:
    """Settings with which an engine draws the samples of a prompt.

    Attributes:
        temperature: In [0, 2]; 0 is greedy, and then only one sample can be drawn.
        top_p: Nucleus mass in (0, 1].
        top_k: Number of tokens kept; 0 keeps all.
        min_p: Smallest probability kept, relative to the largest, in [0, 1].
        max_tokens: Longest sample, in tokens.
        min_tokens: Shortest sample, in tokens: the model may not end it before.
        stop: Texts at which a sample ends.
        seed: Seed of the token draws; None draws fresh ones.
        top_logprobs: Log-probabilities kept of each sample's first token, 0 to 20.
        token_logprobs: How many of the most likely tokens to look at in each place, 0 to 20; above
            0 each sample has its `token_logprobs` and `confidences`.
        include_stop: Whether a sample keeps the stop text at which it ended.
        esamp: Exploratory Sampling, or None for plain sampling.
        fire_temperature: Temperature of the first token alone, in (0, 100] (FIRE: hot first token,
            then `temperature`); None draws it like the others.
        json_schema: JSON schema, as text, that every sample is held to while it is written (guided
            decoding); a sample that is cut off at `max_tokens` is still broken JSON. None is free.

    Raises:
        InvalidInput: A value is outside its legal range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 512
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int = 0
    token_logprobs: int = 0
    include_stop: bool = False
    esamp: ESamp | None = None
    fire_temperature: float | None = None
    json_schema: str | None = None

    def __post_init__(self) -> None:
        _check.number("temperature", self.temperature, 0, 2)
        _check.number("top_p", self.top_p, 0, 1, open_low=True)
        _check.integer("top_k", self.top_k, 0)
        _check.number("min_p", self.min_p, 0, 1)
        _check.integer("max_tokens", self.max_tokens, 1)
        _check.integer("min_tokens", self.min_tokens, 0, self.max_tokens)
        _check.integer("top_logprobs", self.top_logprobs, 0, MAX_TOP_LOGPROBS)
        _check.integer("token_logprobs", self.token_logprobs, 0, MAX_TOP_LOGPROBS)
        if self.seed is not None:
            _check.integer("seed", self.seed, 0, 2**31 - 1)
        if self.fire_temperature is not None:
            _check.number("fire_temperature", self.fire_temperature, *FIRE_RANGE, open_low=True)
            if self.temperature == 0:
                raise InvalidInput(
                    "fire_temperature needs temperature above 0, got temperature 0 (greedy)"
                )
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise InvalidInput(f"stop must be a tuple of non-empty texts, got {self.stop!r}")
        if self.json_schema is not None:
            _check.json_object("json_schema", self.json_schema)

    def check_count(self, n: int) -> None:
        """Raise InvalidInput unless `n` samples can be drawn with these settings."""
        _check.integer("n", n, 1)
        if n > 1 and self.temperature == 0:
            raise InvalidInput(
                f"n must be 1 at temperature 0 (all samples would be equal), got n={n}; "
                "raise the temperature"
            )

    def with_seed(self, seed: int | None) -> Sampler:
        """The same sampler with another seed."""
        return replace(self, seed=seed)

    @property
    def likeliest(self) -> int:
        """How many of the most likely tokens an engine must look at in each place."""
        return max(self.top_logprobs, self.token_logprobs)


def in_own_group(sampler: Sampler) -> tuple[Sampler, str | None]:
    """The sampler with an ESamp group that one draw has to itself, and the group's name.

    Such a group can be asked about. The sampler itself and None come back when it does not ask for
    ESamp, or says itself with whom it shares.
    """
    esamp = sampler.esamp
    if esamp is None or esamp.scope != "prompt" or esamp.group is not None:
        return sampler, None
    own = f"draw-{uuid.uuid4().hex}"
    return replace(sampler, esamp=replace(esamp, group=own)), own


def plain(**settings: object) -> Sampler:
    """Plain sampling; `settings` are those of `Sampler`."""
    return Sampler(**settings)  # type: ignore[arg-type]


def esamp(beta: float = 0.25, *, esamp: ESamp | None = None, **settings: object) -> Sampler:
    """Exploratory Sampling with strength `beta`, or with full settings in `esamp`."""
    return Sampler(esamp=esamp or ESamp(beta=beta), **settings)  # type: ignore[arg-type]


def fire(
    first: float = 30.0, temperature: float = 0.8, top_k: int = 16, **settings: object
) -> Sampler:
    """FIRE: the first token at temperature `first`, the others at `temperature`.

    `top_k` keeps the hot first token among the likely ones; give `esamp=` to combine both.
    """
    return Sampler(
        temperature=temperature,
        fire_temperature=first,
        top_k=top_k,
        **settings,  # type: ignore[arg-type]
    )
