"""Samplers compared by their frontiers: what each can reach over all of its temperatures.

A family's points are (quality, gain) at each temperature. Its frontier says, for each quality, the
largest gain that some mixture of its settings reaches at no lower quality. Two frontiers are
compared where their qualities overlap, by their mean distance there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttscale.evaluation.stats import Interval, percentile, replicate_p

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
GRID = 33
"""Qualities within the overlap at which two frontiers are compared."""


@dataclass(frozen=True, slots=True)
class FrontierDifference:
    """One family's frontier minus the baseline's.

    Attributes:
        interval: Mean distance over the qualities that both reach.
        p: Two-sided p-value from the resamples.
        overlap: Lowest and highest quality that was compared; None where only the best count.
        p_holm: The p-value corrected for all comparisons made together.
    """

    interval: Interval
    p: float
    overlap: tuple[float, float] | None
    p_holm: float = math.nan


def frontier(quality: Floats, gain: Floats) -> tuple[Floats, Floats]:
    """The points that no other one beats in both, with mixtures between: by rising quality.

    The upper concave hull of the points and of what follows from them: a higher quality does for a
    lower one. Mixing two settings by lot reaches every point between them.

    Args:
        quality: (settings,).
        gain: (settings,).
    """
    order = np.lexsort((gain, quality))
    hull: list[tuple[float, float]] = []
    for q, g in zip(quality[order], gain[order], strict=True):
        point = (float(q), float(g))
        if hull and hull[-1][0] == point[0]:
            hull.pop()
        while len(hull) >= 2 and _turns_up(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    best = max(range(len(hull)), key=lambda i: (hull[i][1], i))
    found = np.array(hull[best:])
    return found[:, 0], found[:, 1]


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or below the line from a to c."""
    return (c[1] - a[1]) * (b[0] - a[0]) >= (b[1] - a[1]) * (c[0] - a[0])


def distance(
    quality: Floats, gain: Floats, base_quality: Floats, base_gain: Floats
) -> tuple[float, tuple[float, float]]:
    """Mean gain of one frontier over another, and the qualities where they were compared.

    Below its first point a frontier is flat: a higher quality does for a lower one. So they are
    compared from the lower of the two first points to the lower of the two last points.
    """
    q, g = frontier(quality, gain)
    base_q, base_g = frontier(base_quality, base_gain)
    low, high = min(q[0], base_q[0]), min(q[-1], base_q[-1])
    grid = np.linspace(low, high, GRID)
    gap = np.interp(grid, q, g) - np.interp(grid, base_q, base_g)
    return float(gap.mean()), (float(low), float(high))


def compare(
    quality: Floats, gain: Floats, base_quality: Floats, base_gain: Floats, drawn: Ints
) -> FrontierDifference:
    """Two families' frontiers, with the interval of a joint bootstrap over problems.

    Args:
        quality: (settings, problems), such as pass@1.
        gain: (settings, problems), such as the Vendi score.
        base_quality: As `quality`, of the baseline.
        base_gain: As `gain`, of the baseline.
        drawn: As `ttscale.evaluation.stats.resample` makes them.
    """
    value, overlap = distance(
        quality.mean(1), gain.mean(1), base_quality.mean(1), base_gain.mean(1)
    )
    parts = [_resampled(part, drawn) for part in (quality, gain, base_quality, base_gain)]
    replicates = np.array([distance(*(part[:, i] for part in parts))[0] for i in range(len(drawn))])
    return FrontierDifference(percentile(value, replicates), replicate_p(replicates), overlap)


def compare_best(gain: Floats, base_gain: Floats, drawn: Ints) -> FrontierDifference:
    """The best setting of each family by a figure; the best is chosen again in each resample.

    Args:
        gain: (settings, problems), such as the majority vote's accuracy.
        base_gain: As `gain`, of the baseline.
        drawn: As `ttscale.evaluation.stats.resample` makes them.
    """
    value = float(gain.mean(1).max() - base_gain.mean(1).max())
    replicates = _resampled(gain, drawn).max(0) - _resampled(base_gain, drawn).max(0)
    return FrontierDifference(percentile(value, replicates), replicate_p(replicates), None)


def _resampled(values: Floats, drawn: Ints) -> Floats:
    """(settings, resamples): the mean over each resample's problems."""
    return np.stack([row[drawn].mean(axis=1) for row in values])
