"""Confidence intervals of shares."""

from __future__ import annotations

import math

from ttscale import _check

Z95 = 1.959963984540054  # 97.5 % point of the normal distribution


def wilson(right: int, total: int) -> tuple[float, float]:
    """The Wilson score interval (95 %) of the share `right` / `total`, as two shares.

    It holds for independent trials; samples of one question are not, so their true interval is
    wider. With no trials nothing is known: (0, 1). Source: Wilson, JASA 22 (1927).

    Raises:
        InvalidInput: `total` is negative, or `right` is not from 0 to `total`.
    """
    _check.integer("total", total, 0)
    _check.integer("right", right, 0, total)
    if total == 0:
        return 0.0, 1.0
    share, weight = right / total, Z95**2 / total
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight**2 / 4) / (1 + weight)
    # At the ends the bound is exact; rounding would put it beside them.
    low = 0.0 if right == 0 else centre - half
    high = 1.0 if right == total else centre + half
    return low, high
