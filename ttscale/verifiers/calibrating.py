"""How far a verifier's scores can be trusted: measured on candidates that are known right or wrong.

AUROC is the chance that a right candidate scores above a wrong one; its interval is that of DeLong,
DeLong and Clarke-Pearson (Biometrics 44, 1988). ECE is the mean distance between score and share of
right ones over bins of equal width (Naeini et al., AAAI 2015); its interval is a seeded bootstrap.
"""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ttscale import _check, _sync
from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import InvalidInput, ScoreError, TTScaleError
from ttscale.types import Candidate, Prompt, Usage
from ttscale.verifiers.llm_judge import PairJudge
from ttscale.verifiers.protocol import Verifier, check_verifier
from ttscale.verifiers.sheet import ScoreSheet, check_range, conform

BINS = 10
RESAMPLES = 500
Z95 = 1.959963984540054  # 97.5 % point of the normal distribution
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Labelled:
    """A candidate that is known to be right or wrong."""

    prompt: Prompt
    text: str
    right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """The candidates whose rescaled score lies from `low` to `high`.

    Attributes:
        low: Lower end, included.
        high: Upper end, included in the last bin alone.
        count: Number of candidates.
        score: Mean of their scores.
        right: Share of them that is right.
    """

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a verifier's scores go with what is right. Intervals are of 95 %.

    Attributes:
        n: Candidates with a score.
        right: How many of them are right.
        failed: Candidates without a score, which count in nothing else.
        auroc: Chance that a right one scores above a wrong one, ties half; None unless there are
            both.
        auroc_interval: Its interval; None with it, or with fewer than two of either.
        ece: Expected calibration error of the scores rescaled from the verifier's range to [0, 1].
        ece_interval: Its interval. ECE is biased upwards while bins are small.
        bins: What ECE is made of; empty bins are left out.
        usage: Tokens that scoring cost.
    """

    n: int
    right: int
    failed: int
    auroc: float | None
    auroc_interval: tuple[float, float] | None
    ece: float
    ece_interval: tuple[float, float]
    bins: tuple[Bin, ...]
    usage: Usage


def calibration(
    scores: Sequence[float | None],
    labels: Sequence[bool],
    *,
    low: float = 0.0,
    high: float = 1.0,
    bins: int = BINS,
    seed: int = 0,
    usage: Usage | None = None,
) -> Calibration:
    """Compare scores in [low, high] with what is right; None stands for a score that failed.

    Raises:
        InvalidInput: The lengths differ, no candidate has a score, or one is out of range.
    """
    check_range(low, high)
    _check.integer("bins", bins, 1)
    if len(scores) != len(labels):
        raise InvalidInput(f"there are {len(scores)} scores and {len(labels)} labels")
    pairs = [(s, bool(y)) for s, y in zip(scores, labels, strict=True) if s is not None]
    if not pairs:
        raise InvalidInput(f"no candidate of {len(scores)} has a score; nothing can be calibrated")
    if not all(low <= score <= high for score, _ in pairs):  # also refuses NaN
        raise InvalidInput(f"scores must be in [{low:g}, {high:g}]; give the verifier's low, high")
    scaled = [((score - low) / (high - low), y) for score, y in pairs]
    auroc, interval = _auroc([s for s, y in scaled if y], [s for s, y in scaled if not y])
    return Calibration(
        n=len(pairs),
        right=sum(y for _, y in pairs),
        failed=len(scores) - len(pairs),
        auroc=auroc,
        auroc_interval=interval,
        ece=_ece(scaled, bins),
        ece_interval=_resampled_ece(scaled, bins, seed),
        bins=tuple(_bins(scaled, bins)),
        usage=usage or Usage(),
    )


def _auroc(
    right: Sequence[float], wrong: Sequence[float]
) -> tuple[float | None, tuple[float, float] | None]:
    """AUROC and its interval, by the places of each group among the other."""
    if not right or not wrong:
        return None, None
    above = _placements(right, wrong)
    below = [1.0 - share for share in _placements(wrong, right)]
    value = math.fsum(above) / len(above)
    if len(right) < 2 or len(wrong) < 2:
        return value, None
    spread = math.sqrt(_variance(above) / len(above) + _variance(below) / len(below))
    return value, (max(0.0, value - Z95 * spread), min(1.0, value + Z95 * spread))


def _placements(some: Sequence[float], others: Sequence[float]) -> list[float]:
    """For each of `some` the share of `others` that is smaller, equal ones half."""
    ordered = sorted(others)
    return [
        (bisect.bisect_left(ordered, x) + bisect.bisect_right(ordered, x)) / (2 * len(ordered))
        for x in some
    ]


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _bins(scaled: Sequence[tuple[float, bool]], count: int) -> list[Bin]:
    members: dict[int, list[tuple[float, bool]]] = {}
    for score, right in scaled:
        members.setdefault(min(int(score * count), count - 1), []).append((score, right))
    return [
        Bin(
            place / count,
            (place + 1) / count,
            len(inside),
            math.fsum(score for score, _ in inside) / len(inside),
            sum(right for _, right in inside) / len(inside),
        )
        for place, inside in sorted(members.items())
    ]


def _ece(scaled: Sequence[tuple[float, bool]], count: int) -> float:
    parts = [part.count * abs(part.score - part.right) for part in _bins(scaled, count)]
    return math.fsum(parts) / len(scaled)


def _resampled_ece(
    scaled: Sequence[tuple[float, bool]], count: int, seed: int
) -> tuple[float, float]:
    """The middle 95 % of ECE over resamples of the candidates."""
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    found = sorted(_ece(dice.choices(scaled, k=len(scaled)), count) for _ in range(RESAMPLES))
    return found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]


async def acalibrate(
    verifier: Verifier, labelled: Sequence[Labelled], engine: Engine, *, seed: int = 0
) -> Calibration:
    """Score labelled candidates with `verifier`, and compare.

    The candidates of one prompt are scored together, as they are in a strategy.

    Raises:
        InvalidInput: The verifier is none, or no candidate got a score.
    """
    check_verifier(verifier)
    by_prompt: dict[Prompt, list[int]] = {}
    for place, item in enumerate(labelled):
        by_prompt.setdefault(item.prompt, []).append(place)
    groups = list(by_prompt.items())
    sheets = await gather(
        [_scored(verifier, prompt, [labelled[i] for i in at], engine) for prompt, at in groups],
        AT_ONCE,
    )
    scores: list[float | None] = [None] * len(labelled)
    for (_, places), sheet in zip(groups, sheets, strict=True):
        for place, score in zip(places, sheet.scores, strict=True):
            scores[place] = score.value
    return calibration(
        scores,
        [item.right for item in labelled],
        low=verifier.low,
        high=verifier.high,
        seed=seed,
        usage=sum((sheet.usage for sheet in sheets), Usage()),
    )


def calibrate(
    verifier: Verifier, labelled: Sequence[Labelled], engine: Engine, *, seed: int = 0
) -> Calibration:
    """`acalibrate` for callers that are not asynchronous."""
    return _sync.run(acalibrate(verifier, labelled, engine, seed=seed))


async def _scored(
    verifier: Verifier, prompt: Prompt, items: Sequence[Labelled], engine: Engine
) -> ScoreSheet:
    candidates = [_candidate(place, item.text) for place, item in enumerate(items)]
    try:
        sheet = await verifier.ascore(prompt, candidates, engine)
    except TTScaleError as error:
        return ScoreSheet.failed(len(items), str(error))
    return conform(sheet, len(items), verifier.low, verifier.high)


def _candidate(place: int, text: str) -> Candidate:
    return Candidate(place, text, max(1, len(text.split())), "stop")


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How a judge of pairs depends on their order.

    Attributes:
        consistent: Pairs for which both orders name the same one, or a tie.
        first: Pairs for which whatever is shown first is favoured.
        second: Pairs for which whatever is shown second is favoured.
        mixed: Pairs for which one order says tie and the other does not.
        failed: Pairs without an answer in both orders; they count in nothing else.
        usage: Tokens that it cost.
    """

    consistent: int
    first: int
    second: int
    mixed: int
    failed: int
    usage: Usage

    @property
    def n(self) -> int:
        """Pairs with an answer in both orders."""
        return self.consistent + self.first + self.second + self.mixed


