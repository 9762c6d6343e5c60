"""Strategies over samples, one file a strategy.

A strategy is a sampler (how candidates are drawn) and a selector (which of them is the answer),
behind the contract of `ttscale.strategies.protocol`.
"""

from ttscale.strategies._run import Event
from ttscale.strategies.adaptive import AdaptiveSelfConsistency
from ttscale.strategies.beam_search import BeamSearch
from ttscale.strategies.best_of_n import BestOfN
from ttscale.strategies.budget import Budget
from ttscale.strategies.budget_forcing import BudgetForcing
from ttscale.strategies.comparing import ComparingJudge
from ttscale.strategies.compose import chain, fallback
from ttscale.strategies.confidence_vote import ConfidenceVote
from ttscale.strategies.factory import NAMES, make
from ttscale.strategies.medoid import Medoid
from ttscale.strategies.outcome import Outcome, Spent
from ttscale.strategies.particle_filter import ParticleFilter
from ttscale.strategies.presets import ESampBestOfN, ESampSelfConsistency, ESampVerifierRerank
from ttscale.strategies.protocol import Anytime, Ask, Cancels, Draw, Result, Score, Strategy
from ttscale.strategies.record import Record
from ttscale.strategies.refine import Refine
from ttscale.strategies.runner import Runs, arun, run, stream
from ttscale.strategies.self_consistency import SelfConsistency
from ttscale.strategies.tournament import Tournament
from ttscale.strategies.tree_search import TreeSearch
from ttscale.strategies.verifier_rerank import VerifierRerank
from ttscale.strategies.vote import Vote
from ttscale.strategies.weighted_vote import WeightedVote

__all__ = [
    "NAMES",
    "AdaptiveSelfConsistency",
    "Anytime",
    "Ask",
    "BeamSearch",
    "BestOfN",
    "Budget",
    "BudgetForcing",
    "Cancels",
    "ComparingJudge",
    "ConfidenceVote",
    "Draw",
    "ESampBestOfN",
    "ESampSelfConsistency",
    "ESampVerifierRerank",
    "Event",
    "Medoid",
    "Outcome",
    "ParticleFilter",
    "Record",
    "Refine",
    "Result",
    "Runs",
    "Score",
    "SelfConsistency",
    "Spent",
    "Strategy",
    "Tournament",
    "TreeSearch",
    "VerifierRerank",
    "Vote",
    "WeightedVote",
    "arun",
    "chain",
    "fallback",
    "make",
    "run",
    "stream",
]

if __name__ != "ttscale.strategies":  # pragma: no cover
    raise ImportError("import ttscale.strategies, not strategies")
