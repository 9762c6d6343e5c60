"""Strategies and verifiers by name, as far as a stranger may name them."""

from __future__ import annotations

from typing import Any

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import (
    NAMES,
    BeamSearch,
    BudgetForcing,
    ParticleFilter,
    Strategy,
    TreeSearch,
    make,
)
from ttscale.strategies.factory import NEED_VERIFIER
from ttscale.verifiers import SelfJudge, Verifier, named, names
from ttscale.verifiers.naming import LOCAL_ONLY

VERIFIERS = tuple(name for name in names() if name.partition(":")[0] not in LOCAL_ONLY)
"""Verifiers that a stranger may name: they read no file and call no other host."""

STEPWISE = frozenset(s.name for s in (BeamSearch, BudgetForcing, ParticleFilter, TreeSearch))
"""Strategies whose answer is put together of several samples."""


def strategy_of(
    name: str, n: int, sampler: Sampler, verifier: str | None, kind: str, *, structured: bool
) -> Strategy[Any]:
    """The strategy of that name; the model judges itself where a verifier is needed.

    Args:
        name: One of `NAMES`.
        n: Number of samples.
        sampler: How they are drawn.
        verifier: Written as in `VERIFIERS`, or None.
        kind: Kind of answer to look for.
        structured: Whether tools or JSON are asked for.

    Raises:
        InvalidInput: A setting is refused, or does not go together with the strategy.
        MissingDependency: The strategy needs an extra that is not installed on this server.
    """
    _check.choice("ttscale.strategy", name, NAMES)
    if structured and name in STEPWISE:
        raise InvalidInput(
            f"strategy {name!r} puts its answer together of several samples, so it takes neither "
            "tools nor response_format; choose another strategy"
        )
    judge: Verifier | None = None if verifier is None else named(verifier, files=False)
    if judge is None and name in NEED_VERIFIER:
        judge = SelfJudge()
    return make(name, n, sampler, judge, kind)
