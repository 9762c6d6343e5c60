"""Samplers against the baseline, and the sentence that says what was shown, or that nothing was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ttscale.evaluation import frontier, stats
from ttscale.evaluation.board import Board
from ttscale.evaluation.figures import figure
from ttscale.evaluation.measures import Measures
from ttscale.evaluation.stats import Difference, Interval

Floats = NDArray[np.float64]
LEVEL = 0.05
FEW = 20
"""Below so many problems a bootstrap's intervals are too narrow to be relied on."""

COMPARED = ("pass@1", "pass@n", "majority@n", "vendi", "distinct_2")
"""Figures compared at equal temperature, those that exist."""

DIVERSITY = ("vendi", "distinct_2")
"""What diversity is compared by: the first that was measured."""


@dataclass(frozen=True)
class Comparison:
    """One sampler minus the baseline at the same temperature.

    Attributes:
        sampler: The sampler.
        baseline: The baseline at that temperature.
        figure: Name of the figure.
        difference: The difference; its `p_holm` is corrected for all comparisons of the task.
    """

    sampler: str
    baseline: str
    figure: str
    difference: Difference


@dataclass(frozen=True)
class Claim:
    """One comparison that the headline rests on.

    Attributes:
        family: The sampler, over its temperatures.
        baseline: What it is compared with.
        question: What is compared, in words.
        figure: Name of the figure in which the difference is counted.
        interval: The difference.
        p: Two-sided p-value.
        p_holm: Corrected for all claims of the task.
        overlap: Lowest and highest quality at which frontiers were compared; None elsewhere.
    """

    family: str
    baseline: str
    question: str
    figure: str
    interval: Interval
    p: float
    p_holm: float = math.nan
    overlap: tuple[float, float] | None = None

    @property
    def shown(self) -> bool:
        """Whether there is a difference, by the corrected p-value and the interval."""
        return self.p_holm < LEVEL and self.interval.excludes_zero


def comparisons(
    board: Board, measures: Measures, drawn: stats.Ints, seed: int
) -> tuple[Comparison, ...]:
    """Every sampler against the baseline's sampler of the same temperature."""
    families = list(board.families().values())
    base = {board.arms[place].temperature: place for place in families[0]}
    found = []
    for places in families[1:]:
        for place in places:
            other = base.get(board.arms[place].temperature)
            if other is None:
                continue
            for name in (name for name in COMPARED if name in measures.values):
                rows = measures.values[name]
                difference = stats.paired(rows[place], rows[other], drawn, seed)
                found.append(
                    Comparison(
                        board.arms[place].sampler, board.arms[other].sampler, name, difference
                    )
                )
    corrected = stats.holm([c.difference.p for c in found])
    return tuple(
        replace(c, difference=replace(c.difference, p_holm=p))
        for c, p in zip(found, corrected, strict=True)
    )


def claims(board: Board, measures: Measures, drawn: stats.Ints, seed: int) -> tuple[Claim, ...]:
    """What the headline rests on: frontiers, or with one temperature each, points."""
    families = board.families()
    base, *others = families.items()
    found: list[Claim] = []
    for family in others:
        swept = min(len(base[1]), len(family[1])) > 1
        if swept and "pass@1" in measures.values:
            found += _frontier_claims(base, family, measures, drawn)
        else:
            found += _point_claims(*_shared(board, base, family), measures, drawn, seed)
    corrected = stats.holm([claim.p for claim in found])
    return tuple(replace(c, p_holm=p) for c, p in zip(found, corrected, strict=True))


Named = tuple[str, list[int]]


def _frontier_claims(
    base: Named, other: Named, measures: Measures, drawn: stats.Ints
) -> list[Claim]:
    """Diversity and pass@n at matched pass@1, and the best vote of each."""
    values = measures.values
    found = []
    gains = [*[name for name in DIVERSITY if name in values][:1], "pass@n"]
    for name in gains:
        difference = frontier.compare(
            values["pass@1"][other[1]],
            values[name][other[1]],
            values["pass@1"][base[1]],
            values[name][base[1]],
            drawn,
        )
        found.append(_claim(base, other, "{} at matched pass@1", name, difference))
    if "majority@n" in values:
        rows = values["majority@n"]
        best = frontier.compare_best(rows[other[1]], rows[base[1]], drawn)
        found.append(_claim(base, other, "best {} of any temperature", "majority@n", best))
    return found


