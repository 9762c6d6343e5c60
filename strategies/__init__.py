"""Strategies over samples, one file a strategy.

A strategy is a sampler (how candidates are drawn) and a selector (which of them is the answer),
behind the contract of `ttscale.strategies.protocol`.
"""

from collections.abc import Mapping
from types import MappingProxyType

from ttscale.strategies._run import Event
from ttscale.strategies.best_of_n import BestOfN
from ttscale.strategies.budget import Budget
from ttscale.strategies.outcome import Outcome, Spent
from ttscale.strategies.presets import ESampBestOfN, ESampSelfConsistency, ESampVerifierRerank
from ttscale.strategies.protocol import Anytime, Ask, Cancels, Draw, Result, Score, Strategy
from ttscale.strategies.record import Record
from ttscale.strategies.runner import Runs, arun, run, stream
from ttscale.strategies.self_consistency import SelfConsistency
from ttscale.strategies.verifier_rerank import VerifierRerank
from ttscale.strategies.vote import Vote

NAMES: Mapping[str, type[BestOfN] | type[SelfConsistency] | type[VerifierRerank]] = (
    MappingProxyType({s.name: s for s in (BestOfN, SelfConsistency, VerifierRerank)})
)
"""The strategies by their names."""

__all__ = [
    "NAMES",
    "Anytime",
    "Ask",
    "BestOfN",
    "Budget",
    "Cancels",
    "Draw",
    "ESampBestOfN",
    "ESampSelfConsistency",
    "ESampVerifierRerank",
    "Event",
    "Outcome",
    "Record",
    "Result",
    "Runs",
    "Score",
    "SelfConsistency",
    "Spent",
    "Strategy",
    "VerifierRerank",
    "Vote",
    "arun",
    "run",
    "stream",
]

if __name__ != "ttscale.strategies":  # pragma: no cover
    raise ImportError("import ttscale.strategies, not strategies")
