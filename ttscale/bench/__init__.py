"""What ESamp costs: paired timings of the same work with and without it, on one engine."""

from ttscale.bench.measure import Measured, Pair, measure
from ttscale.bench.workloads import STANDARD, Workload

__all__ = ["STANDARD", "Measured", "Pair", "Workload", "measure"]
