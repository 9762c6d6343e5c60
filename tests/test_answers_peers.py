"""What other toolkits are known to get wrong, case by case, and the policies for units."""

from __future__ import annotations

import pytest

from ttscale.answers import Answer, equivalent, extract_answer


def found(text: str, kind: str = "auto") -> Answer | None:
    """Shorthand."""
    return extract_answer(text, kind)


# (text, value, unit); no value: abstain. Known wrong readings of others stand behind each.
CASES: list[tuple[str, str | None, str | None]] = [
    (r"\boxed{\frac{1}{2}}", "1/2", None),  # \frac{1
    (r"\boxed{\frac12}", "1/2", None),  # nothing, or \frac12 as another answer than 1/2
    (r"\boxed{12{,}345}", "12345", None),  # 12{,
    (r"\boxed{(3,4)}", "(3, 4)", None),  # 34
    (r"\boxed{50\%}", "50", "%"),  # 50\% as text; 0.5
    (r"\boxed{10\ \text{cm}^2}", "10", "cm^2"),  # 10**2
    (r"\boxed{5\text{ feet }6\text{ inches}}", "5 feet 6 inches", None),  # 5
    (r"\boxed{x=3\text{ or }x=5}", "{3, 5}", None),  # x=3x=5
    (r"\boxed{a+1}", "a+1", None),  # +1
    (r"\boxed{m^2+t}", "m^2+t", None),  # ^2+
    (r"\boxed{\textbf{C}}", "C", None),  # \textbf{C}
    (r"I first thought \boxed{1}. It is \boxed{99}.", "99", None),  # 1
    (r"and so \boxed{7", None, None),  # 7
    ("The final answer is **73**", "73", None),  # nothing
    ("#### 1,234", "1234", None),  # 234
    ("The answer is 1,234 and 5", "{5, 1234}", None),  # 1,2345
    ("A train takes 3 stops. In all, the total is 180 miles.", "180", None),  # A
    ("<think>It is \\boxed{3}.</think>The answer is 4.", "4", None),  # 3
    (r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", "[[1], [2]]", None),  # nothing
    (r"\boxed{\binom{5}{2}}", r"\binom{5}{2}", None),  # nothing
    (r"\boxed{0.\overline{3}}", "1/3", None),  # nothing
    (r"\boxed{5\pm\sqrt3}", r"{5+\sqrt{3}, 5-\sqrt{3}}", None),  # nothing
    (r"\boxed{\sqrt2}", r"\sqrt{2}", None),  # nothing
    (r"\fbox{7}", "7", None),  # nothing
    (r"\boxed 7", "7", None),  # nothing
    (r"\boxed{\text{13}}", "13", None),  # text
    ("The answer is 3.14.", "3.14", None),  # 14
    ("maybe 3. Final answer: 8", "8", None),  # maybe 3
    ("<answer>\\frac12</answer>", "1/2", None),
    ("<answer>5</answer> or rather <answer>7</answer>", "7", None),
    ("<answer>I would say that it is the number 7.</answer>", "7", None),
    ("Answer: no", "no", None),  # nothing, while yes counts
    ("The answer is yes.", "yes", None),
    ("The answer is no more than 5.", None, None),
    (r"\boxed{5} \boxed{\text{your answer}}", "5", None),
]


@pytest.mark.parametrize(("text", "value", "unit"), CASES)
def test_known_stumbling_blocks_are_read(text: str, value: str | None, unit: str | None) -> None:
    """Every row of the table is read as what it means, or not at all."""
    answer = found(text)

    assert (answer.value if answer else None) == value
    assert (answer.unit if answer else None) == unit


@pytest.mark.parametrize("letter", "ABCDEFGHIJ")
def test_options_beyond_d_are_options(letter: str) -> None:
    """Ten options are common."""
    for text in (
        f"The answer is ({letter}).",
        f"Answer: {letter}",
        f"\\boxed{{\\text{{{letter}}}}}",
    ):
        answer = found(text, "choice")
        assert answer is not None
        assert answer.value == letter


DIFFERENT = [
    ("-5", "5"),
    ("1/2", "12"),
    ("0.5", "05"),
    ("(3,4)", "34"),
    ("x^2", "x2"),
    ("10000", "10001"),
    ("50", "0.5"),
    ("50", "5000"),
    ("3", "3.0002"),
    ("x", "X"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    (r"\pm 2021", "2021"),
    ("y=x+1", "y=x+2"),
    ("(1,2)", "(2,1)"),
    ("50%", "0.5"),
    ("1 m", "100 cm"),
    ("1 hour", "60 minutes"),
    ("$5", "5 cents"),
    ("10 cm", "10 cm^2"),
]
SAME = [
    ("2x+1", "1+2x"),
    ("{1,2}", "{2,1}"),
    (r"\frac12", "0.5"),
    (r"\text{13}", "13"),
    ("50%", "50"),
    ("50%", r"50\%"),
    ("50 percent", "50%"),
    ("10 cm", "10"),
    ("10 cm^2", "10 square centimeters"),
    ("5 mph", "5 miles per hour"),
    ("$5", "5 dollars"),
    ("12 apples", "12"),
    ("90°", "90 degrees"),
]


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_known_false_positives_differ(a: str, b: str) -> None:
    """In both directions; units are not converted, and a percentage is no share."""
    assert not equivalent(a, b)
    assert not equivalent(b, a)


@pytest.mark.parametrize(("a", "b"), SAME)
def test_known_false_negatives_agree(a: str, b: str) -> None:
    """In both directions; a missing unit is no other unit."""
    assert equivalent(a, b)
    assert equivalent(b, a)


def test_unit_of_one_value_is_not_given_to_another() -> None:
    """`0.5 or 50%` are not two percentages; `5 or 6 cm` are two lengths."""
    mixed, lengths = found(r"\boxed{0.5\text{ or }50\%}"), found(r"\boxed{5\text{ or }6\text{ cm}}")

    assert mixed is not None
    assert (mixed.kind, mixed.unit) == ("text", None)
    assert lengths is not None
    assert (lengths.value, lengths.unit) == ("{5, 6}", "cm")
