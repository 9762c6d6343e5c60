"""Everything that is measured of a board: per problem, so that problems can be resampled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ttscale.evaluation.board import Board
from ttscale.evaluation.metrics import counts, diversity, votes
from ttscale.evaluation.metrics.embeddings import Embedder
from ttscale.evaluation.metrics.perplexity import Remembered
from ttscale.types import Prompt

Floats = NDArray[np.float64]
POSITIONS = (5, 10, 20, 40, 80, 160)
"""Words of each text's beginning that the position curve compares."""

POSITION_PROBLEMS, POSITION_TEXTS = 20, 8
"""Of how many problems, and how many texts of each, the position curve is made."""


@dataclass(frozen=True)
class Measures:
    """Figures of one board.

    Attributes:
        values: By name, (samplers, problems). NaN where a figure does not exist.
        curves: By name, (samplers, problems, n): the figure at k = 1 to n samples.
        steps: By name, (samplers, problems, points) at the numbers in `points`.
        points: What the last axis of each of `steps` stands for.
        notes: What could not be measured, and why.
    """

    values: Mapping[str, Floats]
    curves: Mapping[str, Floats]
    steps: Mapping[str, Floats] = field(default_factory=dict)
    points: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def measure(board: Board, embedder: Embedder | None, seed: int = 0) -> Measures:
    """Measure everything that the board allows.

    Args:
        board: The samples.
        embedder: What Vendi score and similarity are made with; None leaves them out.
        seed: Seed of the orders and subsets that are drawn.

    Raises:
        MissingDependency: A package that a measure needs is not installed.
    """
    values: dict[str, Floats] = {}
    curves: dict[str, Floats] = {}
    steps: dict[str, Floats] = {}
    points: dict[str, tuple[int, ...]] = {}
    notes: list[str] = []
    if board.scored:
        notes += _quality(board, values, curves, seed)
    _answers(board, values, curves)
    _words(board, values)
    if embedder is None:
        notes.append("Vendi score and similarity were left out (--embeddings none)")
    elif board.n > 1:
        _meaning(board, embedder, values, steps, points, seed)
        _positions(board, embedder, steps, points, seed)
    values["tokens"] = board.tokens.mean(axis=2)
    cut = _each(board, lambda a, p: float(np.mean(_cut(board, a, p))))
    values["cut_off"] = cut
    return Measures(values, curves, steps, points, tuple(notes))


def with_perplexity(
    measures: Measures, board: Board, prompts: Sequence[Prompt], reader: Remembered
) -> Measures:
    """The measures and how likely the samples' texts are under the reader's model.

    Args:
        measures: What was measured so far.
        board: The samples.
        prompts: What was asked, by problem.
        reader: Reads texts given their prompts.
    """
    shape = (len(board.arms), len(board.problems))
    asked = [(prompts[p], text) for a, p in np.ndindex(shape) for text in board.texts(a, p)]
    told = np.array(reader(asked)).reshape(*shape, board.n, 2)
    nll, tokens = told[..., 0], told[..., 1]
    each = np.divide(nll, tokens, out=np.full_like(nll, np.nan), where=tokens > 0)
    values = {**measures.values, "nll": _known_mean(each)}
    values["perplexity"] = np.exp(values["nll"])
    note = (
        f"perplexity is that of the samples' texts under {reader.name}, given the prompt in that "
        "model's own chat format"
    )
    return replace(measures, values=values, notes=(*measures.notes, note))


def _known_mean(each: Floats) -> Floats:
    """Mean over samples of the values that are known; NaN where none is."""
    known = ~np.isnan(each)
    total = np.where(known, each, 0.0).sum(axis=2)
    return np.asarray(np.where(known.any(axis=2), total / np.maximum(known.sum(axis=2), 1), np.nan))


def _quality(
    board: Board, values: dict[str, Floats], curves: dict[str, Floats], seed: int
) -> list[str]:
    """pass@k, pass^k and the votes; returns what could not be had."""
    n = board.n
    right = board.correct.sum(axis=2).astype(np.int64)
    ks = range(1, n + 1)
    curves["pass"] = np.stack([counts.pass_at_k(right, n, k) for k in ks], axis=2)
    curves["pass_hat"] = np.stack([counts.pass_hat_k(right, n, k) for k in ks], axis=2)
    values["pass@1"], values["pass@n"] = curves["pass"][..., 0], curves["pass"][..., -1]
    values["pass^n"] = curves["pass_hat"][..., -1]
    if (board.answers < 0).all():
        return ["no sample states an answer, so there is nothing to vote on"]
    drawn = votes.orders(n, seed)
    curves["majority"] = _votes(board, drawn, None)
    values["majority@n"] = curves["majority"][..., -1]
    values["selection_gap"] = values["pass@n"] - values["majority@n"]
    if board.confidence is None:
        return ["the engine gave no log-probabilities, so there is no weighted vote"]
    curves["weighted"] = _votes(board, drawn, board.confidence)
    values["weighted@n"] = curves["weighted"][..., -1]
    return []


