"""What drawing a pool has cost, sampler by sampler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import DrawRecord


@dataclass(frozen=True)
class Cost:
    """The cost of one sampler on one task, complete problems or not.

    Attributes:
        samples: Samples that are stored.
        prompt_tokens: Tokens read, once for each request that ended.
        completion_tokens: Tokens of the stored samples.
        seconds: Wall time in which at least one of the samples was being drawn; a distiller's work
            is within it.
        interrupted: Problems whose samples come from several requests, which do not share a
            distiller, and of which the first ones kept are the short ones.
        failed: Samples that were asked for and did not come back.
        rows_mixed: Decode steps that ESamp re-weighted.
        steps_trained: Updates of its distillers.
        fallbacks: Times that it fell back to plain sampling.
        explored: Problems drawn with Exploratory Sampling, each with a distiller; 0 without it.
        begun_again: Of these, those whose samples were all begun again by another attempt, because
            who drew them had gone: they share one distiller, which is not the first.
        lost_distillers: Problems whose distiller was lost in mid-draw: those begun again, and
            those completed by a later request, whose samples have had two.
        replicas: Problems by who drew them, as far as the servers tell; those of several servers
            count for each.
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
    explored: int = 0
    begun_again: int = 0
    lost_distillers: int = 0
    replicas: Mapping[str, int] = field(default_factory=dict)

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
    interrupted = {problem for problem, numbers in requests.items() if len(numbers) > 1}
    explored = {d.problem for d in draws} | requests.keys() if _explores(pool, sampler) else set()
    again = _begun_again(draws) & explored - interrupted
    reports = [draw.esamp for draw in draws if draw.esamp is not None]
    return Cost(
        samples=len(samples),
        prompt_tokens=sum(draw.prompt_tokens for draw in draws),
        completion_tokens=sum(sample.tokens for sample in samples),
        seconds=covered((s.at - s.seconds, s.at) for s in samples),
        interrupted=len(interrupted),
        failed=sum(len(draw.failures) for draw in draws),
        rows_mixed=sum(_whole(report, "rows_mixed") for report in reports),
        steps_trained=sum(_whole(report, "steps_trained") for report in reports),
        fallbacks=sum(_fallbacks(report) for report in reports),
        explored=len(explored),
        begun_again=len(again),
        lost_distillers=len(again | (interrupted & explored)),
        replicas=_by_replica(draws),
    )


def _explores(pool: Pool, sampler: str) -> bool:
    """Whether the sampler's settings have ESamp."""
    record = pool.samplers.get(sampler)
    return record is not None and record.settings.get("esamp") is not None


def _begun_again(draws: Iterable[DrawRecord]) -> set[str]:
    """Problems for which more than one attempt was made, within a request or by several."""
    attempts = Counter[str]()
    for draw in draws:
        attempts[draw.problem] += max(1, len(draw.replicas))
    return {problem for problem, count in attempts.items() if count > 1}


def _by_replica(draws: Iterable[DrawRecord]) -> dict[str, int]:
    """How many problems each server drew for."""
    pairs = {(name, draw.problem) for draw in draws for name in draw.replicas}
    return dict(sorted(Counter(name for name, _ in pairs).items()))


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
