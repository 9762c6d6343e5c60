"""Answers that grow step by step: what beam search and the particle filter share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies.ledger import Ledger
from ttscale.strategies.protocol import Draw, Score
from ttscale.types import Candidate, Prompt, Samples
from ttscale.verifiers import CandidateScore, ScoreSheet, Verifier
from ttscale.verifiers.sheet import values

STEP = "\n\n"
STEP_TOKENS = 256
EMPTY = Candidate(0, "", 0, "step", 0.0)
"""An answer of which nothing is written yet."""


@dataclass(frozen=True, slots=True)
class Path:
    """An answer so far.

    Attributes:
        candidate: Everything written of it; `finish_reason` is `step` while it is not finished.
        score: The verifier's score of that, rescaled to [0, 1]; None when there is none.
    """

    candidate: Candidate
    score: float | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more is to be written."""
        return self.candidate.finish_reason != "step"


@dataclass(frozen=True, slots=True)
class Steps:
    """How answers are cut into steps.

    Attributes:
        separator: Text that ends a step and belongs to it.
        step_tokens: Longest step, in tokens; a longer one is cut there and goes on as the next.
        max_steps: Most steps of an answer.
        sampler: How steps are drawn; its `max_tokens` bounds the whole answer.
    """

    separator: str
    step_tokens: int
    max_steps: int
    sampler: Sampler

    def draw(self, ledger: Ledger, place: int, n: int, path: Candidate) -> Draw:
        """The next step of `path`, `n` times."""
        left = self.sampler.max_tokens - path.token_count
        sampler = replace(
            self.sampler,
            stop=(*self.sampler.stop, self.separator),
            include_stop=True,
            max_tokens=min(self.step_tokens, left),
        )
        prompt = replace(ledger.prompt, prefix=ledger.prompt.prefix + path.text)
        return ledger.draw(place, n, sampler, prompt)

    def extended(self, path: Candidate, step: Candidate, number: int) -> Candidate:
        """`path` with one more step, its `number`th (from 1)."""
        count = path.token_count + step.token_count
        text = path.text + step.text
        goes_on = step.truncated or (bool(step.text) and step.text.endswith(self.separator))
        cut = count >= self.sampler.max_tokens or number >= self.max_steps
        reason = ("length" if cut else "step") if goes_on else step.finish_reason
        known = path.logprob is not None and step.logprob is not None
        logprob = path.logprob + step.logprob if known else None  # type: ignore[operator]
        return Candidate(0, text, count, reason, logprob)


def check_steps(steps: Steps) -> None:
    """Raise InvalidInput unless the settings are legal."""
    if not isinstance(steps.separator, str) or not steps.separator:
        raise InvalidInput(f"step must be a text that ends a step, got {steps.separator!r}")
    _check.integer("step_tokens", steps.step_tokens, 1)
    _check.integer("max_steps", steps.max_steps, 1)


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a run has come.

    Attributes:
        kept: The paths that were kept after the last round that has been scored.
        pending: New paths that are still to be scored.
        rounds: Number of steps drawn so far.
    """

    kept: tuple[Path, ...] = ()
    pending: tuple[Path, ...] = ()
    rounds: int = 0


Choose = Callable[[Sequence[Path], Sequence[Path], int], list[Path]]
"""What is kept of the finished paths and of the new ones, after a round of that number."""

Origins = Callable[[Sequence[Path]], list[tuple[Candidate, int]]]
"""What is to be continued of the kept paths, and how often each."""


def walk(
    ledger: Ledger, steps: Steps, verifier: Verifier, origins: Origins, choose: Choose
) -> Walk:
    """Go through all rounds of a run: each draws a step of every origin, then scores them all."""
    kept: list[Path] = []
    pending: list[Path] = []
    number = 0
    drawn: list[Samples] = []
    told = dict(ledger.told)
    for ask in ledger.asked:
        result = told.get(ask.id)
        if isinstance(result, Samples):
            drawn.append(result)
            continue
        if isinstance(result, ScoreSheet):
            new = grown(steps, _origins(kept, origins, number), drawn, number + 1)
            number += 1
            scored = with_scores(new, values(result.scores), verifier)
            kept, drawn = choose([p for p in kept if p.done], scored, number), []
    if drawn:
        number += 1
        pending = grown(steps, _origins(kept, origins, number - 1), drawn, number)
        kept = [p for p in kept if p.done]
    return Walk(tuple(kept), tuple(pending), number)


def _origins(kept: Sequence[Path], origins: Origins, number: int) -> list[Candidate]:
    return [path for path, _ in origins(kept)] if number else [EMPTY]


def score_ask(ledger: Ledger, verifier: Verifier, paths: Sequence[Path]) -> Score:
    """Asks for the scores of the texts so far."""
    candidates = tuple(replace(p.candidate, index=i) for i, p in enumerate(paths))
    return Score(len(ledger.asked), verifier, question(ledger.prompt), candidates)


def question(prompt: Prompt) -> Prompt:
    """The prompt as verifiers see it, whose candidates hold the whole answer."""
    return replace(prompt, prefix="") if prompt.prefix else prompt


def grown(
    steps: Steps, origins: Sequence[Candidate], drawn: Sequence[Samples], number: int
) -> list[Path]:
    """Every new path of a round, in the order of its draws and of their samples."""
    return [
        Path(steps.extended(path, step, number))
        for path, samples in zip(origins, drawn, strict=True)
        for step in samples.candidates
    ]


def next_steps(
    ledger: Ledger, steps: Steps, origins: Sequence[tuple[Candidate, int]]
) -> list[Draw]:
    """The draws of the next round."""
    first = len(ledger.asked)
    return [steps.draw(ledger, first + k, n, path) for k, (path, n) in enumerate(origins)]


def told_scores(paths: Sequence[Path], verifier: Verifier) -> list[CandidateScore]:
    """The scores in the verifier's own units."""
    span = verifier.high - verifier.low
    return [
        CandidateScore(place, error="it was not scored")
        if path.score is None
        else CandidateScore(place, verifier.low + path.score * span)
        for place, path in enumerate(paths)
    ]


def with_scores(
    paths: Sequence[Path], values: Sequence[float | None], verifier: Verifier
) -> list[Path]:
    """The paths with their scores, rescaled to [0, 1]."""
    span = verifier.high - verifier.low
    return [
        replace(path, score=None if value is None else (value - verifier.low) / span)
        for path, value in zip(paths, values, strict=True)
    ]
