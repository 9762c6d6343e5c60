"""Strategies that act on judgements: tournament, refinement, tree search; and whole-text votes."""

from __future__ import annotations

import sys

import pytest

from ttscale.errors import InvalidInput, MissingDependency
from ttscale.strategies import (
    ComparingJudge,
    ConfidenceVote,
    Medoid,
    Refine,
    SelfConsistency,
    Tournament,
    TreeSearch,
    WeightedVote,
    chain,
    fallback,
    make,
)
from ttscale.strategies.comparing import letter_shares
from ttscale.strategies.medoid import shared_words
from ttscale.testing import Scripted, ScriptedEngine, candidate
from ttscale.types import Prompt
from ttscale.verifiers import CallableVerifier

NINE = CallableVerifier(lambda question, text: 0.95 if "9" in text else 0.3)
DIGITS = [rf"It is \boxed{{{digit}}}." for digit in (6, 6, 8, 9)]


def judged_by(likes: str) -> ScriptedEngine:
    """Deals the digits; the judge likes the digit, or with `A` always the first solution."""

    def script(prompt: Prompt, index: int) -> Scripted:
        if "Which solution is the best?" not in prompt.question:
            return DIGITS[index % len(DIGITS)]
        parts = prompt.question.split("Solution ")[1:]
        liked = [i == 0 if likes == "A" else likes in part for i, part in enumerate(parts)]
        logprobs = [-0.1 if like else -4.0 for like in liked]
        return candidate("A", top_logprobs=dict(zip("ABCDEFGHI", logprobs, strict=False)))

    return ScriptedEngine(script)


@pytest.mark.parametrize("settings", [{}, {"group": 3}, {"rule": "round-robin"}])
def test_the_judges_favourite_wins(settings: dict[str, object]) -> None:
    """Against the majority, by pairs, by lists, and when all meet all."""
    outcome = Tournament(n=4, **settings).run(judged_by("9"), "q")  # type: ignore[arg-type]

    assert outcome.answer == "9"
    assert outcome.notes["order_flips"] == 0.0


def test_a_judge_that_goes_by_the_place_decides_nothing() -> None:
    """Its favourite changes with the order in every match, so the votes decide; it is reported."""
    outcome = Tournament(n=4).run(judged_by("A"), "q")

    assert outcome.answer == "6"
    assert outcome.notes["order_flips"] == 1.0


def test_agreement_is_not_judged() -> None:
    """Two equivalent answers never meet: three classes are two matches, each in both orders."""
    engine = judged_by("9")

    outcome = Tournament(n=4).run(engine, "q")

    assert outcome.spent.judge == len(engine.calls) - 1 == 4
    assert outcome.notes["matches"] == 2.0


def test_a_silent_judge_leaves_it_to_the_votes() -> None:
    """When the judge names no letter the answer with the most votes goes on."""
    outcome = Tournament(n=4).run(ScriptedEngine(DIGITS), "q")

    assert outcome.answer == "6"


def test_letters_are_read_in_any_spelling() -> None:
    """Leading spaces of vocabularies do not count, other words neither."""
    assert letter_shares({" A": -1.0, "ĠA": -1.0, "B": -1.0, "The": -0.1, "C": -0.1}, 2) == (
        pytest.approx([2 / 3, 1 / 3])
    )


def test_refinement_shows_the_attempt_and_stops_when_good() -> None:
    """The second draw reads the first attempt and its score; a good one ends it."""

    def script(prompt: Prompt, index: int) -> Scripted:
        return r"\boxed{9}" if len(prompt.messages) > 1 else r"\boxed{8}"

    engine = ScriptedEngine(script)
    outcome = Refine(NINE, n=5).run(engine, "What is 4 + 5?")

    turns = engine.calls[1].prompt.messages
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
    assert "0.30 on a scale from 0 to 1" in turns[2].content
    assert (outcome.answer, outcome.requested) == ("9", 2)


def test_feedback_is_the_callers() -> None:
    """The function is told the question, the attempt and the score; raw prompts take it too."""
    seen: list[tuple[str, str, float | None]] = []

    def feedback(question: str, text: str, score: float | None) -> str:
        seen.append((question, text, score))
        return "Try once more."

    engine = ScriptedEngine(["8"])
    Refine(NINE, n=2, feedback=feedback).run(engine, Prompt.raw("4 + 5 ="))

    assert set(seen) == {("4 + 5 =", "8", 0.3)}
    assert engine.calls[1].prompt.text == "4 + 5 =8\n\nTry once more.\n\n"


def test_the_best_attempt_wins_though_a_worse_one_came_later() -> None:
    """Refinement keeps the best of what it has seen."""
    scores = CallableVerifier(lambda question, text: 0.7 if "8" in text else 0.1)

    def script(prompt: Prompt, index: int) -> Scripted:
        return "8" if len(prompt.messages) == 1 else "3"

    assert Refine(scores, n=3).run(ScriptedEngine(script), "q").answer == "8"


