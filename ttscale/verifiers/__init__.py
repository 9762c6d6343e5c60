"""Verifiers: what tells a good candidate from a bad one.

One contract for all (`Verifier`): scores in a declared range, one score or one error for each
candidate, never a made-up number. Light to import: what needs pydantic, httpx or an optional
package is loaded when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ttscale.verifiers.callable import CallableVerifier
from ttscale.verifiers.checks import Gold, JSONSchema, MathEquivalence, Regex
from ttscale.verifiers.judge import SelfJudge
from ttscale.verifiers.llm_judge import LLMJudge, PairJudge
from ttscale.verifiers.naming import named, names
from ttscale.verifiers.protocol import Verifier
from ttscale.verifiers.sheet import CandidateScore, ScoreSheet

if TYPE_CHECKING:
    from ttscale.verifiers.calibrating import (
        Calibration,
        Labelled,
        PositionBias,
        acalibrate,
        aposition_bias,
        calibrate,
        calibration,
        position_bias,
    )
    from ttscale.verifiers.python_tests import PythonTests
    from ttscale.verifiers.reward import CrossEncoder, ProcessReward, RewardModel

__all__ = [
    "Calibration",
    "CallableVerifier",
    "CandidateScore",
    "CrossEncoder",
    "Gold",
    "JSONSchema",
    "LLMJudge",
    "Labelled",
    "MathEquivalence",
    "PairJudge",
    "PositionBias",
    "ProcessReward",
    "PythonTests",
    "Regex",
    "RewardModel",
    "ScoreSheet",
    "SelfJudge",
    "Verifier",
    "acalibrate",
    "aposition_bias",
    "calibrate",
    "calibration",
    "named",
    "names",
    "position_bias",
]

_LATER = {
    "calibrating": (
        "Calibration",
        "Labelled",
        "PositionBias",
        "acalibrate",
        "aposition_bias",
        "calibrate",
        "calibration",
        "position_bias",
    ),
    "python_tests": ("PythonTests",),
    "reward": ("CrossEncoder", "ProcessReward", "RewardModel"),
}


def __getattr__(name: str) -> Any:
    """Load what is not needed by most callers when it is asked for."""
    for module, held in _LATER.items():
        if name in held:
            return getattr(import_module(f"ttscale.verifiers.{module}"), name)
    raise AttributeError(f"module 'ttscale.verifiers' has no attribute {name!r}")
