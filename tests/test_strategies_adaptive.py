"""Self-consistency that stops early: when it does, what it cancels, and what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ttscale import LocalEngine, ServerEngine
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.strategies import AdaptiveSelfConsistency
from ttscale.testing import Reply, ScriptedEngine, ScriptedServer
from ttscale.types import Prompt

SEVEN, EIGHT = r"It is \boxed{7}.", r"It is \boxed{8}."


def finishing(order: Sequence[int], texts: Sequence[str]) -> ScriptedEngine:
    """Samples finish in this order, each when the one before it was told; others never do."""
    ready = {index: asyncio.Event() for index in order}
    turns = {index: place for place, index in enumerate(order)}
    ready[order[0]].set()

    async def gate(prompt: Prompt, index: int) -> None:
        if index not in ready:
            await asyncio.Event().wait()
        await ready[index].wait()
        for _ in range(20):
            await asyncio.sleep(0.001)
        if turns[index] + 1 < len(order):
            ready[order[turns[index] + 1]].set()

    return ScriptedEngine(texts, gate=gate)


async def test_a_decided_vote_cancels_what_still_runs() -> None:
    """Nine unanimous votes decide at alpha 0.05; the seven others are cancelled in the engine."""
    engine = finishing(range(9), [SEVEN])

    outcome = await AdaptiveSelfConsistency(n=16, alpha=0.05).arun(engine, "q")

    assert (outcome.answer, outcome.returned) == ("7", 9)
    assert engine.cancelled == outcome.spent.cancelled == 7
    assert outcome.notes["counted"] == 9
    assert {f.reason for f in outcome.failures} == {"cancelled: the strategy had seen enough"}


async def test_without_alpha_the_exact_rule_decides() -> None:
    """Five of eight votes cannot be overtaken: the others are not needed."""
    engine = finishing(range(5), [SEVEN])

    outcome = await AdaptiveSelfConsistency(n=8, alpha=None).arun(engine, "q")

    assert (outcome.returned, engine.cancelled) == (5, 3)


async def test_short_samples_that_finish_first_have_no_advantage() -> None:
    """Votes count in the order of their indexes: late ones wait for those before them."""
    texts = [EIGHT, EIGHT, EIGHT, SEVEN, SEVEN, SEVEN]
    engine = finishing([3, 4, 5, 0, 1, 2], texts)

    outcome = await AdaptiveSelfConsistency(n=6, alpha=None).arun(engine, "q", seed=0)

    assert outcome.returned == 6  # three of six in front never decided
    assert [vote.count for vote in outcome.votes] == [3, 3]
    assert outcome.tie


async def test_what_finished_beyond_the_decision_has_no_weight() -> None:
    """Samples 5 and 6 finish before 0 to 3: they are kept, and the first four decide of six."""
    texts = [SEVEN, SEVEN, SEVEN, SEVEN, EIGHT, EIGHT]
    engine = finishing([4, 5, 0, 1, 2, 3], texts)

    outcome = await AdaptiveSelfConsistency(n=6, alpha=None).arun(engine, "q")

    assert [(v.answer, v.count, v.weight) for v in outcome.votes] == [("7", 4, 4.0), ("8", 2, 0.0)]
    assert outcome.notes["counted"] == 4


def test_batches_stop_between_rounds() -> None:
    """With a batch of 4, twelve samples hold the nine votes that decide; the last four stay."""
    engine = ScriptedEngine([SEVEN])

    outcome = AdaptiveSelfConsistency(n=16, batch=4).run(engine, "q", seed=1)

    assert [call.n for call in engine.calls] == [4, 4, 4]
    assert outcome.requested == 12
    assert len({call.sampler.seed for call in engine.calls}) == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alpha": 0.0}, r"alpha must be a number in \(0, 0.5\]"),
        ({"alpha": 0.6}, r"alpha must be a number in \(0, 0.5\]"),
        ({"batch": 0}, "batch must be a whole number of at least 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], words: str) -> None:
    """The legal range is named."""
    with pytest.raises(InvalidInput, match=words):
        AdaptiveSelfConsistency(**settings)  # type: ignore[arg-type]


def test_a_server_is_told_to_stop() -> None:
    """Over HTTP the connection is closed, which makes a real server abort the request."""
    reply = Reply(hold_after=9)
    with (
        ScriptedServer([SEVEN], first=[reply]) as server,
        ServerEngine(server.base_url) as engine,
    ):
        outcome = AdaptiveSelfConsistency(n=16).run(engine, "q")
        (post,) = server.posts
        assert post.disconnected.wait(10)

    assert (outcome.answer, outcome.spent.cancelled) == ("7", 7)


@pytest.mark.engine
def test_vllm_is_told_to_stop(engine: LocalEngine) -> None:
    """On the real engine the long samples are aborted, and the engine is free afterwards."""
    lines = ("Red, blue", "Green", "Yellow, black, white, pink, grey", "Brown, red, green")
    raw = Prompt.raw("".join(f"{line}: \\boxed{{7}}\n" for line in lines))  # of any length
    sampler = Sampler(temperature=0.9, max_tokens=120, stop=("}",), include_stop=True)

    outcome = AdaptiveSelfConsistency(n=24, sampler=sampler, alpha=0.5).run(engine, raw, seed=2)

    assert outcome.spent.samples + outcome.spent.cancelled == 24
    assert outcome.spent.cancelled > 0
    assert engine.draw("Hello", 1, Sampler(max_tokens=2)).candidates
