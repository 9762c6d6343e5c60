"""What drawing a pool has cost, sampler by sampler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from ttscale import _check
from ttscale.esamp.cost import model_cost, step_cost
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.records import DrawRecord, SampleRecord
from ttscale.evaluation.sizes import sizes_of

MILLION, HOUR = 1e6, 3600.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What drawing is paid with; None counts nothing. The currency is the caller's.

    Attributes:
        prompt: For a million tokens read.
        completion: For a million tokens written.
        hour: For an hour in which the engine draws.

    Raises:
        InvalidInput: A price is below 0, or no number.
    """

    prompt: float | None = None
    completion: float | None = None
    hour: float | None = None

    def __post_init__(self) -> None:
        for part in fields(self):
            if (price := getattr(self, part.name)) is not None:
                _check.number(f"price of {part.name}", price, 0, 1e9)

    @property
    def known(self) -> bool:
        """Whether there is any price."""
        return any(getattr(self, part.name) is not None for part in fields(self))

    def of(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> float:
        """What so much costs by the prices that are known."""
        return (
            (self.prompt or 0.0) * prompt_tokens / MILLION
            + (self.completion or 0.0) * completion_tokens / MILLION
            + (self.hour or 0.0) * seconds / HOUR
        )


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
        steps_trained: Updates of its distillers; those of a shared one count for every request that
            was running.
        fallbacks: Times that it fell back to plain sampling.
        model_flop: Floating-point operations of the model, by count: two a weight and token. None
            when its sizes are not known.
        esamp_flop: Those of ESamp's distillers; None when the model's sizes are not known.
        money: What all of it cost by the prices given; None when none was given.
        judged: Samples that judges drew, for strategies with a judge.
        judge_prompt_tokens: Tokens that judges read; not among those above.
        judge_completion_tokens: Tokens that judges wrote; not among those above.
        judge_seconds: Wall time in which at least one judge was at work.
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
    model_flop: float | None = None
    esamp_flop: float | None = None
    money: float | None = None
    judged: int = 0
    judge_prompt_tokens: int = 0
    judge_completion_tokens: int = 0
    judge_seconds: float = 0.0
    explored: int = 0
    begun_again: int = 0
    lost_distillers: int = 0
    replicas: Mapping[str, int] = field(default_factory=dict)

    @property
    def esamp_share(self) -> float:
        """ESamp's part of all operations, 0 to 1; NaN when it is not known."""
        if self.model_flop is None or self.esamp_flop is None or not self.model_flop:
            return float("nan")
        return self.esamp_flop / (self.esamp_flop + self.model_flop)

    @property
    def tokens_per_second(self) -> float:
        """Tokens written per second of wall time; NaN when no time passed."""
        return self.completion_tokens / self.seconds if self.seconds > 0 else float("nan")


def cost_of(pool: Pool, task: str, sampler: str, prices: Prices | None = None) -> Cost:
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
    read, written = sum(draw.prompt_tokens for draw in draws), _written(samples, draws)
    seconds = covered((s.at - s.seconds, s.at) for s in samples)
    model_flop, esamp_flop = _operations(pool, sampler, draws, read + written)
    judge = _judging(pool, task, sampler)
    money = None
    if prices is not None and prices.known:
        total = (read + judge.read, written + judge.written, seconds + judge.seconds)
        money = prices.of(*total)
    return Cost(
        samples=len(samples),
        prompt_tokens=read,
        completion_tokens=written,
        seconds=seconds,
        interrupted=len(interrupted),
        failed=sum(len(draw.failures) for draw in draws),
        rows_mixed=sum(_rows_mixed(draw) for draw in draws),
        steps_trained=sum(_whole(report, "steps_trained") for report in reports),
        fallbacks=sum(_fallbacks(report) for report in reports),
        model_flop=model_flop,
        esamp_flop=esamp_flop,
        money=money,
        judged=judge.samples,
        judge_prompt_tokens=judge.read,
        judge_completion_tokens=judge.written,
        judge_seconds=judge.seconds,
        explored=len(explored),
        begun_again=len(again),
        lost_distillers=len(again | (interrupted & explored)),
        replicas=_by_replica(draws),
    )


@dataclass(frozen=True, slots=True)
class _Judging:
    """What the judges of one sampler's samples drew."""

    samples: int
    read: int
    written: int
    seconds: float


def _judging(pool: Pool, task: str, sampler: str) -> _Judging:
    chosen = [c for c in pool.selections.values() if (c.task, c.sampler) == (task, sampler)]
    return _Judging(
        sum(c.judged for c in chosen),
        sum(c.prompt_tokens for c in chosen),
        sum(c.completion_tokens for c in chosen),
        covered((c.at - c.seconds, c.at) for c in chosen),
    )


def _written(samples: Sequence[SampleRecord], draws: Sequence[DrawRecord]) -> int:
    """Tokens by request: what it told when it ended, or what is stored of one that did not."""
    stored: Counter[tuple[str, int]] = Counter()
    for sample in samples:
        stored[sample.problem, sample.draw] += sample.tokens
    told = Counter({(draw.problem, draw.draw): draw.completion_tokens for draw in draws})
    return (stored | told).total()


def _operations(
    pool: Pool, sampler: str, draws: Sequence[DrawRecord], tokens: int
) -> tuple[float | None, float | None]:
    """Operations of the model and of its distillers; None where sizes are not known."""
    sizes = sizes_of(pool.runs[0].model) if pool.runs else None
    if sizes is None:
        return None, None
    model = model_cost(sizes.parameters, tokens, 1).flop
    esamp = pool.samplers[sampler].settings.get("esamp")
    if not isinstance(esamp, Mapping):
        return model, 0.0
    distilled = 0.0
    for draw in draws:
        steps = _whole(draw.esamp or {}, "steps_trained")
        if steps:  # every row of a step is read by the distiller, mixed or not
            rows = max(1, round(draw.completion_tokens / steps))
            kind = str(esamp.get("distiller", "ridge"))
            distilled += steps * step_cost(kind, sizes.hidden, 1, rows).flop
    return model, distilled


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


def _rows_mixed(draw: DrawRecord) -> int:
    """Rows of a draw's own: a shared distiller also tells those of requests beside it."""
    return min(_whole(draw.esamp or {}, "rows_mixed"), draw.completion_tokens)


def _fallbacks(report: Mapping[str, object]) -> int:
    causes = report.get("fallbacks")
    if not isinstance(causes, Mapping):
        return 0
    return sum(count for count in causes.values() if isinstance(count, int))
