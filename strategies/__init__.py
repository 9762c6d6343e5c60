"""Strategies over samples, one file a strategy.

A strategy is a sampler (how candidates are drawn) and a selector (which of them is the answer),
behind the contract of `ttscale.strategies.protocol`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ttscale.strategies.best_of_n import BestOfN
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.presets import ESampBestOfN, ESampSelfConsistency, ESampVerifierRerank
from ttscale.strategies.protocol import Ask, Draw, Result, Score, Strategy
from ttscale.strategies.runner import Runs, arun, run
from ttscale.strategies.self_consistency import SelfConsistency
from ttscale.strategies.verifier_rerank import VerifierRerank
from ttscale.strategies.vote import Vote

NAMES: Mapping[str, type[BestOfN] | type[SelfConsistency] | type[VerifierRerank]] = (
    MappingProxyType({s.name: s for s in (BestOfN, SelfConsistency, VerifierRerank)})
)
"""The strategies by their names."""

__all__ = [
    "NAMES",
    "Ask",
    "BestOfN",
    "Draw",
    "ESampBestOfN",
    "ESampSelfConsistency",
    "ESampVerifierRerank",
    "Outcome",
    "Result",
    "Runs",
    "Score",
    "SelfConsistency",
    "Strategy",
    "VerifierRerank",
    "Vote",
    "arun",
    "run",
]

if __name__ != "ttscale.strategies":  # pragma: no cover
    raise ImportError("import ttscale.strategies, not strategies")
