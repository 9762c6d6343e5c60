"""Answers that grow step by step: beam search, the particle filter and forced thinking."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale import LocalEngine
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import BeamSearch, BudgetForcing, ParticleFilter
from ttscale.strategies.particle_filter import effective_size, shares, systematic
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import CallableVerifier

GOOD, BAD = "Good step.\n\n", "Bad step.\n\n"


def likes_good(question: str, text: str) -> float:
    """More good steps are better, bad ones worse."""
    return min(1.0, max(0.0, 0.5 + 0.1 * text.count("Good") - 0.3 * text.count("Bad")))


LIKING = CallableVerifier(likes_good)


def two_roads(prompt: Prompt, index: int) -> Scripted:
    """Even samples go well and odd ones badly; the third step is the answer."""
    if prompt.prefix.count("\n\n") == 2:
        return r"So \boxed{7}." if "Bad" not in prompt.prefix else r"So \boxed{8}."
    return BAD if index % 2 else GOOD


def test_a_beam_keeps_the_best_beginnings() -> None:
    """After two steps only the good road is left, and its whole text is the candidate."""
    engine = ScriptedEngine(two_roads)

    outcome = BeamSearch(LIKING, n=1, expand=2).run(engine, "q", seed=0)

    assert [call.prompt.prefix for call in engine.calls] == ["", GOOD, GOOD + GOOD]
    assert outcome.candidate is not None
    assert outcome.candidate.text == GOOD + GOOD + r"So \boxed{7}."
    assert (outcome.answer, outcome.notes["steps"]) == ("7", 3.0)
    assert outcome.candidate.token_count == 6


def test_steps_end_at_the_separator_and_keep_it() -> None:
    """Each draw stops at the separator, within the step's and the answer's length."""
    engine = ScriptedEngine(two_roads)
    sampler = Sampler(max_tokens=20, stop=("END",))

    BeamSearch(LIKING, n=1, sampler=sampler, expand=2, step_tokens=9).run(engine, "q")

    asked = [call.sampler for call in engine.calls]
    assert all(s.stop == ("END", "\n\n") and s.include_stop for s in asked)
    assert [s.max_tokens for s in asked] == [9, 9, 9]


def test_endless_steps_are_cut() -> None:
    """An answer that never ends is cut after the most steps, and is marked as cut off."""
    engine = ScriptedEngine([GOOD])

    outcome = BeamSearch(LIKING, n=1, expand=1, max_steps=3).run(engine, "q")

    assert outcome.notes["steps"] == 3.0
    assert outcome.truncated == 1


def test_particles_follow_the_weights() -> None:
    """Where one road scores nothing, all particles take the other one."""
    verifier = CallableVerifier(lambda question, text: 0.0 if "Bad" in text else 0.9)

    outcome = ParticleFilter(verifier, n=4).run(ScriptedEngine(two_roads), "q", seed=3)

    assert {c.text for c in outcome.candidates} == {GOOD + GOOD + r"So \boxed{7}."}
    assert outcome.notes["effective_size"] == pytest.approx(2.0)


def test_particles_with_one_text_are_one_draw() -> None:
    """Copies of a beginning are continued by one request with as many samples."""
    engine = ScriptedEngine(two_roads)
    verifier = CallableVerifier(lambda question, text: 0.0 if "Bad" in text else 0.9)

    ParticleFilter(verifier, n=4).run(engine, "q", seed=3)

    assert [(call.n, call.prompt.prefix) for call in engine.calls] == [
        (4, ""),
        (4, GOOD),
        (4, GOOD + GOOD),
    ]


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.integers(1, 20),
    st.floats(0, 1, exclude_max=True),
)
def test_systematic_resampling_is_fair(weights: list[float], n: int, start: float) -> None:
    """Each place comes about n times its share: never off by one or more."""
    parts = shares(weights)
    places = systematic(parts, n, start)

    assert len(places) == n
    assert places == sorted(places)
    assert all(abs(places.count(i) - n * part) < 1 + 1e-6 for i, part in enumerate(parts))
    assert 1 - 1e-9 <= effective_size(parts) <= len(parts) + 1e-9
    assert math.isclose(math.fsum(parts), 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"step": ""}, "step must be a text"),
        ({"step_tokens": 0}, "step_tokens must be a whole number"),
        ({"max_steps": 0}, "max_steps must be a whole number"),
    ],
)
def test_bad_steps_are_refused(settings: dict[str, object], words: str) -> None:
    """Both step strategies name what is allowed."""
    for strategy in (BeamSearch, ParticleFilter):
        with pytest.raises(InvalidInput, match=words):
            strategy(LIKING, **settings)  # type: ignore[arg-type]


def thinking(prompt: Prompt, index: int) -> Scripted:
    """Thinks, answers wrongly, and after being told to wait rightly."""
    if "Wait" in prompt.prefix:
        return r" I erred.</think>So \boxed{7}."
    return r"<think>Easy.</think>So \boxed{8}."


def test_thinking_goes_on_where_it_ended() -> None:
    """The end of the thinking and what follows are cut, and the whole text is the candidate."""
    engine = ScriptedEngine(thinking)

    outcome = BudgetForcing(n=1, max_forced=1).run(engine, "q")

    assert engine.calls[1].prompt.prefix == "<think>Easy.\nWait,"
    assert outcome.candidate is not None
    assert outcome.candidate.text == "<think>Easy.\nWait, I erred.</think>So \\boxed{7}."
    assert (outcome.answer, outcome.notes["forced"]) == ("7", 1.0)


def test_long_and_cut_off_samples_are_left_alone() -> None:
    """Only samples that ended early by themselves are made to go on."""
    texts = [
        candidate(r"\boxed{7}", token_count=50),
        candidate(r"\boxed{7}", token_count=5, finish_reason="length"),
        candidate(r"\boxed{7}", token_count=5),
    ]
    engine = ScriptedEngine(texts)

    outcome = BudgetForcing(n=3, max_forced=1, min_tokens=20).run(engine, "q")

    assert [call.n for call in engine.calls] == [3, 1]
    assert outcome.notes["forced"] == 1.0


def test_a_continuation_that_fails_leaves_the_sample() -> None:
    """The sample votes as it was before."""

    def script(prompt: Prompt, index: int) -> Scripted:
        return RuntimeError("line dropped") if prompt.prefix else r"\boxed{7}"

    outcome = BudgetForcing(n=1).run(ScriptedEngine(script), "q")

    assert (outcome.answer, outcome.spent.failed, outcome.notes["forced"]) == ("7", 1, 0.0)


@pytest.mark.engine
def test_a_beam_grows_on_the_real_engine(engine: LocalEngine) -> None:
    """Each beginning that is kept is the real model's own text, step after step."""
    sampler = Sampler(temperature=0.7, max_tokens=48)
    strategy = BeamSearch(LIKING, 2, sampler, step="\n", step_tokens=16, max_steps=3)

    outcome = strategy.run(engine, "List three colours, one a line.", seed=1)

    assert 1 <= len(outcome.candidates) <= 2
    assert outcome.spent.samples >= 4
    assert all(0 < c.token_count <= 48 for c in outcome.candidates)
