"""The state of strategies that ask more than once, and what they share.

The state is the list of everything asked and told so far. Such a strategy has only two methods of
its own: `plan`, what to ask next when everything asked has been told, and `best`, the outcome of
what is known. Both follow from the ledger alone.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ttscale import _check
from ttscale.answers import Answer, extract_answer
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Ask, Draw, Result, Score
from ttscale.strategies.rounds import best_first, in_order, why_none
from ttscale.strategies.runner import Runs
from ttscale.strategies.seeds import MAX_SEED, later_seed
from ttscale.strategies.select import Selection
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage
from ttscale.verifiers import CandidateScore, ScoreSheet
from ttscale.verifiers.sheet import conform


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything asked and told in one run.

    Attributes:
        prompt: What is asked.
        seed: Seed of the run; None when the caller gave none.
        asked: Every ask, in the order of their ids, which count from 0.
        told: Ids and results, by id; so the order of telling leaves no trace.
    """

    prompt: Prompt
    seed: int | None = None
    asked: tuple[Ask, ...] = ()
    told: tuple[tuple[int, Result], ...] = ()

    @property
    def open(self) -> tuple[int, ...]:
        """Ids that are still to be told."""
        known = {ask_id for ask_id, _ in self.told}
        return tuple(ask.id for ask in self.asked if ask.id not in known)

    @property
    def draws(self) -> tuple[tuple[Draw, Samples], ...]:
        """The draws that have been told, by id."""
        pairs = ((self.asked[i], result) for i, result in self.told)
        return tuple((a, r) for a, r in pairs if isinstance(a, Draw) and isinstance(r, Samples))

    @property
    def scores(self) -> tuple[tuple[Score, ScoreSheet], ...]:
        """The scorings that have been told, by id."""
        pairs = ((self.asked[i], result) for i, result in self.told)
        return tuple((a, r) for a, r in pairs if isinstance(a, Score) and isinstance(r, ScoreSheet))

    @property
    def tie_seed(self) -> int:
        """Seed of ties and of resampling."""
        return self.seed or 0

    def draw(self, place: int, n: int, sampler: Sampler, prompt: Prompt | None = None) -> Draw:
        """A draw that becomes ask number `place`, with a seed of its own."""
        base = sampler.seed if sampler.seed is not None else self.seed
        seeded = sampler.with_seed(later_seed(base, place))
        return Draw(place, self.prompt if prompt is None else prompt, n, seeded)


class Planned(Runs, ABC):
    """Gives a strategy with `plan` and `best` the contract's methods."""

    __slots__ = ()
    name: ClassVar[str]

    @abstractmethod
    def plan(self, ledger: Ledger) -> tuple[Ask, ...]:
        """What to ask next, everything asked so far having been told; nothing when done.

        Ids count on from `len(ledger.asked)`.
        """

    @abstractmethod
    def best(self, state: Ledger) -> Outcome:
        """The outcome of what is known."""

    def start(self, prompt: Prompt, seed: int | None) -> Ledger:
        """The state before anything was asked."""
        if seed is not None:
            _check.integer("seed", seed, 0, MAX_SEED)
        return Ledger(prompt, seed)

    def ask(self, state: Ledger) -> tuple[Ledger, tuple[Ask, ...]]:
        """The next round, once the last one has been told."""
        asks = () if state.open else self.plan(state)
        return (replace(state, asked=(*state.asked, *asks)), asks) if asks else (state, ())

    def tell(self, state: Ledger, ask_id: int, result: Result) -> Ledger:
        """The state that knows `result`."""
        return told(state, ask_id, result)

    def outcome(self, state: Ledger) -> Outcome | None:
        """The outcome, or None while something is still to be found out."""
        if not state.asked or state.open or self.plan(state):
            return None
        return self.best(state)


def told(ledger: Ledger, ask_id: int, result: Result) -> Ledger:
    """The ledger with one more result; see `Strategy.tell`."""
    if ask_id not in ledger.open:
        open_ids = ", ".join(map(str, ledger.open)) or "None"
        raise InvalidInput(
            f"nothing with id {ask_id!r} is waiting to be told; the open id is {open_ids}"
        )
    ask = ledger.asked[ask_id]
    if isinstance(ask, Draw) and isinstance(result, Samples):
        result = in_order(result, ask.n)
    elif isinstance(ask, Score) and isinstance(result, ScoreSheet):
        result = conform(result, len(ask.candidates), ask.verifier.low, ask.verifier.high)
    else:
        wanted = "Samples" if isinstance(ask, Draw) else "a ScoreSheet"
        raise InvalidInput(f"ask {ask_id} must be told {wanted}, got {type(result).__name__}")
    entries = sorted([*ledger.told, (ask_id, result)], key=operator.itemgetter(0))
    return replace(ledger, told=tuple(entries))


@dataclass(frozen=True, slots=True)
class Totals:
    """What all draws and scorings of a ledger come to. Samples are counted through all draws."""

    requested: int
    candidates: tuple[Candidate, ...]
    failures: tuple[Failure, ...]
    usage: Usage
    esamp: ESampReport | None


def totals(ledger: Ledger) -> Totals:
    """Add up a ledger."""
    candidates: list[Candidate] = []
    failures: list[Failure] = []
    first = 0
    for draw, samples in ledger.draws:
        candidates += [replace(c, index=first + c.index) for c in samples.candidates]
        failures += [replace(f, index=first + f.index) for f in samples.failures]
        first += draw.n
    reports = [s.esamp for _, s in ledger.draws if s.esamp is not None]
    usages = [r.usage for _, r in ledger.told]
    return Totals(
        requested=first,
        candidates=tuple(candidates),
        failures=tuple(failures),
        usage=sum(usages, Usage()),
        esamp=sum(reports, ESampReport()) if reports else None,
    )


def answers_of(candidates: Sequence[Candidate], kind: str) -> tuple[Answer | None, ...]:
    """The answer that each candidate states, or None."""
    return tuple(extract_answer(candidate.text, kind) for candidate in candidates)


def report(
    name: str,
    ledger: Ledger,
    candidates: Sequence[Candidate],
    answers: Sequence[Answer | None],
    picked: Selection,
    scores: Sequence[CandidateScore] = (),
    notes: dict[str, float] | None = None,
) -> Outcome:
    """The outcome in which `picked` was selected of `candidates`."""
    total = totals(ledger)
    seen = Samples(total.requested, tuple(candidates), total.failures)
    return Outcome(
        strategy=name,
        prompt=ledger.prompt,
        answer=picked.answer,
        candidate=None if picked.place is None else candidates[picked.place],
        votes=picked.votes,
        candidates=tuple(candidates),
        answers=tuple(answers),
        scores=tuple(sorted(scores, key=best_first)),
        failures=total.failures,
        requested=total.requested,
        usage=total.usage,
        esamp=total.esamp,
        tie=picked.tie,
        margin=picked.margin,
        reason="" if picked.answer is not None else why_none(seen, answers, scores, picked),
        notes=notes or {},
    )
