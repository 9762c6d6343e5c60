"""The scripted engine that users test with."""

from __future__ import annotations

import asyncio
import doctest
from dataclasses import replace

import pytest

from ttscale import testing
from ttscale.engines import Engine, draw
from ttscale.errors import InvalidInput
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import Ask, Draw, Outcome, Result, SelfConsistency
from ttscale.strategies.rounds import SampleState
from ttscale.testing import Scripted, ScriptedEngine, candidate, check_contract
from ttscale.types import Candidate, ESampReport, Failure, Prompt, Samples, Usage

QUESTION = Prompt.of("two words")


def test_docstring_example_holds() -> None:
    """The example of the module runs and prints what it says."""
    result = doctest.testmod(testing)

    assert result.attempted == 4
    assert result.failed == 0


def test_is_an_engine() -> None:
    """It has what strategies ask of an engine."""
    assert isinstance(ScriptedEngine(["a"]), Engine)
    assert ScriptedEngine(["a"], model="toy").model == "toy"


def test_texts_are_dealt_from_the_start_of_each_draw() -> None:
    """Texts are dealt in order, over again when there are too few, and afresh for each draw."""
    engine = ScriptedEngine(["a", "b c"])

    for _ in range(2):
        samples = draw(engine, QUESTION, 3, Sampler())
        assert [c.text for c in samples.candidates] == ["a", "b c", "a"]
        assert [c.index for c in samples.candidates] == [0, 1, 2]
        assert samples.usage == Usage(prompt_tokens=2, completion_tokens=4)
        assert (samples.requested, samples.failures, samples.esamp) == (3, (), None)


def test_exceptions_are_failed_samples() -> None:
    """M of N: an exception in the script fails that sample with its message."""
    samples = draw(ScriptedEngine(["a", ValueError("lost"), "c"]), QUESTION, 3, Sampler())

    assert [c.index for c in samples.candidates] == [0, 2]
    assert samples.failures == (Failure(1, "lost"),)
    assert samples.requested == 3


def test_whole_candidates_keep_their_details() -> None:
    """Scripted candidates keep everything but their index."""
    made = candidate(
        "a", token_count=9, finish_reason="length", logprob=-3.0, top_logprobs={"a": -0.1}
    )

    (_, second) = draw(ScriptedEngine([made]), QUESTION, 2, Sampler()).candidates

    assert second == Candidate(1, "a", 9, "length", -3.0, {"a": -0.1})


def test_function_makes_samples_from_prompt_and_index() -> None:
    """A function is asked for each sample."""

    def script(prompt: Prompt, index: int) -> Scripted:
        return f"{prompt.question} {index}"

    samples = draw(ScriptedEngine(script), QUESTION, 2, Sampler())

    assert [c.text for c in samples.candidates] == ["two words 0", "two words 1"]


def test_calls_are_written_down() -> None:
    """Every call is kept with prompt, n and sampler."""
    engine = ScriptedEngine(["a"])

    draw(engine, QUESTION, 2, Sampler(top_k=5))

    assert engine.calls == [(QUESTION, 2, Sampler(top_k=5))]


def test_seed_picks_at_random_and_reproducibly() -> None:
    """Equal seeds pick equal samples; another engine or sampler seed picks others."""
    texts = [str(i) for i in range(100)]

    def picked(seed: int, sampler_seed: int) -> list[str]:
        samples = draw(ScriptedEngine(texts, seed=seed), QUESTION, 8, Sampler(seed=sampler_seed))
        return [c.text for c in samples.candidates]

    assert picked(1, 1) == picked(1, 1)
    assert len({tuple(picked(a, b)) for a in (1, 2) for b in (1, 2)}) == 4


def test_report_comes_with_esamp_alone() -> None:
    """The scripted report comes when the sampler asks for ESamp."""
    report = ESampReport(rows_mixed=3)
    engine = ScriptedEngine(["a"], esamp=report)

    assert draw(engine, QUESTION, 1, Sampler(esamp=ESamp())).esamp == report
    assert draw(engine, QUESTION, 1, Sampler()).esamp is None


async def test_gate_decides_when_samples_finish() -> None:
    """A test can hold samples back with events, and sees them come in its own order."""
    events = [asyncio.Event(), asyncio.Event()]

    async def gate(prompt: Prompt, index: int) -> None:
        await events[index].wait()

    seen: list[int] = []
    second_seen = asyncio.Event()

    def hook(sample: Candidate) -> None:
        seen.append(sample.index)
        second_seen.set()

    engine = ScriptedEngine(["a", "b"], gate=gate)
    drawing = asyncio.create_task(engine.adraw(QUESTION, 2, Sampler(), on_candidate=hook))
    events[1].set()
    await second_seen.wait()
    assert (seen, drawing.done()) == ([1], False)
    events[0].set()

    assert [c.text for c in (await drawing).candidates] == ["a", "b"]
    assert seen == [1, 0]


@pytest.mark.parametrize("script", [[], "one text", ()])
def test_script_without_samples_is_refused(script: list[str]) -> None:
    """An empty script, and a bare text, are refused."""
    with pytest.raises(InvalidInput, match="script must be a list of samples"):
        ScriptedEngine(script)


def test_impossible_draws_are_refused_like_a_real_engine_does() -> None:
    """n below one, and many greedy samples, are refused and not counted as calls."""
    engine = ScriptedEngine(["a"])

    for n, sampler in [(0, Sampler()), (2, Sampler(temperature=0.0))]:
        with pytest.raises(InvalidInput, match="n must be"):
            draw(engine, QUESTION, n, sampler)

    assert engine.calls == []


class Impatient(SelfConsistency):
    """Asks anew every time."""

    def ask(self, state: SampleState) -> tuple[SampleState, tuple[Ask, ...]]:
        return state, (Draw(0, state.prompt, 1, Sampler()),)


class Hasty(SelfConsistency):
    """Takes whatever sample comes first."""

    def tell(self, state: SampleState, ask_id: int, result: Result) -> SampleState:
        assert isinstance(result, Samples)
        return replace(state, waiting=None, samples=result)

    def outcome(self, state: SampleState) -> Outcome | None:
        if state.samples is None:
            return None
        return Outcome("hasty", state.prompt, state.samples.candidates[0].text)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        (Impatient(n=2), "it asks again while it waits"),
        (Hasty(n=2), "the outcome depends on the order"),
    ],
)
def test_broken_strategies_are_told_what_they_break(strategy: SelfConsistency, words: str) -> None:
    """`check_contract` names the promise; a good strategy's outcome comes back."""
    with pytest.raises(AssertionError, match=words):
        check_contract(strategy, ScriptedEngine(["a", "b"]), "q")

    assert check_contract(SelfConsistency(n=2), ScriptedEngine(["7"]), "q").answer == "7"


def test_long_samples_are_cut_off() -> None:
    """A scripted engine keeps `max_tokens`, as a real one does."""
    (cut,) = draw(ScriptedEngine(["a b c"]), QUESTION, 1, Sampler(max_tokens=2)).candidates

    assert (cut.text, cut.token_count, cut.finish_reason) == ("a b", 2, "length")
