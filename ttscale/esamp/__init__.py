"""Exploratory Sampling (arXiv 2604.24927): the algorithm, in pure torch.

`settings` needs no torch; `ridge`, `swiglu`, `fusion` and `bank` are tensor code and import torch
alone. Nothing here knows vLLM.
"""

from ttscale.esamp.settings import BETA_RANGE, DISTILLERS, FUSIONS, SCOPES, ESamp

__all__ = ["BETA_RANGE", "DISTILLERS", "FUSIONS", "SCOPES", "ESamp"]
