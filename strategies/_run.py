"""One run of one strategy: what is open, what has finished, and when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Literal, TypeVar

from ttscale.answers import extract_answer
from ttscale.engines import CandidateHook, Engine
from ttscale.errors import EngineError, EngineStopped, InvalidInput, TTScaleError
from ttscale.strategies.budget import Budget, check_budget
from ttscale.strategies.meter import Meter, Metered
from ttscale.strategies.outcome import Outcome
from ttscale.strategies.protocol import Anytime, Ask, Cancels, Draw, Result, Score, Strategy
from ttscale.strategies.record import Head, Record
from ttscale.strategies.seeds import later_seed
from ttscale.strategies.select import majority
from ttscale.types import Candidate, Failure, Prompt, Samples, Usage
from ttscale.verifiers import ScoreSheet

S = TypeVar("S")
NOT_NEEDED = "cancelled: the strategy had seen enough"


@dataclass(frozen=True, slots=True)
class Event:
    """How a run stands.

    Attributes:
        kind: `sample` (one has finished), `scores` (a verifier has answered) or `final`.
        outcome: The best so far, its votes those so far; of the last event the final one.
        candidate: The sample that has finished; None otherwise.
    """

    kind: Literal["sample", "scores", "final"]
    outcome: Outcome
    candidate: Candidate | None = None


@dataclass(slots=True)
class _Open:
    """An ask under way; `finished` holds the samples of a draw by index."""

    ask: Ask
    task: asyncio.Task[Result]
    finished: dict[int, Candidate]

    def cut(self, reason: str) -> Result:
        """What is told when the ask is stopped now: what has finished, and `reason`."""
        if isinstance(self.ask, Score):
            return ScoreSheet.failed(len(self.ask.candidates), reason)
        missing = (i for i in range(self.ask.n) if i not in self.finished)
        return Samples(
            requested=self.ask.n,
            candidates=self.so_far,
            failures=tuple(Failure(index, reason) for index in missing),
            usage=Usage(0, sum(c.token_count for c in self.finished.values())),
        )

    @property
    def complete(self) -> bool:
        """Whether every sample of a draw has finished."""
        return isinstance(self.ask, Draw) and len(self.finished) == self.ask.n

    @property
    def so_far(self) -> tuple[Candidate, ...]:
        """What has finished, by index."""
        return tuple(self.finished[index] for index in sorted(self.finished))


Signal = tuple[Literal["sample", "done", "deadline"], int, Candidate | None]


class Run(Generic[S]):
    """Runs a strategy once; arguments are those of `arun`."""

    def __init__(
        self,
        strategy: Strategy[S],
        engine: Engine,
        prompt: Prompt,
        seed: int | None,
        budget: Budget | None,
        record: Record | None,
        hook: CandidateHook | None,
    ) -> None:
        self._strategy = strategy
        self._prompt = prompt
        self._limits = check_budget(budget)
        self._meter = Meter(self._limits)
        self._policy = Metered(engine, self._meter, judge=False)
        self._judge = Metered(engine, self._meter, judge=True)
        self._state = strategy.start(prompt, seed)
        self._record = record
        if record is not None:
            record.begin(Head(strategy.name, prompt, seed))
        self._hook = hook
        self._watches = isinstance(strategy, Cancels)
        self._stopped = ""
        self._tell_samples = False
        self._replayed: set[int] = set()
        self._finished: dict[int, dict[int, Candidate]] = {}
        self._open: dict[int, _Open] = {}
        self._signals: asyncio.Queue[Signal] = asyncio.Queue()

    async def events(self, *, live: bool) -> AsyncGenerator[Event, None]:
        """How the run stands, after each sample and scoring when `live`; at last its outcome."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        timer = None
        if (seconds := self._limits.deadline_seconds) is not None:
            timer = loop.call_later(seconds, self._signals.put_nowait, ("deadline", 0, None))
        self._tell_samples = live or self._watches
        try:
            while (outcome := await self._outcome()) is None and await self._launch():
                kind, ask_id, candidate = await self._signals.get()
                if kind == "deadline":
                    self._stopped = f"the budget's deadline_seconds={seconds:g} is over"
                    break
                told = await self._take(kind, ask_id)
                if live and told is not None:
                    yield Event(told, await self._so_far(), candidate)
            await self._halt(list(self._open), self._stopped)
            if outcome is None:
                outcome = await asyncio.to_thread(self._best, self._state)
            while live and not self._signals.empty():  # finished while the last ones were stopped
                kind, _, candidate = self._signals.get_nowait()
                if kind == "sample":
                    yield Event("sample", outcome, candidate)
            spent = self._meter.spent(loop.time() - begun)
            stopped = self._stopped or self._meter.stopped or outcome.stopped
            yield Event("final", replace(outcome, spent=spent, stopped=stopped))
        finally:
            if timer is not None:
                timer.cancel()
            await self._abandon()

    async def _outcome(self) -> Outcome | None:
        """Comparing answers may take a while, so this must not hold up the event loop."""
        return await asyncio.to_thread(self._strategy.outcome, self._state)

    async def _launch(self) -> bool:
        """Start what the strategy asks for; False when it asks for more than the budget has."""
        state, asks = await asyncio.to_thread(self._strategy.ask, self._state)
        if not asks and not self._open:
            raise InvalidInput(
                f"strategy {self._strategy.name!r} asks for nothing and has no outcome; "
                "outcome() must not be None once everything asked for has been told"
            )
        if self._meter.stopped and any(isinstance(ask, Draw) for ask in asks):
            self._stopped = self._meter.stopped
            return False
        self._state = state
        for ask in asks:
            task = asyncio.ensure_future(self._find_out(ask))
            finished = self._finished.setdefault(ask.id, {})
            self._open[ask.id] = _Open(ask, task, finished)
            task.add_done_callback(partial(self._done, ask.id))
        return True

    def _done(self, ask_id: int, _: object) -> None:
        self._signals.put_nowait(("done", ask_id, None))

    async def _take(self, kind: str, ask_id: int) -> Literal["sample", "scores"] | None:
        """Act on one signal; the event that it makes, if it makes one."""
        if kind == "sample":
            await self._cancel_needless()
            return "sample"
        entry = self._open.pop(ask_id, None)
        if entry is None:  # stopped in the meantime
            return None
        self._tell(entry.ask, entry.task.result())
        return "scores" if isinstance(entry.ask, Score) else None

    def _tell(self, ask: Ask, result: Result) -> None:
        self._state = self._strategy.tell(self._state, ask.id, result)
        if isinstance(result, Samples):
            self._finished[ask.id] |= {c.index: c for c in result.candidates}
        elif ask.id not in self._replayed:
            self._meter.judge_told += result.usage

    async def _cancel_needless(self) -> None:
        """Stop the draws that the strategy does not need any more."""
        if not isinstance(self._strategy, Cancels):
            return
        shown = {i: e.so_far for i, e in self._open.items() if isinstance(e.ask, Draw)}
        needless = await asyncio.to_thread(self._strategy.cancel, self._state, shown)
        await self._halt([i for i in needless if i in shown], NOT_NEEDED, final=True)

    async def _halt(self, ask_ids: list[int], reason: str, *, final: bool = False) -> None:
        """Stop asks and tell what has finished; `final` ones are not taken up by a later run."""
        entries = [self._open.pop(ask_id) for ask_id in ask_ids]
        for entry in entries:
            if not entry.complete:  # else its end, with its exact usage, is on its way
                entry.task.cancel()
        results = await asyncio.gather(*(e.task for e in entries), return_exceptions=True)
        for entry, found in zip(entries, results, strict=True):
            if isinstance(found, Samples | ScoreSheet):  # it finished while it was stopped
                self._tell(entry.ask, found)
                continue
            result = entry.cut(reason)
            if self._record is not None and final:
                self._record.tell(entry.ask, result)
            self._tell(entry.ask, result)

    async def _abandon(self) -> None:
        """End whatever still runs, before an error or a cancellation is passed on."""
        tasks = [entry.task for entry in self._open.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _so_far(self) -> Outcome:
        """The best of what has finished: a copy of the state is told it."""
        state = self._state
        for entry in self._open.values():
            state = self._strategy.tell(state, entry.ask.id, entry.cut("still running"))
        return await asyncio.to_thread(self._best, state)

    def _best(self, state: S) -> Outcome:
        if (outcome := self._strategy.outcome(state)) is not None:
            return outcome
        if isinstance(self._strategy, Anytime):
            return self._strategy.best(state)
        found = [
            samples[i] for _, samples in sorted(self._finished.items()) for i in sorted(samples)
        ]
        return _vote(self._strategy.name, self._prompt, tuple(found))

    async def _find_out(self, ask: Ask) -> Result:
        if self._record is not None and (known := self._record.told(ask)) is not None:
            self._replayed.add(ask.id)
            return known
        if isinstance(ask, Draw):
            result: Result = await self._draw(ask)
            cut = bool(self._meter.stopped)  # a later run may have more to spend
        else:
            result, cut = await self._score(ask), False
        if self._record is not None and not cut:
            self._record.tell(ask, result)
        return result

    async def _draw(self, ask: Draw) -> Samples:
        """Draw; a request that fails while it runs is that many failed samples, with the reason."""
        kept = self._record.finished(ask) if self._record is not None else {}
        missing = [index for index in range(ask.n) if index not in kept]
        self._open[ask.id].finished.update(kept)
        if not missing:
            return _with_kept(Samples(0, ()), ask.n, missing, kept)
        sampler = ask.sampler
        if kept:
            sampler = sampler.with_seed(later_seed(sampler.seed, ask.n + len(kept)))

        def note(candidate: Candidate) -> None:
            self._note(ask, replace(candidate, index=missing[candidate.index]))

        try:
            found = await self._policy.adraw(ask.prompt, len(missing), sampler, on_candidate=note)
        except EngineStopped:
            raise
        except EngineError as error:
            failures = tuple(Failure(index, str(error)) for index in range(len(missing)))
            found = Samples(len(missing), (), failures)
        return _with_kept(found, ask.n, missing, kept) if kept else found

    def _note(self, ask: Draw, candidate: Candidate) -> None:
        """A sample has finished; on whatever thread the engine is."""
        entry = self._open.get(ask.id)
        if entry is None:  # stopped in the meantime
            return
        entry.finished[candidate.index] = candidate
        if self._record is not None:
            self._record.keep(ask, candidate)
        if self._hook is not None:
            self._hook(candidate)
        if self._tell_samples:
            signal: Signal = ("sample", ask.id, candidate)
            entry.task.get_loop().call_soon_threadsafe(self._signals.put_nowait, signal)

    async def _score(self, ask: Score) -> ScoreSheet:
        """Score; when that fails altogether the samples, already paid for, are not lost with it."""
        try:
            return await ask.verifier.ascore(ask.prompt, ask.candidates, self._judge)
        except TTScaleError as error:
            return ScoreSheet.failed(len(ask.candidates), str(error))


def _with_kept(
    found: Samples, n: int, missing: list[int], kept: Mapping[int, Candidate]
) -> Samples:
    """The samples drawn for the `missing` indexes, and those that were there before."""
    drawn = [replace(c, index=missing[c.index]) for c in found.candidates]
    usage = Usage(0, sum(c.token_count for c in kept.values()))
    return Samples(
        requested=n,
        candidates=tuple(sorted([*kept.values(), *drawn], key=lambda c: c.index)),
        failures=tuple(replace(f, index=missing[f.index]) for f in found.failures),
        usage=found.usage + usage,
        esamp=found.esamp,
    )


def _vote(name: str, prompt: Prompt, found: tuple[Candidate, ...]) -> Outcome:
    """The majority of what has finished, for a strategy that has no opinion of its own."""
    answers = tuple(extract_answer(candidate.text) for candidate in found)
    picked = majority(found, answers)
    return Outcome(
        strategy=name,
        prompt=prompt,
        answer=picked.answer,
        candidate=None if picked.place is None else found[picked.place],
        votes=picked.votes,
        candidates=found,
        answers=answers,
        requested=len(found),
        reason="" if picked.answer is not None else "stopped before any sample stated an answer",
    )
