"""Paired timing: each repeat runs the same work plainly and with ESamp, in changing order.

The ratio of a pair is throughput with ESamp over throughput without. Both halves write the same
number of tokens on the same engine within seconds of each other, so what slows the machine slows
both; the median over pairs, its interval and the whole range are told. A ratio without work done
is refused.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ttscale import _check, _sync
from ttscale._concurrent import gather
from ttscale.bench.workloads import Workload
from ttscale.engines import Engine
from ttscale.errors import EngineError
from ttscale.sampling import Sampler
from ttscale.types import ESampReport, Samples

MARKS = (8, 32, 128)  # training steps at which the relative error is told
TAIL = 0.025  # of the interval of a median, on each side


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds of one repeat's two halves."""

    plain: float
    esamp: float

    @property
    def ratio(self) -> float:
        """Throughput with ESamp over throughput without."""
        return self.plain / self.esamp


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of one workload.

    Attributes:
        workload: What was timed.
        pairs: Every repeat, in order.
        report: What ESamp did in all repeats together.
        seconds: Time of the worker by phase of ESamp, in all repeats; empty when not told.
    """

    workload: Workload
    pairs: tuple[Pair, ...]
    report: ESampReport
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Tokens written in each half of a pair."""
        return self.workload.rows * self.workload.tokens

    @property
    def step_milliseconds(self) -> dict[str, float]:
        """Milliseconds a decode step by phase; a step serves all rows at once."""
        steps = len(self.pairs) * (self.workload.tokens - 1)
        return {phase: 1000 * spent / steps for phase, spent in self.seconds.items()}

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ratio of every pair."""
        return tuple(pair.ratio for pair in self.pairs)

    @property
    def ratio(self) -> float:
        """Median ratio."""
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the median ratio; see `median_interval`."""
        return median_interval(self.ratios)

    @property
    def plain_rate(self) -> float:
        """Median tokens a second without ESamp."""
        return self.tokens / statistics.median(pair.plain for pair in self.pairs)

    @property
    def esamp_rate(self) -> float:
        """Median tokens a second with ESamp."""
        return self.tokens / statistics.median(pair.esamp for pair in self.pairs)


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Interval that holds the median of what `values` are drawn from, at 95 % or more.

    Order statistics alone, so whatever the distribution (Conover, Practical Nonparametric
    Statistics, 3.2). Fewer than six values are too few for 95 %: then it is the whole range.
    """
    ordered, n = sorted(values), len(values)
    below, place = 0.0, 0  # below: chance that at most `place` of n values lie under the median
    for k in range(n // 2):
        below += math.comb(n, k) / 2**n
        if below > TAIL:
            break
        place = k
    return ordered[place], ordered[n - 1 - place]


def measure(engine: Engine, workload: Workload, repeats: int = 5, seed: int = 0) -> Measured:
    """Time `workload` in `repeats` pairs, after one pair that is thrown away.

    Raises:
        InvalidInput: `repeats` is below 1.
        EngineError: A sample was lost or too short, or ESamp did nothing or fell back.
    """
    _check.integer("repeats", repeats, 1)
    _sync.run(_pair(engine, workload, seed, swap=False))
    before = _seconds(engine)
    pairs, reports = [], []
    for repeat in range(repeats):
        pair, did = _sync.run(_pair(engine, workload, seed + repeat, repeat % 2 == 1))
        pairs.append(pair)
        reports.append(did)
    spent = {phase: now - before.get(phase, 0) for phase, now in _seconds(engine).items()}
    return Measured(workload, tuple(pairs), sum(reports, start=ESampReport()), spent)


@runtime_checkable
class Timed(Protocol):
    """An engine that tells how long the phases of ESamp took in its worker."""

    def esamp_seconds(self) -> Mapping[str, float]:
        """Seconds since the start, by phase: capture, predict, mix, update."""
        ...


def _seconds(engine: Engine) -> Mapping[str, float]:
    return engine.esamp_seconds() if isinstance(engine, Timed) else {}


async def _pair(
    engine: Engine, workload: Workload, seed: int, swap: bool
) -> tuple[Pair, ESampReport]:
    plain, exploring = workload.samplers(seed)
    order = (exploring, plain) if swap else (plain, exploring)
    seconds: dict[bool, float] = {}
    report = ESampReport()
    for sampler in order:
        started = time.perf_counter()
        drawn = await gather(
            [engine.adraw(question, workload.samples, sampler) for question in workload.questions()]
        )
        seconds[sampler.esamp is not None] = time.perf_counter() - started
        _check_whole(drawn, workload, sampler)
        if sampler.esamp is not None:
            report = _worked(drawn, workload)
    return Pair(seconds[False], seconds[True]), report


def _check_whole(drawn: list[Samples], workload: Workload, sampler: Sampler) -> None:
    """Refuse a half whose work is not the other half's."""
    written = sum(c.token_count for samples in drawn for c in samples.candidates)
    if written != workload.rows * workload.tokens:
        kind = "ESamp" if sampler.esamp is not None else "plain"
        raise EngineError(
            f"workload {workload.name}: the {kind} half wrote {written} tokens, "
            f"not {workload.rows * workload.tokens}; a ratio of unequal work means nothing"
        )


def _worked(drawn: list[Samples], workload: Workload) -> ESampReport:
    """What ESamp did; refused when that is nothing."""
    reports = [samples.esamp for samples in drawn if samples.esamp is not None]
    if workload.scope == "shared" and reports:
        # all draws see the one group; the last to look has seen the most
        reports = [max(reports, key=lambda report: report.rows_mixed)]
    total = sum(reports, start=ESampReport())
    if not total.rows_mixed or not total.steps_trained:
        raise EngineError(
            f"workload {workload.name}: ESamp mixed {total.rows_mixed} rows and trained "
            f"{total.steps_trained} steps; no ratio is told of work that was not done"
        )
    return total