def test_the_tree_grows_deeper_and_wider() -> None:
    """Some samples are fresh attempts and some revise old ones; the best-scored answer wins."""
    engine = ScriptedEngine(lambda prompt, index: str(7 + len(prompt.messages) // 2))

    outcome = TreeSearch(NINE, n=12).run(engine, "q", seed=0)

    lengths = {len(call.prompt.messages) for call in engine.calls}
    assert 1 in lengths
    assert max(lengths) > 1
    assert outcome.spent.samples == 12


def test_the_tree_leaves_numpys_dice_alone() -> None:
    """The search draws from a seeded copy of numpy's global generator."""
    import numpy as np

    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    TreeSearch(NINE, n=3).run(ScriptedEngine(["8"]), "q", seed=0)

    assert np.random.random() == expected


def test_without_treequest_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said when the strategy is made."""
    monkeypatch.setitem(sys.modules, "treequest", None)

    with pytest.raises(MissingDependency, match=r"ttscale\[tree\]"):
        TreeSearch(NINE)


def test_the_medoid_is_most_like_the_others() -> None:
    """Of three alike texts and a stranger, the middle one wins; thinking does not count."""
    texts = ["a b c d", "<think>x y z</think>a b c", "a b c e", "p q r s"]

    outcome = Medoid(n=4).run(ScriptedEngine(texts), "q")

    assert outcome.answer == "a b c"


def test_clusters_vote() -> None:
    """With a threshold the larger cluster wins; its size is the vote."""
    texts = ["the sea is blue", "blue is the sea", "my cat sleeps", "the sea was blue", "my cat"]

    outcome = Medoid(n=5, threshold=0.5).run(ScriptedEngine(texts), "q")

    assert [vote.count for vote in outcome.votes] == [3, 2]
    assert outcome.margin == pytest.approx(0.2)


def test_a_similarity_out_of_range_is_refused() -> None:
    """Numbers outside 0 to 1 would rank nothing."""
    with pytest.raises(InvalidInput, match=r"similarity\(a, b\) must be a number in \[0, 1\]"):
        Medoid(n=2, similarity=lambda a, b: 2.0).run(ScriptedEngine(["a", "b"]), "q")


def test_shared_words_know_no_case_and_no_order() -> None:
    """Jaccard over words; two texts without words are alike."""
    assert shared_words("The sea", "sea, the") == 1.0
    assert shared_words("a b", "b c") == pytest.approx(1 / 3)
    assert shared_words("...", "!") == 1.0


def test_only_confident_samples_vote() -> None:
    """Two sure samples outvote three unsure ones when half are kept."""
    sure = [candidate(r"\boxed{7}", confidences=[9.0, 1.0, 8.0]) for _ in range(2)]
    unsure = [candidate(r"\boxed{8}", confidences=[3.0, 0.5, 2.0]) for _ in range(3)]
    engine = ScriptedEngine([*sure, *unsure])

    outcome = ConfidenceVote(n=5, keep=0.4, window=2).run(engine, "q")

    assert (outcome.answer, outcome.notes["kept"]) == ("7", 2.0)
    assert engine.calls[0].sampler.token_logprobs == 20
    assert outcome.scores[0].value == pytest.approx(4.5)  # the lowest mean of two in a row


def test_weights_beat_numbers() -> None:
    """One likely sample outweighs two unlikely ones."""
    likely = candidate(r"\boxed{7}", token_count=1, logprob=-0.1)
    unlikely = candidate(r"\boxed{8}", token_count=1, logprob=-3.0)

    assert WeightedVote(n=3).run(ScriptedEngine([unlikely, likely, unlikely]), "q").answer == "7"


def test_fallback_runs_the_next_when_one_abstains() -> None:
    """The second strategy is asked only when the first has no answer; all is paid for."""
    mute = ScriptedEngine(lambda prompt, index: "Hmm." if index == 0 else r"\boxed{7}")
    sure = ScriptedEngine([r"\boxed{7}"])
    strategy = fallback(SelfConsistency(1), SelfConsistency(2))

    second, first = strategy.run(mute, "q"), strategy.run(sure, "q")

    assert (second.answer, second.requested, second.notes["ran"]) == ("7", 3, 2.0)
    assert (first.answer, first.requested, first.notes["ran"]) == ("7", 1, 1.0)


def test_a_chain_pools_its_votes() -> None:
    """A close vote is decided with the samples of the next strategy; a clear one is not."""
    close = ScriptedEngine([r"\boxed{7}", r"\boxed{8}", r"\boxed{7}"])
    strategy = chain(SelfConsistency(2), SelfConsistency(3), margin=0.5)

    outcome = strategy.run(close, "q")

    assert [(vote.answer, vote.count) for vote in outcome.votes] == [("7", 3), ("8", 2)]
    assert [c.index for c in outcome.candidates] == [0, 1, 2, 3, 4]
    assert strategy.run(ScriptedEngine(["7"]), "q").requested == 2


def test_one_strategy_is_no_chain() -> None:
    """Fewer than two, or something else, is refused."""
    with pytest.raises(InvalidInput, match="at least two strategies"):
        fallback(SelfConsistency())
    with pytest.raises(InvalidInput, match="must be strategies"):
        chain(SelfConsistency(), ComparingJudge())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("poll", {}, "strategy must be one of"),
        ("refine", {}, "needs a verifier"),
        ("medoid", {"verifier": NINE}, "uses no verifier"),
        ("best-of-n", {"batch": 3}, "has no setting 'batch'; it has kind, n, sampler, verifier"),
        ("weighted-vote", {"weight": "verifier"}, "a verifier go together"),
    ],
)
def test_names_and_settings_are_checked(name: str, settings: dict[str, object], words: str) -> None:
    """What cannot be made is refused with what can."""
    with pytest.raises(InvalidInput, match=words):
        make(name, 2, **settings)  # type: ignore[arg-type]
