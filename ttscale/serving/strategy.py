"""Strategies and verifiers by name, as far as a stranger may name them."""

from __future__ import annotations

from typing import Any

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import BestOfN, SelfConsistency, Strategy, VerifierRerank
from ttscale.verifiers import SelfJudge, Verifier

VERIFIERS = ("self-judge",)
"""Verifiers that read no file and call no other host."""


def verifier_of(name: str | None) -> Verifier | None:
    """The verifier of that name.

    Raises:
        InvalidInput: There is none that may be named over HTTP.
    """
    if name is None:
        return None
    _check.choice("ttscale.verifier", name, VERIFIERS)
    return SelfJudge()


def make(name: str, n: int, sampler: Sampler, verifier: str | None) -> Strategy[Any]:
    """The strategy of that name.

    Raises:
        InvalidInput: A setting is refused, or the strategy uses no verifier and one is named.
    """
    if name == BestOfN.name:
        return BestOfN(n, sampler, verifier_of(verifier))
    if name == VerifierRerank.name:
        return VerifierRerank(verifier_of(verifier) or SelfJudge(), n, sampler)
    if verifier is not None:
        raise InvalidInput(f"strategy {name!r} uses no verifier; drop ttscale.verifier")
    return SelfConsistency(n, sampler)
