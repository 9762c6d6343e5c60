"""How far figures can be trusted: resampling of problems, paired tests, what could be seen at all.

Problems are what is drawn from a larger population; samples of one problem are not independent of
each other. So it is problems that are resampled, all samplers on the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ttscale import _check

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RESAMPLES = 2000
FLIPS = 10_000
LEVEL = 0.95
Z_POWER = 1.959963984540054 + 0.8416212335729143
"""Normal points of a two-sided test at 5 % and of a power of 80 %."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval (95 %).

    Attributes:
        value: The figure.
        low: Lower end; NaN when there is none.
        high: Upper end; NaN when there is none.
    """

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Difference:
    """One sampler minus another, on the same problems.

    Attributes:
        interval: The mean difference with its bootstrap interval.
        p: Two-sided p-value; NaN when there is none.
        detectable: The smallest true difference that so many problems would show with a chance of
            80 % at the 5 % level, by the spread that was seen.
        p_holm: The p-value corrected for all comparisons made together.
    """

    interval: Interval
    p: float
    detectable: float
    p_holm: float = math.nan


def resample(problems: int, seed: int, count: int = RESAMPLES) -> Ints:
    """Places of the problems in each resample, (count, problems).

    Raises:
        InvalidInput: A number is below 1.
    """
    _check.integer("problems", problems, 1)
    _check.integer("resamples", count, 1)
    return np.random.default_rng(seed).integers(0, problems, (count, problems))


def mean_interval(values: Floats, drawn: Ints) -> Interval:
    """Mean over problems with its percentile interval (Efron 1979); NaN values are left out.

    Args:
        values: (problems,).
        drawn: As `resample` makes them.
    """
    if np.isnan(values).all():
        return Interval(math.nan, math.nan, math.nan)
    return percentile(float(np.nanmean(values)), _means(values, drawn))


def percentile(value: float, replicates: Floats) -> Interval:
    """The interval that holds the middle 95 % of the replicates; NaN ones are left out."""
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))


def curve_band(curve: Floats, drawn: Ints) -> tuple[Floats, Floats, Floats]:
    """Mean of (problems, points) over problems, and the ends of the interval at each point."""
    replicates = np.stack([curve[places].mean(axis=0) for places in drawn])
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return curve.mean(axis=0), low, high


def paired(values: Floats, baseline: Floats, drawn: Ints, seed: int) -> Difference:
    """Mean of `values - baseline` over problems, with interval and p-value.

    The p-value is that of a sign-flip test: under no difference each problem's difference could as
    well have had the other sign. Problems where either is NaN are left out.
    """
    delta = values - baseline
    known = delta[~np.isnan(delta)]
    spread = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    return Difference(
        interval=mean_interval(delta, drawn),
        p=sign_flip(known, seed),
        detectable=Z_POWER * spread / math.sqrt(len(known)) if len(known) > 1 else math.nan,
    )


def sign_flip(delta: Floats, seed: int, flips: int = FLIPS) -> float:
    """Two-sided p-value of the mean difference under random signs; NaN without a problem.

    All sign patterns are taken when there are at most `flips` of them, else as many random ones.
    """
    n = len(delta)
    if n == 0:
        return math.nan
    exact = 2**n <= flips
    if exact:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (flips, n))
    means = np.abs((signs * delta).mean(axis=1))
    beyond = int((means >= abs(float(delta.mean())) - 1e-12).sum())
    return beyond / len(signs) if exact else (beyond + 1) / (len(signs) + 1)


def replicate_p(replicates: Floats) -> float:
    """Two-sided p-value of "no difference" from bootstrap replicates of a difference."""
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return math.nan
    below, above = int((known <= 0).sum()), int((known >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(known) + 1))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for all comparisons together (Holm 1979); NaN stays and counts for none.

    The chance that any true "no difference" falls below 0.05 is then at most 5 %.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if not math.isnan(p))
    found = list(ps)
    worst = 0.0
    for rank, (p, place) in enumerate(known):
        worst = max(worst, min(1.0, p * (len(known) - rank)))
        found[place] = worst
    return found


def replicates_of(statistic: Callable[[Ints], float], drawn: Ints) -> Floats:
    """A statistic of each resample's problems."""
    return np.array([statistic(places) for places in drawn])


def _means(values: Floats, drawn: Ints) -> Floats:
    """Mean of each resample, over the values that are known."""
    taken = values[drawn]
    known = ~np.isnan(taken)
    total = np.where(known, taken, 0.0).sum(axis=1)
    count = known.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
