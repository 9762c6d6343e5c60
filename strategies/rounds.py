"""The rounds that all sample-then-select strategies share: draw once, then perhaps score."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ttscale import _check
from ttscale.answers import KINDS, Answer, extract_answer
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw, Result, Score
from ttscale.strategies.seeds import MAX_SEED
from ttscale.strategies.select import Selection, majority
from ttscale.types import Prompt, Samples, Usage
from ttscale.verifiers import CandidateScore, ScoreSheet, Verifier
from ttscale.verifiers.sheet import conform

DRAW_ID, SCORE_ID = 0, 1


@dataclass(frozen=True, slots=True)
class SampleState:
    """How far a run has come.

    Attributes:
        prompt: What is asked.
        seed: Seed of the run; None when the caller gave none.
        waiting: Id of the ask that has not been told yet; None when there is none.
        samples: What was drawn; None until told. Candidates are in the order of their indexes.
        sheet: The verifier's scores; None until told.
    """

    prompt: Prompt
    seed: int | None = None
    waiting: int | None = None
    samples: Samples | None = None
    sheet: ScoreSheet | None = None


def check_settings(n: int, sampler: Sampler, kind: str) -> None:
    """Raise InvalidInput unless `n` samples can be drawn and `kind` is known."""
    sampler.check_count(n)
    _check.choice("kind", kind, KINDS)


def start(prompt: Prompt, seed: int | None) -> SampleState:
    """The state before anything was asked."""
    if seed is not None:
        _check.integer("seed", seed, 0, MAX_SEED)
    return SampleState(prompt, seed)


def ask(
    state: SampleState, n: int, sampler: Sampler, verifier: Verifier | None
) -> tuple[SampleState, tuple[Ask, ...]]:
    """The next round: the draw, then the scores of what was drawn, then nothing."""
    if state.waiting is not None or finished(state, verifier):
        return state, ()
    if state.samples is None:
        seeded = sampler if sampler.seed is not None else sampler.with_seed(state.seed)
        return replace(state, waiting=DRAW_ID), (Draw(DRAW_ID, state.prompt, n, seeded),)
    if verifier is None:
        return state, ()
    asked = Score(SCORE_ID, verifier, state.prompt, state.samples.candidates)
    return replace(state, waiting=SCORE_ID), (asked,)


def tell(
    state: SampleState, ask_id: int, result: Result, n: int, verifier: Verifier | None
) -> SampleState:
    """The state that knows `result`; see `Strategy.tell`."""
    if state.waiting is None or ask_id != state.waiting:
        raise InvalidInput(
            f"nothing with id {ask_id!r} is waiting to be told; the open id is {state.waiting!r}"
        )
    if ask_id == DRAW_ID and isinstance(result, Samples):
        return replace(state, waiting=None, samples=in_order(result, n))
    if ask_id == SCORE_ID and isinstance(result, ScoreSheet) and state.samples and verifier:
        count = len(state.samples.candidates)
        sheet = conform(result, count, verifier.low, verifier.high)
        return replace(state, waiting=None, sheet=sheet)
    wanted = "Samples" if ask_id == DRAW_ID else "a ScoreSheet"
    raise InvalidInput(f"ask {ask_id} must be told {wanted}, got {type(result).__name__}")


def finished(state: SampleState, verifier: Verifier | None) -> bool:
    """Whether nothing is left to be found out."""
    if state.samples is None:
        return False
    return verifier is None or state.sheet is not None or not state.samples.candidates


def answers_of(samples: Samples, kind: str) -> tuple[Answer | None, ...]:
    """The answer that each candidate states, or None."""
    return tuple(extract_answer(candidate.text, kind) for candidate in samples.candidates)


def tie_seed(state: SampleState, sampler: Sampler) -> int:
    """Seed of ties: the run's, else the sampler's, else 0."""
    return next((seed for seed in (state.seed, sampler.seed) if seed is not None), 0)


def report(
    name: str,
    state: SampleState,
    answers: Sequence[Answer | None],
    scores: Sequence[CandidateScore],
    picked: Selection,
    notes: Mapping[str, float] | None = None,
) -> Outcome:
    """The outcome of a finished state in which `picked` was selected."""
    samples = state.samples or Samples(0, ())
    usage = samples.usage + (state.sheet.usage if state.sheet else Usage())
    return Outcome(
        strategy=name,
        prompt=state.prompt,
        answer=picked.answer,
        candidate=None if picked.place is None else samples.candidates[picked.place],
        votes=picked.votes,
        candidates=samples.candidates,
        answers=tuple(answers),
        scores=tuple(sorted(scores, key=best_first)),
        failures=samples.failures,
        requested=samples.requested,
        usage=usage,
        esamp=samples.esamp,
        tie=picked.tie,
        margin=picked.margin,
        reason="" if picked.answer is not None else why_none(samples, answers, scores, picked),
        notes=notes or {},
    )


def so_far(name: str, state: SampleState, sampler: Sampler, kind: str) -> Outcome:
    """The outcome when a run ends before the verifier has answered: the samples vote."""
    samples = state.samples or Samples(0, ())
    answers = answers_of(samples, kind)
    picked = majority(samples.candidates, answers, tie_seed(state, sampler))
    return report(name, state, answers, (), picked)


def why_none(
    samples: Samples,
    answers: Sequence[Answer | None],
    scores: Sequence[CandidateScore],
    picked: Selection,
) -> str:
    """Why nothing was answered, in one sentence."""
    count = len(samples.candidates)
    if not samples.requested:
        return "it was stopped before anything was drawn"
    if not count:
        cause = samples.failures[0].reason if samples.failures else "no reason given"
        return f"none of the {samples.requested} samples came back: {cause}"
    if all(answer is None for answer in answers):
        cut = sum(candidate.truncated for candidate in samples.candidates)
        return f"none of the {count} samples states an answer ({cut} of them cut off)"
    if picked.place is not None:
        return "the best-scored sample states no answer"
    error = next((score.error for score in scores if score.error), "no reason given")
    return f"no sample that states an answer has a score: {error}"


def in_order(samples: Samples, n: int) -> Samples:
    """The samples by index, after a check that they are what was asked for."""
    ordered = tuple(sorted(samples.candidates, key=operator.attrgetter("index")))
    if len(ordered) > n or len({candidate.index for candidate in ordered}) < len(ordered):
        indexes = [candidate.index for candidate in ordered]
        raise InvalidInput(
            f"at most {n} samples with different indexes were asked for, got the indexes {indexes}"
        )
    return replace(samples, requested=n, candidates=ordered)


def best_first(score: CandidateScore) -> tuple[bool, float, int]:
    return (score.value is None, -(score.value or 0.0), score.index)
