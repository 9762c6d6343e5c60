"""What drawing a pool has cost, sampler by sampler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import DrawRecord, SampleRecord


@dataclass(frozen=True)
class Cost:
    """The cost of one sampler on one task, complete problems or not.

    Attributes:
        samples: Samples that are stored.
        prompt_tokens: Tokens read, once for each request that ended.
        completion_tokens: Tokens written: those of the stored samples, and what their requests
            wrote beside them, such as other branches of a tree and its values.
        seconds: Wall time in which at least one of the samples was being drawn; a distiller's work
            is within it.
        interrupted: Problems whose samples come from several requests, which do not share a
            distiller, and of which the first ones kept are the short ones.
        failed: Samples that were asked for and did not come back.
        rows_mixed: Decode steps that ESamp re-weighted.
        steps_trained: Updates of its distillers.
        fallbacks: Times that it fell back to plain sampling.
    """

    samples: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    interrupted: int
    failed: int
    rows_mixed: int
    steps_trained: int
    fallbacks: int

    @property
    def tokens_per_second(self) -> float:
        """Tokens written per second of wall time; NaN when no time passed."""
        return self.completion_tokens / self.seconds if self.seconds > 0 else float("nan")


def cost_of(pool: Pool, task: str, sampler: str) -> Cost:
    """The cost of one sampler on one task."""
    samples = [s for s in pool.samples.values() if (s.task, s.sampler) == (task, sampler)]
    draws = [d for d in pool.draws if (d.task, d.sampler) == (task, sampler)]
    requests: dict[str, set[int]] = {}
    for sample in samples:
        requests.setdefault(sample.problem, set()).add(sample.draw)
    reports = [draw.esamp for draw in draws if draw.esamp is not None]
    return Cost(
        samples=len(samples),
        prompt_tokens=sum(draw.prompt_tokens for draw in draws),
        completion_tokens=_written(samples, draws),
        seconds=covered((s.at - s.seconds, s.at) for s in samples),
        interrupted=sum(len(numbers) > 1 for numbers in requests.values()),
        failed=sum(len(draw.failures) for draw in draws),
        rows_mixed=sum(_whole(report, "rows_mixed") for report in reports),
        steps_trained=sum(_whole(report, "steps_trained") for report in reports),
        fallbacks=sum(_fallbacks(report) for report in reports),
    )


def _written(samples: Sequence[SampleRecord], draws: Sequence[DrawRecord]) -> int:
    """Tokens by request: what it told when it ended, or what is stored of one that did not."""
    stored: Counter[tuple[str, int]] = Counter()
    for sample in samples:
        stored[sample.problem, sample.draw] += sample.tokens
    told = Counter({(draw.problem, draw.draw): draw.completion_tokens for draw in draws})
    return (stored | told).total()


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans (start, end): time that overlaps counts once."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def _whole(report: Mapping[str, object], key: str) -> int:
    value = report.get(key, 0)
    return value if isinstance(value, int) else 0


def _fallbacks(report: Mapping[str, object]) -> int:
    causes = report.get("fallbacks")
    if not isinstance(causes, Mapping):
        return 0
    return sum(count for count in causes.values() if isinstance(count, int))