def _votes(board: Board, drawn: votes.Ints, weights: Floats | None) -> Floats:
    found = np.empty((len(board.arms), len(board.problems), board.n))
    for a, p in np.ndindex(found.shape[:2]):
        weight = None if weights is None else weights[a, p]
        found[a, p] = votes.majority_at_k(board.answers[a, p], board.correct[a, p], drawn, weight)
    return found


def _answers(board: Board, values: dict[str, Floats], curves: dict[str, Floats]) -> None:
    """How many different answers there are, and how fast new ones come."""
    if (board.answers < 0).all():
        return
    n = board.n
    values["answer_entropy"] = _each(board, lambda a, p: votes.answer_entropy(board.answers[a, p]))
    values["distinct_answers"] = _each(
        board, lambda a, p: len(votes.class_sizes(board.answers[a, p]))
    )
    values["abstained"] = (board.answers < 0).mean(axis=2)
    found = np.empty((len(board.arms), len(board.problems), n))
    for a, p in np.ndindex(found.shape[:2]):
        sizes = votes.class_sizes(board.answers[a, p])
        found[a, p] = [counts.expected_distinct(sizes, n, k) for k in range(1, n + 1)]
    curves["distinct"] = found
    if board.scored:
        values["distinct_correct"] = _each(
            board,
            lambda a, p: len(votes.class_sizes(board.answers[a, p], board.correct[a, p])),
        )


def _words(board: Board, values: dict[str, Floats]) -> None:
    for size in (1, 2):
        values[f"distinct_{size}"] = _each(board, partial(_distinct, board, size))
    if board.n > 1:
        values["self_bleu"] = _each(board, lambda a, p: diversity.self_bleu(board.texts(a, p)))


def _distinct(board: Board, size: int, arm: int, problem: int) -> float:
    return diversity.distinct_n(board.texts(arm, problem), size)


def _meaning(
    board: Board,
    embedder: Embedder,
    values: dict[str, Floats],
    steps: dict[str, Floats],
    points: dict[str, tuple[int, ...]],
    seed: int,
) -> None:
    """Vendi score at 2, 4, 8, ... n samples, and mean pairwise similarity."""
    embedder(sorted({t for a, p in board.cells for t in board.texts(a, p)}))  # in good batches
    points["vendi"] = doublings(board.n)
    shape = (len(board.arms), len(board.problems))
    vendi = np.empty((*shape, len(points["vendi"])))
    values["similarity"] = np.empty(shape)
    for a, p in np.ndindex(shape):
        alike = diversity.similarity(embedder(board.texts(a, p)))
        values["similarity"][a, p] = diversity.mean_pairwise(alike)
        vendi[a, p] = [diversity.vendi_at(alike, k, seed) for k in points["vendi"]]
    steps["vendi"] = vendi
    values["vendi"] = vendi[..., -1]


def _positions(
    board: Board,
    embedder: Embedder,
    steps: dict[str, Floats],
    points: dict[str, tuple[int, ...]],
    seed: int,
) -> None:
    """Similarity of the samples' beginnings against their length, of some problems."""
    dice = np.random.default_rng(seed)
    count = min(POSITION_PROBLEMS, len(board.problems))
    chosen = np.sort(dice.permutation(len(board.problems))[:count])
    found = np.empty((len(board.arms), count, len(POSITIONS)))
    for a, place in np.ndindex(found.shape[:2]):
        texts = board.texts(a, int(chosen[place]))[:POSITION_TEXTS]
        starts = [diversity.beginnings(text, POSITIONS) for text in texts]
        vectors = embedder([start for text in starts for start in text])
        by_position = vectors.reshape(len(texts), len(POSITIONS), -1)
        found[a, place] = [
            diversity.mean_pairwise(diversity.similarity(by_position[:, i]))
            for i in range(len(POSITIONS))
        ]
    steps["similarity_at"] = found
    points["similarity_at"] = POSITIONS


def doublings(n: int) -> tuple[int, ...]:
    """2, 4, 8, ... and n."""
    return (*(2**i for i in range(1, n.bit_length()) if 2**i < n), n)


def _cut(board: Board, arm: int, problem: int) -> list[bool]:
    return [sample.finish == "length" for sample in board.cells[arm, problem].samples]


def _each(board: Board, value: Callable[[int, int], float]) -> Floats:
    """(samplers, problems) of a function of the two places."""
    shape = (len(board.arms), len(board.problems))
    return np.array(
        [[float(value(a, p)) for p in range(shape[1])] for a in range(shape[0])]
    ).reshape(shape)
