"""The runner: errors, cancellation, concurrency and strategies of one's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from ttscale import strategies
from ttscale.engines import CandidateHook
from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import Ask, Draw, Outcome, Result, Runs, SelfConsistency
from ttscale.testing import ScriptedEngine
from ttscale.types import Candidate, Message, Prompt, Samples


@dataclass(frozen=True)
class BrokenEngine:
    """Raises one error at every draw."""

    error: Exception
    model: str = "broken"

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        raise self.error


@dataclass(frozen=True)
class PairState:
    """The two draws of `Pair`, by id."""

    prompt: Prompt
    asked: bool = False
    told: tuple[tuple[int, Samples], ...] = ()


@dataclass(frozen=True)
class Pair(Runs):
    """A strategy of one's own: two draws at the same time, all samples handed back."""

    name: str = "pair"

    def start(self, prompt: Prompt, seed: int | None) -> PairState:
        return PairState(prompt)

    def ask(self, state: PairState) -> tuple[PairState, tuple[Ask, ...]]:
        if state.asked:
            return state, ()
        draws = tuple(Draw(i, state.prompt, 1, Sampler(seed=i)) for i in range(2))
        return replace(state, asked=True), draws

    def tell(self, state: PairState, ask_id: int, result: Result) -> PairState:
        assert isinstance(result, Samples)
        return replace(state, told=(*state.told, (ask_id, result)))

    def outcome(self, state: PairState) -> Outcome | None:
        if len(state.told) < 2:
            return None
        drawn = [c for _, samples in sorted(state.told) for c in samples.candidates]
        return Outcome("pair", state.prompt, candidates=tuple(drawn), requested=2)


@dataclass(frozen=True)
class Idle(Pair):
    """A strategy with a bug: it never asks and never finishes."""

    def ask(self, state: PairState) -> tuple[PairState, tuple[Ask, ...]]:
        return state, ()


async def test_asks_of_one_round_run_at_the_same_time() -> None:
    """The first draw can wait for the second: both are under way together."""
    arrived: list[int] = []
    both = asyncio.Event()

    async def gate(prompt: Prompt, index: int) -> None:
        arrived.append(index)
        if len(arrived) == 2:
            both.set()
        await both.wait()

    engine = ScriptedEngine(["a"], gate=gate)
    outcome = await asyncio.wait_for(Pair().arun(engine, "q"), timeout=30)

    assert outcome.returned == 2
    assert [call.sampler.seed for call in engine.calls] == [0, 1]


async def test_cancellation_passes_through() -> None:
    """Cancelling the caller cancels every draw that is under way."""
    under_way, cancelled = asyncio.Event(), 0

    async def gate(prompt: Prompt, index: int) -> None:
        nonlocal cancelled
        under_way.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise

    running = asyncio.create_task(SelfConsistency(n=3).arun(ScriptedEngine(["a"], gate=gate), "q"))
    await under_way.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled == 3


def test_strategy_that_never_asks_is_refused() -> None:
    """A strategy that neither asks nor finishes is told so instead of looping forever."""
    with pytest.raises(InvalidInput, match="'pair' asks for nothing and has no outcome"):
        Idle().run(ScriptedEngine(["a"]), "q")


def test_failed_request_is_failed_samples() -> None:
    """An engine error while drawing becomes the reason of every sample of that request."""
    engine = BrokenEngine(EngineError("out of memory"))

    outcome = SelfConsistency(n=3).run(engine, "q")

    assert [(f.index, f.reason) for f in outcome.failures] == [
        (i, "out of memory") for i in range(3)
    ]
    assert outcome.reason == "none of the 3 samples came back: out of memory"


@pytest.mark.parametrize(
    "error", [EngineStopped("closed"), InvalidInput("too long"), KeyError("a bug")]
)
def test_other_errors_are_raised(error: Exception) -> None:
    """A stopped engine, a refused request and bugs are raised, not reported as failed samples."""
    with pytest.raises(type(error)) as raised:
        SelfConsistency(n=3).run(BrokenEngine(error), "q")

    assert raised.value is error


@pytest.mark.parametrize(
    "prompt",
    ["What?", Prompt.of("What?"), [Message("user", "What?")], (Message("user", "What?"),)],
)
def test_prompt_forms(prompt: str | Prompt | list[Message]) -> None:
    """A question, a prompt and messages lead to the same draw."""
    engine = ScriptedEngine(["a"])

    outcome = SelfConsistency(n=1).run(engine, prompt)

    assert outcome.prompt == engine.calls[0].prompt == Prompt.of("What?")


def test_raw_prompt_stays_raw() -> None:
    """Raw text is handed on as raw text."""
    engine = ScriptedEngine(["a"])

    SelfConsistency(n=1).run(engine, Prompt.raw("Once upon"))

    assert engine.calls[0].prompt == Prompt(text="Once upon")


def test_empty_question_is_refused() -> None:
    """An empty question is refused before anything is drawn."""
    with pytest.raises(InvalidInput, match="must not be empty"):
        SelfConsistency(n=1).run(ScriptedEngine(["a"]), "  ")


def test_samples_are_reported_as_they_finish() -> None:
    """The hook sees samples in the order in which they finish; the outcome is by index."""

    async def gate(prompt: Prompt, index: int) -> None:
        for _ in range(10 * (2 - index)):
            await asyncio.sleep(0)

    seen: list[Candidate] = []
    engine = ScriptedEngine(["a", "b", "c"], gate=gate)
    outcome = strategies.run(SelfConsistency(n=3), engine, "q", on_candidate=seen.append)

    assert [c.index for c in seen] == [2, 1, 0]
    assert [c.index for c in outcome.candidates] == [0, 1, 2]
