"""How different the texts of a set are: in meaning (embeddings) and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ttscale import _check
from ttscale.errors import InvalidInput, MissingDependency

Floats = NDArray[np.float64]
SUBSETS = 8
"""Random subsets that the Vendi score at k < n is averaged over."""

BLEU_TEXTS = 8
"""Texts of a set that self-BLEU looks at; its cost grows with their square."""


def similarity(vectors: NDArray[np.float32]) -> Floats:
    """Cosine similarities, (n, n), of embeddings (n, width) of length 1."""
    wide = vectors.astype(np.float64)
    return wide @ wide.T


def mean_pairwise(similarities: Floats) -> float:
    """Mean similarity of two different texts; NaN for a single one."""
    n = len(similarities)
    if n < 2:
        return float("nan")
    return float((similarities.sum() - np.trace(similarities)) / (n * (n - 1)))


def vendi_score(similarities: Floats) -> float:
    """Effective number of different texts, 1 to n: exp of the entropy of the eigenvalues of K / n.

    Source: Friedman and Dieng, arXiv 2210.02410; computed by their package.

    Raises:
        MissingDependency: The package vendi-score is not installed.
    """
    try:
        from vendi_score import vendi
    except ImportError as error:
        raise MissingDependency(
            "the Vendi score needs vendi-score; run pip install 'ttscale[eval]'"
        ) from error
    return float(vendi.score_K(similarities))


def vendi_at(similarities: Floats, k: int, seed: int) -> float:
    """Vendi score of k of the n texts: the mean over random subsets; exact at k = n."""
    n = len(similarities)
    _check.integer("k", k, 1, n)
    if k == n:
        return vendi_score(similarities)
    dice = np.random.default_rng(seed)
    subsets = [dice.choice(n, k, replace=False) for _ in range(SUBSETS)]
    return float(np.mean([vendi_score(similarities[np.ix_(s, s)]) for s in subsets]))


def distinct_n(texts: Sequence[str], size: int) -> float:
    """Different word n-grams of a set as a share of all of them; NaN when there are none.

    Source: Li et al., arXiv 1510.03055 (distinct-1 and distinct-2). Words are what white space
    separates, in small letters.

    Raises:
        InvalidInput: `size` is below 1.
    """
    _check.integer("size", size, 1)
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = text.lower().split()
        grams.update(zip(*(words[i:] for i in range(size)), strict=False))
    total = grams.total()
    return len(grams) / total if total else float("nan")


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU (0 to 100) of each text against the others; high means alike.

    Source: Zhu et al., arXiv 1802.01886; BLEU as in sacrebleu, with its effective order. Of more
    than 8 texts the first 8 are taken.

    Raises:
        InvalidInput: There are fewer than two texts.
        MissingDependency: sacrebleu is not installed.
    """
    if len(texts) < 2:
        raise InvalidInput(f"self-BLEU compares at least two texts, got {len(texts)}")
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise MissingDependency(
            "self-BLEU needs sacrebleu; run pip install 'ttscale[eval]'"
        ) from error
    bleu = BLEU(effective_order=True)
    some = [text.strip() for text in texts[:BLEU_TEXTS]]
    scores = [
        bleu.sentence_score(text, [*some[:i], *some[i + 1 :]]).score for i, text in enumerate(some)
    ]
    return float(np.mean(scores))


def beginnings(text: str, positions: Sequence[int]) -> list[str]:
    """The text up to each number of words; shorter texts stay whole."""
    words = text.split()
    return [" ".join(words[:position]) for position in positions]
