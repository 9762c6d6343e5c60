"""Strategies made of strategies: one after another, until one of them is good enough."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ttscale import _check
from ttscale.errors import InvalidInput
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Anytime, Ask, Cancels, Result, Strategy
from ttscale.strategies.runner import Runs
from ttscale.strategies.seeds import MAX_SEED, later_seed
from ttscale.strategies.select import majority
from ttscale.types import Candidate, ESampReport, Prompt, Usage
from ttscale.verifiers import CandidateScore


def fallback(*strategies: Strategy[Any]) -> InTurn:
    """Runs the strategies in turn until one does not abstain, and answers what that one does.

    Raises:
        InvalidInput: There are fewer than two, or one is no strategy.
    """
    return InTurn(strategies)


def chain(*strategies: Strategy[Any], margin: float = 0.5) -> InTurn:
    """Runs the strategies in turn; the samples of all of them vote together.

    It ends early when the lead of the winning answer, as a share of all votes, is at least
    `margin`: a cheap strategy first, and more only for questions that it leaves open.

    Raises:
        InvalidInput: There are fewer than two, one is no strategy, or `margin` is outside [0, 1].
    """
    return InTurn(strategies, _check.number("margin", margin, 0, 1))


@dataclass(frozen=True, slots=True)
class TurnState:
    """The states of the strategies that have begun; the last one is at work.

    Attributes:
        prompt: What is asked.
        seed: Seed of the run; each strategy has its own, made of it.
        states: One state for each strategy that has begun.
    """

    prompt: Prompt
    seed: int | None
    states: tuple[Any, ...]


@dataclass(frozen=True)
class InTurn(Runs):
    """Several strategies, one after another; made by `fallback` and `chain`.

    The outcome counts the samples and tokens of all that ran. `Outcome.notes["ran"]` is how many
    did.

    Attributes:
        strategies: The strategies, in their order.
        margin: Lead at which their common vote ends it; None for the first that does not abstain.
    """

    strategies: tuple[Strategy[Any], ...]
    margin: float | None = None
    name: ClassVar[str] = "in-turn"

    def __post_init__(self) -> None:
        members = ("name", "start", "ask", "tell", "outcome")
        for strategy in self.strategies:
            if not all(hasattr(strategy, member) for member in members):
                raise InvalidInput(f"strategies must be strategies, got {strategy!r}")
        if len(self.strategies) < 2:
            raise InvalidInput(f"give at least two strategies, got {len(self.strategies)}")

    def start(self, prompt: Prompt, seed: int | None) -> TurnState:
        """The state before anything was asked."""
        if seed is not None:
            _check.integer("seed", seed, 0, MAX_SEED)
        return TurnState(prompt, seed, (self.strategies[0].start(prompt, seed),))

    def ask(self, state: TurnState) -> tuple[TurnState, tuple[Ask, ...]]:
        """What the strategy at work asks, and when that is done the next one."""
        state = self._moved_on(state)
        turn = len(state.states) - 1
        inner, asks = self.strategies[turn].ask(state.states[turn])
        kept = replace(state, states=(*state.states[:turn], inner))
        return kept, tuple(replace(ask, id=self._outer(turn, ask.id)) for ask in asks)

    def tell(self, state: TurnState, ask_id: int, result: Result) -> TurnState:
        """The state that knows `result`."""
        inner_id, turn = divmod(ask_id, len(self.strategies))
        if turn >= len(state.states):
            raise InvalidInput(f"nothing with id {ask_id!r} is waiting to be told")
        told = self.strategies[turn].tell(state.states[turn], inner_id, result)
        return replace(state, states=(*state.states[:turn], told, *state.states[turn + 1 :]))

    def outcome(self, state: TurnState) -> Outcome | None:
        """The outcome, or None while something is still to be found out."""
        done = self._done(state)
        if done is None or (len(done) < len(self.strategies) and not self._enough(state, done)):
            return None
        return self._joined(state, done)

    def best(self, state: TurnState) -> Outcome:
        """The outcome of what has run, the best so far of the strategy at work included."""
        pairs = zip(self.strategies, state.states, strict=False)
        return self._joined(state, [self._best(state, s, inner) for s, inner in pairs])

    def cancel(
        self, state: TurnState, finished: Mapping[int, tuple[Candidate, ...]]
    ) -> Collection[int]:
        """The open draws that the strategy at work does not need."""
        turn = len(state.states) - 1
        strategy = self.strategies[turn]
        if not isinstance(strategy, Cancels):
            return ()
        inner = {ask_id // len(self.strategies): found for ask_id, found in finished.items()}
        needless = strategy.cancel(state.states[turn], inner)
        return tuple(self._outer(turn, ask_id) for ask_id in needless)

    def _outer(self, turn: int, ask_id: int) -> int:
        """An id that no other strategy's ask has."""
        return ask_id * len(self.strategies) + turn

    def _moved_on(self, state: TurnState) -> TurnState:
        """The state in which the next strategy has begun, when the last one is done."""
        done = self._done(state)
        turn = len(state.states)
        if done is None or turn == len(self.strategies) or self._enough(state, done):
            return state
        begun = self.strategies[turn].start(state.prompt, later_seed(state.seed, turn))
        return replace(state, states=(*state.states, begun))

    def _done(self, state: TurnState) -> list[Outcome] | None:
        """The outcomes of all that have begun; None while the last one is at work."""
        pairs = zip(self.strategies, state.states, strict=False)
        outcomes = [strategy.outcome(inner) for strategy, inner in pairs]
        known = [outcome for outcome in outcomes if outcome is not None]
        return known if len(known) == len(outcomes) else None

    def _enough(self, state: TurnState, outcomes: list[Outcome]) -> bool:
        if self.margin is None:
            return outcomes[-1].answer is not None
        joined = self._joined(state, outcomes)
        return joined.answer is not None and joined.margin >= self.margin

    def _best(self, state: TurnState, strategy: Strategy[Any], inner: Any) -> Outcome:
        outcome = strategy.outcome(inner)
        if outcome is not None:
            return outcome
        if isinstance(strategy, Anytime):
            return strategy.best(inner)
        return Outcome(strategy.name, state.prompt, reason="it was stopped before it was done")

    def _joined(self, state: TurnState, outcomes: list[Outcome]) -> Outcome:
        """One outcome of several: of the last, or of the vote of all samples."""
        made = outcomes[-1] if self.margin is None else self._pooled(outcomes, state.seed or 0)
        if self.margin is None and made.answer is None:  # cut short: an earlier one may know more
            made = next((o for o in reversed(outcomes) if o.candidates), made)
        reports = [o.esamp for o in outcomes if o.esamp is not None]
        first = 0
        failures = []
        for outcome in outcomes:
            failures += [replace(f, index=first + f.index) for f in outcome.failures]
            first += outcome.requested
        return replace(
            made,
            strategy=self.name,
            failures=tuple(failures),
            requested=first,
            usage=sum((o.usage for o in outcomes), Usage()),
            esamp=sum(reports, ESampReport()) if reports else None,
            notes={**made.notes, "ran": float(len(outcomes))},
        )

    def _pooled(self, outcomes: list[Outcome], seed: int) -> Outcome:
        found = [c for o in outcomes for c in o.candidates]
        candidates = tuple(replace(c, index=i) for i, c in enumerate(found))
        answers = tuple(answer for o in outcomes for answer in o.answers)
        picked = majority(candidates, answers, seed)
        return replace(
            outcomes[-1],
            answer=picked.answer,
            candidate=None if picked.place is None else candidates[picked.place],
            votes=picked.votes,
            candidates=candidates,
            answers=answers,
            scores=_shifted(outcomes),
            tie=picked.tie,
            margin=picked.margin,
            reason="" if picked.answer is not None else outcomes[-1].reason,
        )


def _shifted(outcomes: list[Outcome]) -> tuple[CandidateScore, ...]:
    """All scores, their places counted through."""
    first, scores = 0, []
    for outcome in outcomes:
        scores += [replace(score, index=first + score.index) for score in outcome.scores]
        first += len(outcome.candidates)
    return tuple(scores)
