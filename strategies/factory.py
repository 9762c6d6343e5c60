"""Strategies by their names, for command lines, adapters and configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies.adaptive import AdaptiveSelfConsistency
from ttscale.strategies.beam_search import BeamSearch
from ttscale.strategies.best_of_n import BestOfN
from ttscale.strategies.budget_forcing import BudgetForcing
from ttscale.strategies.confidence_vote import ConfidenceVote
from ttscale.strategies.medoid import Medoid
from ttscale.strategies.particle_filter import ParticleFilter
from ttscale.strategies.protocol import Strategy
from ttscale.strategies.refine import Refine
from ttscale.strategies.self_consistency import SelfConsistency
from ttscale.strategies.tournament import Tournament
from ttscale.strategies.tree_search import TreeSearch
from ttscale.strategies.verifier_rerank import VerifierRerank
from ttscale.strategies.weighted_vote import WeightedVote
from ttscale.verifiers import Verifier

NAMES: Mapping[str, type[Any]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (
            BestOfN,
            SelfConsistency,
            WeightedVote,
            AdaptiveSelfConsistency,
            ConfidenceVote,
            VerifierRerank,
            Tournament,
            BeamSearch,
            ParticleFilter,
            TreeSearch,
            BudgetForcing,
            Refine,
            Medoid,
        )
    }
)
"""The strategies by their names."""

NEED_VERIFIER = frozenset(
    strategy.name for strategy in (VerifierRerank, BeamSearch, ParticleFilter, TreeSearch, Refine)
)
"""Names of the strategies that cannot do without a verifier."""

TAKE_VERIFIER = NEED_VERIFIER | {BestOfN.name, WeightedVote.name}
"""Names of the strategies that can use one."""


def make(
    name: str,
    n: int,
    sampler: Sampler | None = None,
    verifier: Verifier | None = None,
    kind: str = "auto",
    **settings: object,
) -> Strategy[Any]:
    """The strategy of that name.

    Args:
        name: One of `NAMES`.
        n: Its number of samples; of beams or particles for those that go step by step.
        sampler: How samples are drawn; plainly by default.
        verifier: What scores them, for the strategies in `TAKE_VERIFIER`; with it a `WeightedVote`
            weighs by its scores.
        kind: Kind of answer to look for; `Medoid`, which compares whole texts, looks for none.
        settings: Further settings of the strategy.

    Raises:
        InvalidInput: The name is unknown, a verifier is missing or of no use, or a setting is
            refused.
        MissingDependency: The strategy needs an extra that is not installed.
    """
    strategy = NAMES[_check.choice("strategy", name, NAMES)]
    _check_need(name, verifier)
    known = {field.name for field in fields(strategy)}
    if unknown := sorted(set(settings) - known):
        raise InvalidInput(
            f"strategy {name!r} has no setting {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    given: dict[str, object] = {"n": n, "sampler": sampler or Sampler(), **settings}
    if verifier is not None:
        given["verifier"] = verifier
        if name == WeightedVote.name:
            given.setdefault("weight", "verifier")
    if "kind" in known:
        given.setdefault("kind", kind)
    made: Strategy[Any] = strategy(**given)
    return made


def _check_need(name: str, verifier: Verifier | None) -> None:
    """Raise InvalidInput when a verifier is missing, or of no use."""
    if verifier is None and name in NEED_VERIFIER:
        raise InvalidInput(f"strategy {name!r} needs a verifier; give verifier=...")
    if verifier is not None and name not in TAKE_VERIFIER:
        raise InvalidInput(
            f"strategy {name!r} uses no verifier; choose one of "
            f"{', '.join(sorted(TAKE_VERIFIER))}, or drop the verifier"
        )
