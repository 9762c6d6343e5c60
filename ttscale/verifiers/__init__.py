"""Verifiers: what tells a good candidate from a bad one."""

from ttscale.verifiers.callable import CallableVerifier
from ttscale.verifiers.judge import SelfJudge
from ttscale.verifiers.protocol import Verifier
from ttscale.verifiers.sheet import CandidateScore, ScoreSheet

__all__ = ["CallableVerifier", "CandidateScore", "ScoreSheet", "SelfJudge", "Verifier"]
