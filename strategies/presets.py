"""Strategies whose samples are drawn with Exploratory Sampling.

Functions named like the classes whose place they take; each returns the plain strategy with an
ESamp sampler in it.
"""

from __future__ import annotations

from typing import TypedDict, Unpack

from ttscale import sampling
from ttscale.esamp.settings import ESamp
from ttscale.strategies.best_of_n import BestOfN
from ttscale.strategies.self_consistency import SelfConsistency
from ttscale.strategies.verifier_rerank import VerifierRerank
from ttscale.verifiers import Verifier


class SamplerSettings(TypedDict, total=False):
    """The other settings of `Sampler`, by name."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    max_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    top_logprobs: int
    fire_temperature: float | None


def ESampBestOfN(  # noqa: N802 - stands in for the class BestOfN
    n: int = 16,
    *,
    beta: float = 0.25,
    esamp: ESamp | None = None,
    verifier: Verifier | None = None,
    kind: str = "auto",
    **sampler: Unpack[SamplerSettings],
) -> BestOfN:
    """`BestOfN` over ESamp samples of strength `beta`, or of the full settings `esamp`."""
    drawn = sampling.esamp(beta, esamp=esamp, **sampler)
    return BestOfN(n, drawn, verifier, kind)


def ESampSelfConsistency(  # noqa: N802 - stands in for the class SelfConsistency
    n: int = 16,
    *,
    beta: float = 0.25,
    esamp: ESamp | None = None,
    kind: str = "auto",
    **sampler: Unpack[SamplerSettings],
) -> SelfConsistency:
    """`SelfConsistency` over ESamp samples of strength `beta`, or of the settings `esamp`."""
    drawn = sampling.esamp(beta, esamp=esamp, **sampler)
    return SelfConsistency(n, drawn, kind)


def ESampVerifierRerank(  # noqa: N802 - stands in for the class VerifierRerank
    verifier: Verifier,
    n: int = 16,
    *,
    beta: float = 0.25,
    esamp: ESamp | None = None,
    kind: str = "auto",
    **sampler: Unpack[SamplerSettings],
) -> VerifierRerank:
    """`VerifierRerank` over ESamp samples of strength `beta`, or of the settings `esamp`."""
    drawn = sampling.esamp(beta, esamp=esamp, **sampler)
    return VerifierRerank(verifier, n, drawn, kind)
