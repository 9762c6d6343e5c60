"""Selectors: majority, weighted vote and argmax."""

from __future__ import annotations

import math

import pytest

from ttscale.answers import Answer, extract_answer
from ttscale.strategies.select import Selection, argmax, best_member, majority, weighted_vote
from ttscale.testing import candidate
from ttscale.types import Candidate


def pool(*texts: str) -> tuple[list[Candidate], list[Answer | None]]:
    """Candidates with these texts and what each of them states."""
    return (
        [candidate(text, index=i) for i, text in enumerate(texts)],
        [extract_answer(text) for text in texts],
    )


SEVEN, ALSO_SEVEN, NINE, MUTE = r"\boxed{7}", r"So \boxed{7}", r"\boxed{9}", "Hmm."


def test_majority_wins() -> None:
    """The most frequent answer wins, with its lead as a share of the votes."""
    picked = majority(*pool(NINE, SEVEN, ALSO_SEVEN, MUTE))

    assert (picked.place, picked.answer, picked.tie) == (1, "7", False)
    assert picked.margin == pytest.approx(1 / 3)


def test_majority_of_one_answer_leads_by_everything() -> None:
    """When all agree the margin is 1."""
    assert majority(*pool(SEVEN, ALSO_SEVEN)).margin == 1.0


def test_majority_picks_the_likeliest_member() -> None:
    """Of the winning answer's samples the one with the best mean log-probability is picked."""
    texts = [SEVEN, ALSO_SEVEN, r"Thus \boxed{7}"]
    logprobs = [None, -4.0, -1.0]
    candidates = [
        candidate(text, index=i, logprob=logprob, token_count=2)
        for i, (text, logprob) in enumerate(zip(texts, logprobs, strict=True))
    ]

    assert majority(candidates, [extract_answer(text) for text in texts]).place == 2


def test_majority_reports_a_tie() -> None:
    """A tie is told, has no margin, and is broken the same way every time."""
    picked = majority(*pool(SEVEN, NINE), seed=8)

    assert picked.tie
    assert picked.margin == 0.0
    assert picked == majority(*pool(SEVEN, NINE), seed=8)


@pytest.mark.parametrize("texts", [(), (MUTE,), (MUTE, "Well.")])
def test_majority_of_nothing(texts: tuple[str, ...]) -> None:
    """Without an answer nobody is selected."""
    assert majority(*pool(*texts)) == Selection()


def test_weighted_vote_sums_scores() -> None:
    """Two fair samples outweigh one good sample; the better of the two is picked."""
    picked = weighted_vote(*pool(NINE, SEVEN, ALSO_SEVEN), [0.9, 0.5, 0.6], low=0, high=1)

    assert (picked.place, picked.answer) == (2, "7")
    assert picked.margin == pytest.approx(0.2 / 2.0)


def test_weighted_vote_rescales_the_range() -> None:
    """A score at the low end of the range weighs nothing, however large it is."""
    picked = weighted_vote(*pool(NINE, SEVEN, ALSO_SEVEN), [8.0, 5.0, 5.5], low=5, high=10)

    assert [v.answer for v in picked.votes] == ["9", "7"]
    assert [v.weight for v in picked.votes] == pytest.approx([0.6, 0.1])
    assert picked.place == 0


def test_weighted_vote_without_scores_selects_nobody() -> None:
    """When the verifier scored nothing the votes are listed and nobody wins."""
    picked = weighted_vote(*pool(SEVEN, NINE), [None, None], low=0, high=1)

    assert (picked.place, picked.answer, picked.margin) == (None, None, 0.0)
    assert len(picked.votes) == 2


def test_weighted_vote_of_worst_scores_still_beats_no_score() -> None:
    """An answer scored 0 wins over one without a score, and leads by nothing."""
    picked = weighted_vote(*pool(NINE, SEVEN, ALSO_SEVEN), [0.0, None, None], low=0, high=1)

    assert (picked.answer, picked.margin, picked.tie) == ("9", 0.0, False)


def test_score_of_a_mute_sample_is_not_a_vote() -> None:
    """A high score of a sample without an answer moves no vote."""
    picked = weighted_vote(*pool(MUTE, NINE), [1.0, 0.1], low=0, high=1)

    assert (picked.place, picked.margin) == (1, 1.0)


def test_argmax_takes_the_best_score() -> None:
    """The best-scored candidate wins by its lead over the best other answer."""
    picked = argmax(*pool(SEVEN, NINE, ALSO_SEVEN), [0.7, 0.2, 0.6])

    assert (picked.place, picked.answer, picked.tie) == (0, "7", False)
    assert picked.margin == pytest.approx(0.5)
    assert [(v.answer, v.weight) for v in picked.votes] == [("7", 0.7), ("9", 0.2)]


def test_argmax_ignores_candidates_without_a_score() -> None:
    """A candidate without a score cannot win, not even over the worst score."""
    picked = argmax(*pool(SEVEN, NINE), [None, -100.0])

    assert (picked.place, picked.margin) == (1, 0.0)


def test_argmax_can_pick_a_sample_without_an_answer() -> None:
    """The best sample wins also when it states no answer, and then there is none."""
    picked = argmax(*pool(SEVEN, MUTE), [0.1, 0.9])

    assert (picked.place, picked.answer) == (1, None)


def test_argmax_of_no_scores_selects_nobody() -> None:
    """Without any score nobody wins."""
    assert argmax(*pool(SEVEN, NINE), [None, None]).place is None


def test_argmax_reports_a_tie_of_different_answers() -> None:
    """Equal best scores of two answers are a tie; which one wins is the first in the votes."""
    for seed in range(10):
        picked = argmax(*pool(SEVEN, NINE), [0.5, 0.5], seed)

        assert (picked.tie, picked.margin) == (True, 0.0)
        assert picked.answer == picked.votes[0].answer


def test_argmax_calls_equal_samples_of_one_answer_no_tie() -> None:
    """Two samples of one answer with equal scores are no tie; the likelier is picked."""
    candidates = [candidate(SEVEN, logprob=-9.0), candidate(ALSO_SEVEN, index=1, logprob=-1.0)]

    picked = argmax(candidates, [extract_answer(c.text) for c in candidates], [0.5, 0.5])

    assert (picked.place, picked.tie) == (1, False)


def test_best_member_puts_unknown_and_nan_last() -> None:
    """A log-probability that is unknown or no number never beats a known one."""
    candidates = [
        candidate("a", index=0, logprob=math.nan),
        candidate("b", index=1),
        candidate("c", index=2, logprob=-50.0),
    ]

    assert best_member([0, 1, 2], candidates, [None] * 3) == 2
    assert best_member([0, 1], candidates, [None] * 3) == 0
