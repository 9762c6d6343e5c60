"""DSPy over ttscale: an LM, strategies as modules, and metrics.

`ESampLM` is a `dspy.LM` over a ttscale engine. `SelfConsistency`, `BestOfN`, `VerifierRerank` and
`AdaptiveSelfConsistency` are modules that optimizers compile through. `verifier_metric` and
`metric_verifier` turn verifiers into metrics and back. `ProseAdapter` lets small models answer in
free text. Needs the extra `ttscale[dspy]`.
"""

from __future__ import annotations

from ttscale.errors import MissingDependency

try:
    import dspy as _dspy  # noqa: F401 - only to say what is missing
except ImportError as error:  # pragma: no cover - the tests have it
    raise MissingDependency(
        "ttscale.integrations.dspy needs DSPy, not installed; run pip install 'ttscale[dspy]'"
    ) from error

from ttscale.integrations._dspy_choice import Choice, ChosenPrediction
from ttscale.integrations._dspy_lm import ESampLM
from ttscale.integrations._dspy_metrics import VerifierMetric, metric_verifier, verifier_metric
from ttscale.integrations._dspy_modules import (
    AdaptiveSelfConsistency,
    BestOfN,
    SelfConsistency,
    VerifierRerank,
)
from ttscale.integrations._dspy_prose import ProseAdapter
from ttscale.integrations._dspy_settings import Settings

__all__ = [
    "AdaptiveSelfConsistency",
    "BestOfN",
    "Choice",
    "ChosenPrediction",
    "ESampLM",
    "ProseAdapter",
    "SelfConsistency",
    "Settings",
    "VerifierMetric",
    "VerifierRerank",
    "metric_verifier",
    "verifier_metric",
]

# Saved programs name the LM's class by its module; they must not depend on private files.
ESampLM.__module__ = __name__
