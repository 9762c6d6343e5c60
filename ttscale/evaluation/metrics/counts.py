"""pass@k and what else follows from how many of n samples are right, exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ttscale import _check
from ttscale.errors import InvalidInput

Floats = NDArray[np.float64]


def pass_at_k(right: ArrayLike, n: int, k: int) -> Floats:
    """Probability that one of k samples is right, unbiased: 1 - C(n - c, k) / C(n, k).

    Source: Chen et al., arXiv 2107.03374, Eq. 1.

    Args:
        right: Number of right samples among n, any shape.
        n: Samples that were drawn.
        k: Samples that are allowed, 1 to n.

    Raises:
        InvalidInput: k or a count is out of range.
    """
    return 1.0 - _all_from(n - _counts(right, n, k), n, k)


def pass_hat_k(right: ArrayLike, n: int, k: int) -> Floats:
    """Probability that all of k samples are right, unbiased: C(c, k) / C(n, k).

    Source: Yao et al., arXiv 2406.12045 (there written pass^k). Arguments as in `pass_at_k`.
    """
    return _all_from(_counts(right, n, k), n, k)


def expected_distinct(sizes: ArrayLike, n: int, k: int) -> float:
    """How many classes k of n samples are expected to hold, exactly (rarefaction).

    Args:
        sizes: Number of samples of each class; samples of no class count in n alone.
        n: Samples that were drawn.
        k: Samples that are looked at.
    """
    return float(np.sum(pass_at_k(sizes, n, k)))


def _counts(right: ArrayLike, n: int, k: int) -> NDArray[np.int64]:
    _check.integer("n", n, 1)
    _check.integer("k", k, 1, n)
    counts = np.asarray(right, dtype=np.int64)
    if counts.size and (counts.min() < 0 or counts.max() > n):
        raise InvalidInput(f"counts must be from 0 to n={n}, got {counts.min()} to {counts.max()}")
    return counts


def _all_from(members: NDArray[np.int64], n: int, k: int) -> Floats:
    """C(m, k) / C(n, k): the chance that k samples drawn without repetition are all members."""
    share = np.ones(members.shape)
    for i in range(k):  # a product of shares, so that no factorial overflows
        share = share * np.clip(members - i, 0, None) / (n - i)
    return share
