"""What a pool shows: every figure with its interval, the comparisons, and one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ttscale.evaluation import stats
from ttscale.evaluation.board import Board, boards
from ttscale.evaluation.compare import Claim, Comparison, claims, comparisons, power, sentence
from ttscale.evaluation.cost import Cost, Prices, cost_of
from ttscale.evaluation.measures import Measures, measure, with_perplexity
from ttscale.evaluation.metrics.embeddings import Embedder
from ttscale.evaluation.metrics.perplexity import Remembered
from ttscale.evaluation.pool import Pool
from ttscale.evaluation.prompts import prompt_of, task_settings
from ttscale.evaluation.records import RunRecord
from ttscale.evaluation.selectors import replay
from ttscale.evaluation.stats import Interval

Floats = NDArray[np.float64]
SELECTED = "select:"
"""In front of a strategy's name, as a figure."""

JUDGE = " + judge"
"""Behind the name of a strategy that the model has judged for."""


@dataclass(frozen=True)
class Curve:
    """A figure against a number, with its band (95 %).

    Attributes:
        at: The numbers: samples, or words.
        mean: Mean over problems at each of them.
        low: Lower ends.
        high: Upper ends.
    """

    at: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class ArmSummary:
    """One sampler at one temperature: its settings, figures, curves and cost."""

    sampler: str
    family: str
    temperature: float
    settings: Mapping[str, object]
    figures: Mapping[str, Interval]
    curves: Mapping[str, Curve]
    cost: Cost


@dataclass(frozen=True)
class TaskSummary:
    """Everything about one task.

    Attributes:
        task: Its name.
        n: Samples of each problem by each sampler.
        problems: Number of problems that count.
        scored: Whether samples can be right or wrong.
        headline: One sentence; it may say that no difference is shown.
        power: Which differences so many problems can show; empty when nothing is compared.
        claims: The comparisons that the headline rests on.
        arms: The samplers.
        families: Names of the samplers of each family, by rising temperature.
        comparisons: At equal temperature, corrected together.
        left_out: Problems that no figure counts.
        notes: What could not be measured or run.
    """

    task: str
    n: int
    problems: int
    scored: bool
    headline: str
    power: str
    claims: tuple[Claim, ...]
    arms: tuple[ArmSummary, ...]
    families: Mapping[str, tuple[str, ...]]
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """Everything about a pool: the sessions that drew it, and its tasks."""

    runs: tuple[RunRecord, ...]
    tasks: tuple[TaskSummary, ...]
    resamples: int


def summarise(
    pool: Pool,
    embedder: Embedder | None = None,
    resamples: int = stats.RESAMPLES,
    reader: Remembered | None = None,
    prices: Prices | None = None,
) -> Summary:
    """Measure a pool, resample it, compare its samplers.

    Args:
        pool: What was drawn.
        embedder: What meaning is compared with; None leaves Vendi score and similarity out.
        resamples: Resamples of the bootstrap.
        reader: Under what perplexity is measured; None leaves it out.
        prices: What cost is counted in; None tells no money.

    Raises:
        InvalidInput: No task has a complete problem, or `resamples` is below 1.
        MissingDependency: A package that a measure needs is not installed.
    """
    seed = pool.runs[0].seed if pool.runs else 0
    how = _How(embedder, resamples, reader, prices, seed)
    tasks = tuple(_task(pool, board, how) for board in boards(pool))
    return Summary(tuple(pool.runs), tasks, resamples)


@dataclass(frozen=True)
class _How:
    """What `summarise` was told."""

    embedder: Embedder | None
    resamples: int
    reader: Remembered | None
    prices: Prices | None
    seed: int


def _task(pool: Pool, board: Board, how: _How) -> TaskSummary:
    seed = how.seed
    measures = measure(board, how.embedder, seed)
    if how.reader is not None:
        asked = [prompt_of(pool, problem) for problem in board.problems]
        measures = with_perplexity(measures, board, asked, how.reader)
    if board.scored and (board.answers >= 0).any():
        measures = _with_selectors(board, measures, _kind(pool, board.task), seed)
    measures = with_judges(measures, pool, board)
    drawn = stats.resample(len(board.problems), seed, how.resamples)
    compared = comparisons(board, measures, drawn, seed)
    claimed = claims(board, measures, drawn, seed)
    return TaskSummary(
        task=board.task,
        n=board.n,
        problems=len(board.problems),
        scored=board.scored,
        headline=sentence(claimed, board),
        power=power(compared, board),
        claims=claimed,
        arms=tuple(
            _arm(pool, board, measures, place, drawn, how) for place in range(len(board.arms))
        ),
        families={
            family: tuple(board.arms[place].sampler for place in places)
            for family, places in board.families().items()
        },
        comparisons=compared,
        left_out=board.left_out,
        notes=measures.notes,
    )


def with_judges(measures: Measures, pool: Pool, board: Board) -> Measures:
    """The measures with what strategies with a judge have selected among the board's samples."""
    values, notes = dict(measures.values), list(measures.notes)
    for name in sorted({key[3] for key in pool.selections if key[0] == board.task}):
        rows = np.full((len(board.arms), len(board.problems)), np.nan)
        for a, p in np.ndindex(rows.shape):
            key = (board.task, board.problems[p].problem, board.arms[a].sampler, name, board.n)
            held = pool.selections.get(key)
            if held is not None and held.right is not None:
                rows[a, p] = held.right
        failed = int(np.isnan(rows).sum())
        if failed < rows.size:
            values[f"{SELECTED}{name}{JUDGE}"] = rows
        if failed:
            notes.append(f"{name} with a judge selected nothing in {failed} of {rows.size} sets")
    return replace(measures, values=values, notes=tuple(notes))


def _kind(pool: Pool, task: str) -> str:
    """Kind of answer of a task, as the pool's header has it."""
    kind = task_settings(pool, task).get("kind")
    return kind if isinstance(kind, str) else "auto"


def _with_selectors(board: Board, measures: Measures, kind: str, seed: int) -> Measures:
    replays = replay(board, kind, seed)
    values = {SELECTED + name: rows for name, rows in replays.values.items()}
    notes = [f"strategy {name} was not replayed: {why}" for name, why in replays.left_out.items()]
    return replace(measures, values={**measures.values, **values}, notes=(*measures.notes, *notes))


def _arm(
    pool: Pool, board: Board, measures: Measures, place: int, drawn: stats.Ints, how: _How
) -> ArmSummary:
    arm = board.arms[place]
    every_k = tuple(range(1, board.n + 1))
    curves = {name: _curve(every_k, rows[place], drawn) for name, rows in measures.curves.items()}
    for name, rows in measures.steps.items():
        own = drawn
        if rows.shape[1] != len(board.problems):  # a curve of some of the problems
            own = stats.resample(rows.shape[1], how.seed, len(drawn))
        curves[name] = _curve(measures.points[name], rows[place], own)
    return ArmSummary(
        sampler=arm.sampler,
        family=arm.family,
        temperature=arm.temperature,
        settings=arm.settings,
        figures={
            name: stats.mean_interval(rows[place], drawn) for name, rows in measures.values.items()
        },
        curves=curves,
        cost=cost_of(pool, board.task, arm.sampler, how.prices),
    )


def _curve(at: Sequence[int], rows: Floats, drawn: stats.Ints) -> Curve:
    mean, low, high = stats.curve_band(rows, drawn)
    return Curve(tuple(at), *(tuple(float(x) for x in part) for part in (mean, low, high)))


def to_json(summary: Summary) -> str:
    """The summary as JSON; what is no number is null."""
    return json.dumps(_plain(asdict(summary)), indent=1, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
