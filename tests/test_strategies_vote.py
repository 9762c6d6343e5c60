"""The vote layer: classes, weights and lots."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscale.answers import Answer, extract_answer
from ttscale.strategies.vote import Vote, draw_lot, tally


def boxed(*values: str | None) -> list[Answer | None]:
    """The answers that samples with these boxed values state; None for a sample without."""
    return [None if v is None else extract_answer(rf"So \boxed{{{v}}}.") for v in values]


def test_equivalent_answers_are_one_class() -> None:
    """Two spellings of a number vote together."""
    count = tally(boxed("7", "9", "7.0", "7"), [1.0] * 4, seed=0)

    assert count.votes == (Vote("7", 3, 3.0, (0, 2, 3)), Vote("9", 1, 1.0, (1,)))
    assert (count.decided, count.tie, count.lead) == (True, False, 2.0)


def test_class_is_spelled_as_most_members_spell_it() -> None:
    """Of two spellings the more frequent names the class, else the first in the alphabet."""
    most = tally(boxed("0.5", "1/2", r"\frac{1}{2}"), [1.0] * 3, seed=0)
    even = tally(boxed("1/2", "0.5"), [1.0] * 2, seed=0)

    assert [(vote.answer, vote.count) for vote in most.votes] == [("1/2", 3)]
    assert [(vote.answer, vote.count) for vote in even.votes] == [("0.5", 2)]


def test_abstentions_do_not_vote() -> None:
    """Three samples without an answer do not outvote one with an answer."""
    count = tally(boxed(None, None, "4", None), [1.0] * 4, seed=0)

    assert count.votes == (Vote("4", 1, 1.0, (2,)),)
    assert count.lead is None


def test_nobody_votes() -> None:
    """Without any answer nothing is decided."""
    count = tally(boxed(None, None), [1.0, 1.0], seed=0)

    assert (count.votes, count.decided, count.tie, count.lead) == ((), False, False, None)


def test_class_without_a_weight_comes_last() -> None:
    """An answer of unknown weight ranks behind one of weight 0, and behind a negative one."""
    count = tally(boxed("1", "1", "2"), [None, None, -3.0], seed=0, pool=max)

    assert [(vote.answer, vote.weight) for vote in count.votes] == [("2", -3.0), ("1", 0.0)]
    assert (count.decided, count.tie, count.lead) == (True, False, None)


def test_no_weights_decide_nothing() -> None:
    """When no member of any class has a weight the votes are listed and nobody wins."""
    count = tally(boxed("1", "2"), [None, None], seed=0)

    assert len(count.votes) == 2
    assert not count.decided


def test_member_without_a_weight_adds_none() -> None:
    """A member of unknown weight counts, and the others' weights stand."""
    count = tally(boxed("1", "1"), [0.5, None], seed=0)

    assert count.votes == (Vote("1", 2, 0.5, (0, 1)),)


def test_sums_that_differ_by_rounding_tie() -> None:
    """0.1 + 0.2 and 0.3 are the same weight."""
    count = tally(boxed("1", "1", "2"), [0.1, 0.2, 0.3], seed=0)

    assert count.tie


def test_ties_are_broken_by_the_seed() -> None:
    """Among equal answers every one wins under some seed, and always under that one."""
    answers = boxed("1", "2", "3")

    winners = [tally(answers, [1.0] * 3, seed).votes[0].answer for seed in range(30)]

    assert set(winners) == {"1", "2", "3"}
    assert winners == [tally(answers, [1.0] * 3, seed).votes[0].answer for seed in range(30)]


@settings(deadline=None, max_examples=40)
@given(st.permutations([("1", 0.1), ("1", 0.7), ("2", 0.8), ("3", 0.2), (None, 0.9)]))
def test_order_of_candidates_does_not_matter(order: list[tuple[str | None, float]]) -> None:
    """Votes are the same, ties included, in whatever order the candidates come."""
    count = tally(boxed(*(v for v, _ in order)), [w for _, w in order], seed=3)

    winner = min(["1", "2"], key=lambda answer: draw_lot(3, answer))
    assert [vote.answer for vote in count.votes] == [winner, *({"1", "2"} - {winner}), "3"]
    assert count.tie


@pytest.mark.parametrize("label", ["", "7", "\ud800", "x" * 10_000])
def test_any_text_can_draw_a_lot(label: str) -> None:
    """Lots of every text exist, also of a lone surrogate, and depend on the seed."""
    assert draw_lot(1, label) == draw_lot(1, label) != draw_lot(2, label)
