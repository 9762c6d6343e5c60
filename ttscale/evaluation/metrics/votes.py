"""Majority votes among k of n samples, without drawing anything anew."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ttscale.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ORDERS = 256
"""Random orders of the samples that a curve is averaged over."""


def orders(n: int, seed: int, count: int = ORDERS) -> Ints:
    """`count` random orders of n samples, (count, n); what is compared shares them."""
    dice = np.random.default_rng(seed)
    return np.argsort(dice.random((count, n)), axis=1)


def majority_at_k(
    answers: Ints, correct: Floats, drawn: Ints, weights: Floats | None = None
) -> Floats:
    """Accuracy of the majority vote over k samples, for k = 1 to n, as an array (n,).

    Averaged over the orders given: exact at k = 1 and k = n, an estimate between. A tie counts
    the share of the tied answers that are right, which is what breaking it by lot gives on average.
    A vote without any stated answer is wrong.

    Args:
        answers: (n,) class of each sample's answer; negative abstains.
        correct: (n,) 1 for a right sample. A class counts as the mean of its members.
        drawn: (orders, n) as `orders` makes them.
        weights: (n,) what each vote weighs, above 0; None weighs all alike.

    Raises:
        InvalidInput: The shapes do not fit.
    """
    n = len(answers)
    if correct.shape != (n,) or drawn.shape[1] != n:
        raise InvalidInput(f"answers, correct and drawn must all be of n={n} samples")
    names, place = np.unique(answers[answers >= 0], return_inverse=True)
    if len(names) == 0:
        return np.zeros(n)
    votes = np.zeros((n, len(names)))
    votes[answers >= 0, place] = 1.0
    worth = (votes * correct[:, None]).sum(0) / votes.sum(0)
    if weights is not None:
        votes = votes * weights[:, None]
    curve = _curve(votes, worth, drawn)
    curve[0] = float(np.mean(np.where(answers >= 0, (votes > 0) @ worth, 0.0)))
    return curve


def _curve(votes: Floats, worth: Floats, drawn: Ints) -> Floats:
    """Mean worth of the leading classes after each further vote."""
    standing = votes[drawn].cumsum(axis=1)  # (orders, n, classes)
    best = standing.max(axis=2, keepdims=True)
    leads = (standing >= best - 1e-9) & (best > 0)
    count = leads.sum(axis=2)
    value = np.where(count > 0, (leads * worth).sum(axis=2) / np.maximum(count, 1), 0.0)
    return np.asarray(value.mean(axis=0))


def answer_entropy(answers: Ints) -> float:
    """Entropy of the stated answers in bits; 0 when none or one is stated."""
    stated = answers[answers >= 0]
    if not len(stated):
        return 0.0
    share = np.unique(stated, return_counts=True)[1] / len(stated)
    return float(abs(-(share * np.log2(share)).sum()))


def class_sizes(answers: Ints, keep: Floats | None = None) -> Ints:
    """Size of each class of answers; with `keep`, of the samples where it is not 0."""
    chosen = answers >= 0 if keep is None else (answers >= 0) & (keep > 0)
    return np.unique(answers[chosen], return_counts=True)[1].astype(np.int64)
