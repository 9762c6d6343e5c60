"""Verifiers made of plain functions."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from fractions import Fraction

import pytest

from ttscale.errors import InvalidInput
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Prompt, Usage
from ttscale.verifiers import CallableVerifier, CandidateScore, ScoreSheet, Verifier
from ttscale.verifiers.callable import ScoreFunction

ENGINE = ScriptedEngine(["unused"])


async def scored(verifier: Verifier, *texts: str) -> ScoreSheet:
    """The verifier's sheet for candidates with these texts."""
    candidates = [candidate(text, index=10 + i) for i, text in enumerate(texts)]
    return await verifier.ascore(Prompt.of("question?"), candidates, ENGINE)


async def test_function_is_given_question_and_text() -> None:
    """Each candidate is scored by its text, under its place in the sequence, at no tokens."""
    seen: list[tuple[str, str]] = []

    def length(question: str, text: str) -> float:
        seen.append((question, text))
        return len(text) / 10

    sheet = await scored(CallableVerifier(length), "ab", "abcd")

    assert sheet == ScoreSheet((CandidateScore(0, 0.2), CandidateScore(1, 0.4)), Usage(0, 0))
    assert sorted(seen) == [("question?", "ab"), ("question?", "abcd")]


async def test_asynchronous_function_is_awaited() -> None:
    """An asynchronous function is awaited on the running loop."""

    async def score(question: str, text: str) -> float:
        await asyncio.sleep(0)
        return 0.25

    assert (await scored(CallableVerifier(score), "a")).scores == (CandidateScore(0, 0.25),)


async def test_object_with_asynchronous_call_is_awaited() -> None:
    """An object whose call is asynchronous is one as well."""

    class Scorer:
        async def __call__(self, question: str, text: str) -> float:
            return 0.75 if asyncio.get_running_loop() else 0.0

    assert (await scored(CallableVerifier(Scorer()), "a")).scores == (CandidateScore(0, 0.75),)


async def test_synchronous_function_does_not_block_the_loop() -> None:
    """A function that waits for the event loop gets what it waits for."""
    loop, ready = asyncio.get_running_loop(), threading.Event()

    def wait(question: str, text: str) -> float:
        loop.call_soon_threadsafe(ready.set)
        return 1.0 if ready.wait(timeout=10) else 0.0

    assert (await scored(CallableVerifier(wait), "a")).scores == (CandidateScore(0, 1.0),)


async def test_error_is_of_that_candidate_alone() -> None:
    """A function that raises for one text leaves the other scores alone."""

    def brittle(question: str, text: str) -> float:
        if text == "bad":
            raise RuntimeError("no parse")
        return 0.5

    sheet = await scored(CallableVerifier(brittle), "good", "bad", "good")

    assert sheet.scores == (
        CandidateScore(0, 0.5),
        CandidateScore(1, error="RuntimeError: no parse"),
        CandidateScore(2, 0.5),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "must be in [0, 1], got nan"),
        (math.inf, "must be in [0, 1], got inf"),
        (-0.01, "must be in [0, 1], got -0.01"),
        (1.5, "must be in [0, 1], got 1.5"),
        (None, "must be a number, got None"),
        ("0.5", "must be a number, got '0.5'"),
    ],
)
async def test_unusable_value_is_an_error(value: float, message: str) -> None:
    """A value that is no number in the range is an error that says so, never a default."""
    (score,) = (await scored(CallableVerifier(lambda question, text: value), "a")).scores

    assert score.value is None
    assert message in (score.error or "")


@pytest.mark.parametrize(("value", "score"), [(True, 1.0), (False, 0.0), (Fraction(1, 4), 0.25)])
async def test_truth_values_and_fractions_are_scores(value: float, score: float) -> None:
    """A check that returns a truth value can serve as it is."""
    sheet = await scored(CallableVerifier(lambda question, text: value), "a")

    assert sheet.scores == (CandidateScore(0, score),)


async def test_concurrency_is_bounded() -> None:
    """No more calls than allowed run at the same time, and all get their turn."""
    running, most = 0, 0

    async def score(question: str, text: str) -> float:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return 1.0

    sheet = await scored(CallableVerifier(score, concurrency=2), *"abcdef")

    assert len(sheet.scores) == 6
    assert most == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda fn: CallableVerifier(0.5), "fn must be callable"),  # type: ignore[arg-type]
        (lambda fn: CallableVerifier(fn, low=1.0, high=0.0), "low < high"),
        (lambda fn: CallableVerifier(fn, high=math.nan), "low < high"),
        (lambda fn: CallableVerifier(fn, low="0"), "low < high, got '0' to 1.0"),  # type: ignore[arg-type]
        (lambda fn: CallableVerifier(fn, concurrency=0), "concurrency must be a whole number"),
    ],
)
def test_bad_settings_are_refused(
    make: Callable[[ScoreFunction], CallableVerifier], message: str
) -> None:
    """A bad setting is refused at construction."""
    with pytest.raises(InvalidInput, match=message):
        make(lambda question, text: 1.0)