def _shared(board: Board, base: Named, other: Named) -> tuple[Named, Named]:
    """Both families at the temperatures that both were drawn at."""
    heats = [{board.arms[place].temperature for place in family[1]} for family in (base, other)]
    both = heats[0] & heats[1]
    left, right = (
        (name, [place for place in places if board.arms[place].temperature in both])
        for name, places in (base, other)
    )
    return left, right


def _point_claims(
    base: Named, other: Named, measures: Measures, drawn: stats.Ints, seed: int
) -> list[Claim]:
    """The figures themselves, averaged over the temperatures that both families were drawn at."""
    if not other[1]:
        return []
    names = [name for name in COMPARED[:3] if name in measures.values]
    names += [name for name in DIVERSITY if name in measures.values][:1]
    found = []
    for name in names:
        rows = measures.values[name]
        d = stats.paired(rows[other[1]].mean(axis=0), rows[base[1]].mean(axis=0), drawn, seed)
        found.append(Claim(other[0], base[0], "{}", name, d.interval, d.p))
    return found


def _claim(
    base: Named, other: Named, question: str, name: str, found: frontier.FrontierDifference
) -> Claim:
    return Claim(other[0], base[0], question, name, found.interval, found.p, overlap=found.overlap)


def question_of(claim: Claim, n: int) -> str:
    """What a claim is about, in words."""
    return claim.question.format(figure(claim.figure).label.format(n=n))


def signed(name: str, interval: Interval, n: int) -> str:
    """A difference with its sign, unit and interval; shares are in percentage points."""
    about = figure(name)
    unit = " points" if about.unit == "%" else f" {about.unit}" if about.unit else ""
    value, low, high = (
        f"{x * about.scale:+.{about.digits}f}" if x == x else "?"
        for x in (interval.value, interval.low, interval.high)
    )
    del n
    return f"{value}{unit} [{low}, {high}]"


def sentence(found: Sequence[Claim], board: Board) -> str:
    """What the pool shows, in a sentence that may say: nothing."""
    size = f"{len(board.problems)} problems x {board.n} samples"
    if not found:
        return f"One sampler alone, on {size}: there is nothing to compare."
    parts = [
        _of_family(family, [c for c in found if c.family == family], board.n)
        for family in dict.fromkeys(claim.family for claim in found)
    ]
    text = f"Against {found[0].baseline}, on {size}: " + "; ".join(parts) + "."
    if not board.scored:
        text += " Without right answers, more diversity says nothing about what it is worth."
    if len(board.problems) < FEW:
        text += f" With fewer than {FEW} problems these intervals are too narrow."
    return text


def _of_family(family: str, found: Sequence[Claim], n: int) -> str:
    shown = [c for c in found if c.shown]
    if not shown:
        return f"{family}: no difference shown"
    said = ", ".join(f"{question_of(c, n)} {signed(c.figure, c.interval, n)}" for c in shown)
    rest = [question_of(c, n) for c in found if not c.shown]
    tail = f", no difference shown in {', '.join(rest)}" if rest else ""
    return f"{family}: {said}{tail}"


def power(found: Sequence[Comparison], board: Board) -> str:
    """Which differences so many problems can show."""
    parts = []
    for name in dict.fromkeys(c.figure for c in found):
        seen = [c.difference.detectable for c in found if c.figure == name]
        known = [value for value in seen if not math.isnan(value)]
        if known and max(known) > 0:
            about = figure(name)
            unit = " points" if about.unit == "%" else f" {about.unit}" if about.unit else ""
            label = about.label.format(n=board.n)
            parts.append(f"{label} {max(known) * about.scale:.{max(1, about.digits)}f}{unit}")
    if not parts:
        return ""
    return (
        f"With {len(board.problems)} problems, true differences below these would mostly go unseen "
        f"(power 80 %, one comparison at 5 %): {', '.join(parts)}."
    )
