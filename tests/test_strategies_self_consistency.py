"""Self-consistency beyond the laws."""

from __future__ import annotations

from ttscale.sampling import Sampler
from ttscale.strategies import SelfConsistency, Vote
from ttscale.testing import ScriptedEngine, candidate


def test_votes_are_listed_best_first() -> None:
    """Every answer is listed with its count and the places of its samples."""
    texts = [r"\boxed{9}", r"\boxed{7}", "Hmm.", r"It is \boxed{7}"]

    outcome = SelfConsistency(n=4).run(ScriptedEngine(texts), "q")

    assert outcome.votes == (Vote("7", 2, 2.0, (1, 3)), Vote("9", 1, 1.0, (0,)))
    assert [a and a.value for a in outcome.answers] == ["9", "7", None, "7"]
    assert outcome.scores == ()


def test_cut_off_sample_votes_if_it_states_an_answer() -> None:
    """A sample that was cut off after its answer votes, one cut off before does not."""
    after = candidate(r"\boxed{7}. To check this we", finish_reason="length")
    before = candidate(r"So we write \boxed{9", finish_reason="length")

    outcome = SelfConsistency(n=2).run(ScriptedEngine([after, before]), "q")

    assert outcome.votes == (Vote("7", 1, 1.0, (0,)),)
    assert outcome.truncated == 2


def test_tie_is_reported() -> None:
    """A tie is flagged with margin 0, and the same seed breaks it the same way."""
    texts = [rf"\boxed{{{i}}}" for i in range(4)]

    winners = {
        seed: SelfConsistency(n=4).run(ScriptedEngine(texts), "q", seed=seed) for seed in range(12)
    }

    assert all(outcome.tie and outcome.margin == 0.0 for outcome in winners.values())
    assert len({outcome.answer for outcome in winners.values()}) > 1


def test_ties_follow_the_sampler_seed_without_a_run_seed() -> None:
    """The sampler's seed breaks ties when the run has none."""
    texts = [rf"\boxed{{{i}}}" for i in range(4)]

    for seed in range(6):
        by_run = SelfConsistency(n=4).run(ScriptedEngine(texts), "q", seed=seed)
        by_sampler = SelfConsistency(n=4, sampler=Sampler(seed=seed)).run(
            ScriptedEngine(texts), "q"
        )
        assert by_run.answer == by_sampler.answer


def test_kind_decides_what_is_an_answer() -> None:
    """The kind is handed to the extraction: a plain sentence holds a number, not a choice."""
    engine = ScriptedEngine(["The answer is 12."])

    assert SelfConsistency(n=1, kind="number").run(engine, "q").answer == "12"
    assert SelfConsistency(n=1, kind="choice").run(engine, "q").answer is None
