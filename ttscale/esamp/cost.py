"""What a distiller costs by count: floating-point operations, bytes moved, bytes held.

From these the floor of ESamp's price follows: no implementation of the same algebra can be cheaper
on a machine of a given speed. Everything is counted for one decode step in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ttscale._check import choice, integer
from ttscale.esamp.settings import DISTILLERS

FLOAT = 4  # bytes
RIDGE_FEATURES = 128
SWIGLU_WIDTH, SWIGLU_BLOCKS = 384, 2
VOCAB_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Cost:
    """One step's work.

    Attributes:
        flop: Floating-point operations.
        bytes_moved: Bytes read and written, when nothing stays in a cache between steps.
    """

    flop: float
    bytes_moved: float

    def seconds(self, flop_per_second: float, bytes_per_second: float) -> float:
        """The least time it takes: the larger of computing and moving."""
        return max(self.flop / flop_per_second, self.bytes_moved / bytes_per_second)


def bytes_per_group(distiller: str, hidden: int) -> int:
    """Bytes that one group's distiller holds.

    ridge: `4 (F^2 + F hidden)` with F = 129. swiglu and vocab: `4 (4 * 2304 hidden + 1)`,
    parameters, two moments and a gradient.
    """
    choice("distiller", distiller, DISTILLERS)
    if distiller == "ridge":
        width = RIDGE_FEATURES + 1
        return FLOAT * (width * width + width * hidden)
    return FLOAT * (4 * _swiglu_parameters(hidden) + 1)


def step_cost(
    distiller: str, hidden: int, groups: int, rows: int, vocabulary: int | None = None
) -> Cost:
    """Predict and update of `groups` distillers with `rows` rows each.

    Raises:
        InvalidInput: There is no such distiller, or it is `vocab` and `vocabulary`, the number of
            the head's tokens, is not told.
    """
    choice("distiller", distiller, DISTILLERS)
    if distiller == "ridge":
        one = _ridge(hidden, rows)
        shared = FLOAT * hidden * RIDGE_FEATURES  # the projection is read once for all groups
        return Cost(groups * one.flop, groups * one.bytes_moved + shared)
    one = _swiglu(hidden, rows)
    head = Cost(0.0, 0.0)
    if distiller == "vocab":
        head = _head(hidden, groups * rows, integer("vocabulary", vocabulary, 1))
    return Cost(groups * one.flop + head.flop, groups * one.bytes_moved + head.bytes_moved)


def model_cost(parameters: int, rows: int, bytes_per_weight: int) -> Cost:
    """A decode step of the model: two operations a weight and row, each weight read once."""
    return Cost(2.0 * parameters * rows, float(parameters * bytes_per_weight))


def floor_ratio(model: Cost, distiller: Cost, flop_rate: float, byte_rate: float) -> float:
    """Throughput with ESamp over throughput without, if both ran at the machine's full speed."""
    plain = model.seconds(flop_rate, byte_rate)
    return plain / (plain + distiller.seconds(flop_rate, byte_rate))


def _ridge(hidden: int, rows: int) -> Cost:
    width = RIDGE_FEATURES + 1
    project = 2 * rows * hidden * RIDGE_FEATURES
    predict = 2 * rows * width * hidden
    gain = 2 * rows * width * width + 4 * rows * rows * width + 2 * rows**3
    update = 2 * rows * width * hidden + 2 * rows * width * width
    # W is read to predict, then W and P are read and written
    moved = FLOAT * (3 * width * hidden + 3 * width * width)
    return Cost(project + predict + gain + update, float(moved))


def _swiglu(hidden: int, rows: int) -> Cost:
    size = _swiglu_parameters(hidden)
    # forward 2, backward 4 operations a weight and row; Adam about 12 a weight. Parameters are
    # read twice, the gradient written and read, parameters and moments read and written.
    return Cost((6.0 * rows + 12) * size, FLOAT * 10.0 * size)


def _head(hidden: int, rows: int, vocabulary: int) -> Cost:
    # three products with the head, W f, W hL and back; it is read forth and back for every
    # 64 rows, and 2 logits of each row and token are written, read and subtracted
    times = 2 * math.ceil(rows / VOCAB_ROWS_AT_ONCE)
    moved = times * vocabulary * hidden + 6.0 * rows * vocabulary
    return Cost(6.0 * rows * vocabulary * hidden, FLOAT * moved)


def _swiglu_parameters(hidden: int) -> int:
    return SWIGLU_BLOCKS * 3 * hidden * SWIGLU_WIDTH
