"""What one line of a pool holds. Every record is a frozen value that knows its own JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from ttscale.answers import Answer
from ttscale.errors import InvalidInput

FORMAT = 1
"""Version of the pool's format."""

Key = tuple[str, str, str, int]
"""Task, problem, sampler and index: what names one sample."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One session that wrote to the pool; the first one is the pool's header.

    Attributes:
        model: Name of the model.
        seed: Seed of the run.
        versions: Versions of Python, ttscale and the libraries that drew.
        settings: What decides the samples (prompt, longest sample, tasks); equal in all sessions.
        command: The command line, to run it again.
        at: Start, in seconds since 1970.
        format: Version of the format.
    """

    type: ClassVar[str] = "run"
    model: str
    seed: int
    versions: Mapping[str, str]
    settings: Mapping[str, object]
    command: str
    at: float
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """A question of a task, with its right answer when that is known."""

    type: ClassVar[str] = "problem"
    task: str
    problem: str
    question: str
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class SamplerRecord:
    """A sampler's name in the pool, and its settings.

    Attributes:
        sampler: The name, such as `esamp:beta=0.5@0.8`.
        family: The name without the temperature: settings that are swept together.
        temperature: The temperature.
        settings: The settings that the engine was given, but for those left at their defaults.
    """

    type: ClassVar[str] = "sampler"
    sampler: str
    family: str
    temperature: float
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One sample, written the moment that it is finished.

    Attributes:
        index: Its place among the samples of the problem.
        draw: Which request it came from: 0, or more when an earlier one was interrupted.
        seed: Seed of that request.
        logprob: Sum of its log-probabilities in nats, as the engine tells it; None when unknown.
        seconds: From the start of its request until it was finished.
        at: When it was finished, in seconds since 1970.
    """

    type: ClassVar[str] = "sample"
    task: str
    problem: str
    sampler: str
    index: int
    draw: int
    seed: int
    text: str
    tokens: int
    finish: str
    logprob: float | None
    seconds: float
    at: float

    @property
    def key(self) -> Key:
        """What names the sample."""
        return self.task, self.problem, self.sampler, self.index


@dataclass(frozen=True, slots=True)
class GradeRecord:
    """What one sample states and what that is worth.

    Attributes:
        answer: The answer in normal form; None when the sample states none.
        answer_kind: Kind of the answer, as in `ttscale.answers.Answer`.
        unit: Its unit, if any.
        score: In [0, 1]; None when the problem has no right answer, or the scorer failed.
        correct: Whether the score is full; None when there is none.
        error: Why there is no score; empty when nothing failed.
    """

    type: ClassVar[str] = "grade"
    task: str
    problem: str
    sampler: str
    index: int
    answer: str | None
    answer_kind: str = ""
    unit: str | None = None
    score: float | None = None
    correct: bool | None = None
    error: str = ""

    @property
    def key(self) -> Key:
        """What names the sample."""
        return self.task, self.problem, self.sampler, self.index

    def as_answer(self) -> Answer | None:
        """The answer as equivalence reads it."""
        if self.answer is None:
            return None
        return Answer(self.answer, self.answer_kind, (0, 0), self.answer, self.unit)


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """One request that has ended: its cost, and what was lost.

    Attributes:
        requested: Samples that were asked for.
        returned: Samples that came back.
        seconds: Wall time from its start to its end.
        failures: Reasons of the samples that did not come back.
        esamp: What Exploratory Sampling did; None without it.
        replicas: Who began to answer, one for each attempt, as in `Samples.replicas`.
    """

    type: ClassVar[str] = "draw"
    task: str
    problem: str
    sampler: str
    draw: int
    seed: int
    requested: int
    returned: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    failures: tuple[str, ...] = ()
    esamp: Mapping[str, object] | None = field(default=None)
    replicas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SelectionRecord:
    """What a strategy with a judge selected among stored samples, and what the judge cost.

    Attributes:
        strategy: Name of the strategy.
        n: Samples among which it selected.
        answer: The answer; None when it abstains.
        right: Whether that is right, in [0, 1]; None when nobody knows.
        judged: Samples that the judge drew.
        prompt_tokens: Tokens that the judge read.
        completion_tokens: Tokens that the judge wrote.
        seconds: Wall time.
        at: When it was finished, in seconds since 1970.
        error: Why nothing was selected; empty when something was.
    """

    type: ClassVar[str] = "selection"
    task: str
    problem: str
    sampler: str
    strategy: str
    n: int
    answer: str | None
    right: float | None
    judged: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    at: float = 0.0
    error: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What names the selection."""
        return self.task, self.problem, self.sampler, self.strategy, self.n


Record = (
    RunRecord
    | ProblemRecord
    | SamplerRecord
    | SampleRecord
    | GradeRecord
    | DrawRecord
    | SelectionRecord
)

KINDS: Mapping[str, type[Record]] = {
    kind.type: kind
    for kind in (
        *(RunRecord, ProblemRecord, SamplerRecord, SampleRecord, GradeRecord, DrawRecord),
        SelectionRecord,
    )
}

R = TypeVar("R", bound=Record)


def to_json(record: Record) -> dict[str, object]:
    """The record as an object of JSON, with its type in front."""
    return {"type": record.type, **asdict(record)}


def from_json(found: object) -> Record:
    """The record that `to_json` made.

    Raises:
        InvalidInput: It is no such object, or misses a key.
    """
    if not isinstance(found, dict) or found.get("type") not in KINDS:
        raise InvalidInput(f"a record must be an object with a known 'type', got {found!r:.80}")
    kind = KINDS[found["type"]]
    values: dict[str, Any] = {k: v for k, v in found.items() if k != "type"}
    if unknown := values.keys() - {f.name for f in fields(kind)}:
        raise InvalidInput(f"a {kind.type} record has no key {sorted(unknown)[0]!r}")
    for name in ("failures", "replicas"):
        if name in values:
            values[name] = tuple(values[name])
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidInput(f"a {kind.type} record is incomplete: {error}") from error
