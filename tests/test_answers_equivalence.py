"""Which answers mean the same, and that classes are classes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttscale.answers import Answer, classes, equivalent, extract_answer

SAME = [
    ("1/2", r"\frac12"),
    ("0.5", r"\frac{1}{2}"),
    ("1,234", "1234.0"),
    (r"12{,}345", "12345"),
    (r"3\frac{1}{2}", "3.5"),
    (r"0.\overline{3}", "1/3"),
    (r"1.5\times 10^3", "1500"),
    ("50%", "50"),
    ("10 cm", r"10\ \text{centimeters}"),
    ("10 cm", "10"),
    (r"5\text{ ft}^2", "5 square feet"),
    ("12 apples", "12"),
    ("C", "(C)"),
    (r"\text{Monday}", "monday"),
    (r"x=3\text{ or }x=5", r"\{5, 3\}"),
    ("3, 5", "5 and 3"),
    (r"5\pm\sqrt3", r"5+\sqrt{3}, 5-\sqrt3"),
    ("(3,4)", r"\left(3, \frac{8}{2}\right)"),
    ("[1,2)", r"[1, \frac42)"),
    (r"(5,\infty)\cup(-\infty,3]", r"(-\infty,3]\cup(5,\infty)"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "[[1,2],[3,4.0]]"),
    ("x = 5", "5"),
]
SAME_FORMULAS = [
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt2}"),
    ("x+1", "1+x"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\binom{5}{2}", "10"),
    ("2^{10}", "1024"),
    (r"\log_2 8", "3"),
    ("y=2x", "2y=4x"),
    ("x>3", "3<x"),
    ("sqrt(8)", "2*sqrt(2)"),
    (r"(\sqrt{4}, 1)", "(2, 1)"),
]
DIFFERENT = [
    ("0.333", "1/3"),
    ("50%", "0.5"),
    ("10 cm", "10 m"),
    ("1/2", "12"),
    ("-5", "5"),
    ("(3,4)", "34"),
    ("(3,4)", "(4,3)"),
    ("[1,2)", "[1,2]"),
    ("[1,2]", "(1,2)"),
    ("A", "B"),
    ("x", "X"),
    ("x=3, y=5", "x=5, y=3"),
    ("", "0"),
]
DIFFERENT_FORMULAS = [
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    ("2^{99}+1", "2^{99}"),
    (r"\pm 2021", "2021"),
    ("y=x+1", "y=x+2"),
    ("x=2y=3", "y=2x=3"),
    ("x>3", r"x\ge 3"),
    ("x>3", "x<3"),
    ("x^2", "x2"),
    (r"2\pi", "6.283185307"),
    ("x+1", "x+1.0000001"),
    ("x+1", "y+1"),
]


@pytest.mark.parametrize(("a", "b"), SAME + SAME_FORMULAS)
def test_same_answers_are_equivalent(a: str, b: str) -> None:
    """Spelling, order of a set and a missing unit make no other answer; nor does direction."""
    assert equivalent(a, b)
    assert equivalent(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT + DIFFERENT_FORMULAS)
def test_different_answers_are_not_equivalent(a: str, b: str) -> None:
    """Among them the known false positives of math-verify; in both directions."""
    assert not equivalent(a, b)
    assert not equivalent(b, a)


@pytest.mark.parametrize("text", sorted({t for pair in SAME + DIFFERENT for t in pair}))
def test_equivalence_is_reflexive_and_survives_extraction(text: str) -> None:
    """An answer equals itself, as written and as extracted from a box."""
    assert equivalent(text, text)
    answer = extract_answer(f"so \\boxed{{{text}}}")
    assert answer is None or (equivalent(answer, text) and equivalent(answer, answer))


def _boxed(*texts: str) -> list[Answer]:
    found = [extract_answer(f"\\boxed{{{text}}}") for text in texts]
    return [answer for answer in found if answer is not None]


def test_classes_group_indices_by_first_member() -> None:
    """Classes come in the order of their first member, members ascending."""
    assert classes(_boxed("7", r"\frac12", "7.0", "x+1", "0.5", "1+x")) == ((0, 2), (1, 4), (3, 5))


def test_no_answers_make_no_classes() -> None:
    """An empty vote is an empty partition."""
    assert classes([]) == ()


def test_one_unit_takes_in_answers_without_unit() -> None:
    """Some samples write the unit and some do not; they agree."""
    assert classes(_boxed("10", r"10\text{ cm}", "10")) == ((0, 1, 2),)


def test_two_units_are_kept_apart() -> None:
    """An answer without unit does not tie 10 cm to 10 m."""
    assert classes(_boxed(r"10\text{ cm}", "10", r"10\text{ m}")) == ((0,), (1,), (2,))


def test_words_are_never_read_as_mathematics() -> None:
    """An answer extracted as text stays text."""
    words = Answer("1/2", "text", (0, 3), "1/2")
    assert not equivalent(words, "0.5")


POOL = _boxed(
    "7", "7.0", "14/2", r"\frac12", "0.5", "50\\%", "50", r"50\text{ cm}", "C", "x+1", "1+x",
    r"\sqrt{12}", r"2\sqrt{3}", "(1,2)", "[1,2]", r"\{2,1\}", "1,2", r"\pm 3", r"\text{yes}", "y=x",
)  # fmt: skip


@given(st.lists(st.sampled_from(POOL), max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_classes_do_not_depend_on_order(answers: list[Answer], rng: random.Random) -> None:
    """Any permutation of the votes leads to the same partition."""
    order = list(range(len(answers)))
    rng.shuffle(order)
    shuffled = classes([answers[i] for i in order])
    back = {frozenset(order[i] for i in members) for members in shuffled}
    assert back == {frozenset(members) for members in classes(answers)}


@given(st.lists(st.sampled_from(POOL), max_size=12))
@settings(max_examples=100, deadline=None)
def test_classes_are_a_partition(answers: list[Answer]) -> None:
    """Every answer is in exactly one class."""
    members = [i for group in classes(answers) for i in group]
    assert sorted(members) == list(range(len(answers)))


@given(st.sampled_from(POOL), st.sampled_from(POOL))
@settings(max_examples=150, deadline=None)
def test_equivalence_is_symmetric(a: Answer, b: Answer) -> None:
    """What is compared with what does not matter."""
    assert equivalent(a, b) == equivalent(b, a)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_numbers_compare_exactly(a: object, b: object) -> None:
    """Two fractions are equivalent if and only if they are equal."""
    assert equivalent(str(a), str(b)) == (a == b)


def test_large_sets_are_compared_as_written() -> None:
    """A set of many formulas cannot cost a judgement per pair."""
    members = [f"x+{i}" for i in range(40)]
    assert equivalent(", ".join(members), ", ".join(reversed(members)))
    assert not equivalent(", ".join(members), ", ".join([*members[1:], "x+41"]))
