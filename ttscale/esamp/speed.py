"""How fast this machine multiplies and moves numbers; what the floor of a cost is computed from."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

SIZE = 1024
REPEATS = 5


def flop_rate() -> float:
    """Float32 operations a second in a large matrix product; the best of a few."""
    a, b = torch.randn(SIZE, SIZE), torch.randn(SIZE, SIZE)
    return 2.0 * SIZE**3 / _best(lambda: torch.mm(a, b))


def byte_rate() -> float:
    """Bytes a second read and written when a large tensor is copied; the best of a few."""
    source = torch.randn(16 * SIZE, SIZE)
    target = torch.empty_like(source)
    return 2.0 * source.nbytes / _best(lambda: target.copy_(source))


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest run, after one that warms up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
