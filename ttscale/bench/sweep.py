"""Curves: one quantity is changed at a time, for both distillers."""

from __future__ import annotations

from dataclasses import dataclass

from ttscale.bench.workloads import Workload
from ttscale.esamp.settings import LATENT_DISTILLERS

ROWS = (1, 4, 16, 64)
PROMPTS = (1, 4, 16)
SCOPES = ("prompt", "shared")
HIDDEN = (256, 512, 1024, 2048)


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve.

    Attributes:
        axis: What is changed: rows, prompts, scope or hidden.
        x: Its value.
        workload: What is timed.
        hidden: Width of the random model that it needs; None for the model of the other points.
    """

    axis: str
    x: int | str
    workload: Workload
    hidden: int | None = None


def points(tokens: int) -> tuple[Point, ...]:
    """Every point, those of one engine together."""
    made: list[Point] = []
    for kind in LATENT_DISTILLERS:
        made += [Point("rows", n, Workload(1, n, "prompt", kind, tokens)) for n in ROWS]
        made += [Point("prompts", n, Workload(n, 4, "prompt", kind, tokens)) for n in PROMPTS]
        made += [Point("scope", s, Workload(4, 16, s, kind, tokens)) for s in SCOPES]
    wide = [Workload(1, 16, "prompt", kind, tokens) for kind in LATENT_DISTILLERS]
    made += [Point("hidden", width, one, width) for width in HIDDEN for one in wide]
    return tuple(made)