async def aposition_bias(
    judge: Verifier, pairs: Sequence[tuple[Prompt, str, str]], engine: Engine
) -> PositionBias:
    """Ask a judge for pairs of texts in both orders, and count what the order does.

    `judge` is a `PairJudge`, or any verifier that scores two candidates by comparing them.

    Raises:
        InvalidInput: The judge is no verifier.
    """
    check_verifier(judge)
    told = await gather([_both_orders(judge, *pair, engine) for pair in pairs], AT_ONCE)
    counts = dict.fromkeys(("consistent", "first", "second", "mixed", "failed"), 0)
    for name, _ in told:
        counts[name] += 1
    return PositionBias(**counts, usage=sum((used for _, used in told), Usage()))


def position_bias(
    judge: Verifier, pairs: Sequence[tuple[Prompt, str, str]], engine: Engine
) -> PositionBias:
    """`aposition_bias` for callers that are not asynchronous."""
    return _sync.run(aposition_bias(judge, pairs, engine))


async def _both_orders(
    judge: Verifier, prompt: Prompt, a: str, b: str, engine: Engine
) -> tuple[str, Usage]:
    spent, favoured = Usage(), []
    for texts in ((a, b), (b, a)):
        try:
            first, used = await _favours_first(judge, prompt, texts, engine)
        except TTScaleError:
            return "failed", spent
        spent += used
        favoured.append(first)
    if sum(favoured) == 1.0:
        return "consistent", spent
    if favoured in ([1.0, 1.0], [0.0, 0.0]):
        return ("first" if favoured[0] else "second"), spent
    return "mixed", spent


async def _favours_first(
    judge: Verifier, prompt: Prompt, texts: tuple[str, str], engine: Engine
) -> tuple[float, Usage]:
    """1 when the text shown first is favoured, 0 when the second is, 0.5 for a tie."""
    candidates = [_candidate(place, text) for place, text in enumerate(texts)]
    if isinstance(judge, PairJudge):  # its scores hide the order, which is what is asked for here
        return await judge.afavours(prompt, candidates[0], candidates[1], engine)
    sheet = conform(await judge.ascore(prompt, candidates, engine), 2, judge.low, judge.high)
    first, second = (score.value for score in sheet.scores)
    if first is None or second is None:
        raise ScoreError(sheet.scores[0].error or sheet.scores[1].error or "no score")
    return 0.5 if first == second else float(first > second), sheet.usage
