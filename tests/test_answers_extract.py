"""What is taken out of a model's text, and when nothing is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from ttscale.answers import KINDS, Answer, extract_answer, strip_thinking
from ttscale.errors import InvalidInput

# (text, value, kind of the value, unit); no value: abstain.
MATRIX: list[tuple[str, str | None, str, str | None]] = [
    (r"\boxed{\frac{1}{2}}", "1/2", "number", None),
    (r"\boxed{\frac12}", "1/2", "number", None),
    (r"\boxed{\dfrac{2}{4}}", "1/2", "number", None),
    (r"\boxed{12{,}345}", "12345", "number", None),
    (r"\boxed{12\,345}", "12345", "number", None),
    (r"\boxed{(3,4)}", "(3, 4)", "tuple", None),
    (r"\boxed{50\%}", "50", "number", "%"),
    (r"\boxed{10\ \text{cm}^2}", "10", "number", "cm^2"),
    (r"\boxed{10\,\mathrm{cm}^{2}}", "10", "number", "cm^2"),
    (r"\boxed{60 \text{ miles per hour}}", "60", "number", "mi/h"),
    (r"\boxed{\$5.00}", "5", "number", "$"),
    (r"\boxed{90^\circ}", "90", "number", "°"),
    (r"\boxed{12\text{ apples}}", "12", "number", None),
    (r"\boxed{5\text{ feet }6\text{ inches}}", "5 feet 6 inches", "text", None),
    (r"\boxed{x=3\text{ or }x=5}", "{3, 5}", "set", None),
    (r"\boxed{x = 5}", "5", "number", None),
    (r"\boxed{x=3, y=5}", "{x=3, y=5}", "set", None),
    (r"\boxed{a+1}", "a+1", "expression", None),
    (r"\boxed{m^2+t}", "m^2+t", "expression", None),
    (r"\boxed{\textbf{C}}", "C", "choice", None),
    (r"\boxed{\textbf{(H)}\ 42}", "H", "choice", None),
    (r"First \boxed{1}, then \boxed{99}.", "99", "number", None),
    (r"\boxed{1} is wrong, so \boxed{7", None, "", None),
    (r"so we get \boxed{7", None, "", None),
    (r"\boxed{}", None, "", None),
    (r"Put it in \boxed{}. The answer is 4.", "4", "number", None),
    ("The final answer is **73**", "73", "number", None),
    ("**Answer:** 73", "73", "number", None),
    ("**73**", "73", "number", None),
    ("So there are **73** in all.", "73", "number", None),
    ("### Final Answer\n\n\\( 73 \\)", "73", "number", None),
    ("#### 1,234", "1234", "number", None),
    ("Some work.\n#### 1,234\n", "1234", "number", None),
    ("#### Step 2", None, "", None),
    ("The answer is 1,234 and 5", "{5, 1234}", "set", None),
    ("The answer is 7", "7", "number", None),
    ("Final answer: 8", "8", "number", None),
    ("maybe 3. Final answer: 8", "8", "number", None),
    ("The answer is 5 + 7 = 12 apples.", "12", "number", None),
    ("The answer is $x=3$ or $x=5$.", "{3, 5}", "set", None),
    ("The answer is 12, because 5 + 7 = 12.", "12", "number", None),
    ("The answer is not 5.", None, "", None),
    ("The answer is Paris.", "Paris", "text", None),
    ("The correct option is F.", "F", "choice", None),
    ("Answer: (c)", "C", "choice", None),
    ("A train leaves. In the end the total is 180 miles.", "180", "number", None),
    ("A train goes 60 mph for 3 h, so the total is 180 miles.", None, "", None),
    ("Do you mean 3?", None, "", None),
    ("Then 2x = 10.", None, "", None),
    ("I have 3 and 5 things.", None, "", None),
    ("Hello world.", None, "", None),
    ("", None, "", None),
    ("<think>\\boxed{3}</think>The answer is 8.", "8", "number", None),
    ("\\boxed{3}</think>The answer is 8.", "8", "number", None),
    ("<think>so \\boxed{3}", None, "", None),
    (r"\boxed{\begin{pmatrix}1&2\\3&\frac42\end{pmatrix}}", "[[1, 2], [3, 2]]", "matrix", None),
    (r"\boxed{\binom{5}{2}}", r"\binom{5}{2}", "expression", None),
    (r"\boxed{0.\overline{3}}", "1/3", "number", None),
    (r"\boxed{5\pm\sqrt3}", r"{5+\sqrt{3}, 5-\sqrt{3}}", "set", None),
    (r"\boxed{\sqrt2}", r"\sqrt{2}", "expression", None),
    (r"\fbox{7}", "7", "number", None),
    (r"\boxed 7", "7", "number", None),
    (r"\boxed{\boxed{7}}", "7", "number", None),
    (r"\boxed{\{5, 3, 5\}}", "{3, 5}", "set", None),
    (r"\boxed{[1,2)}", "[1, 2)", "interval", None),
    (r"\boxed{(-\infty,3]\cup(5,\infty)}", r"(-\infty, 3] \cup (5, \infty)", "interval", None),
    (r"\boxed{\text{Monday}}", "Monday", "text", None),
    (r"\boxed{3\frac{1}{2}}", "7/2", "number", None),
    (r"\boxed{1.5\times10^3}", "1500", "number", None),
    (r"\boxed{-0.50}", "-0.5", "number", None),
    (r"\boxed{7.0}", "7", "number", None),
    ("42", "42", "number", None),
    ("x=3 or x=5", "{3, 5}", "set", None),
]


@pytest.mark.parametrize(("text", "value", "kind", "unit"), MATRIX)
def test_auto_takes_the_certain_answer_or_abstains(
    text: str, value: str | None, kind: str, unit: str | None
) -> None:
    """Every way in which models are known to state an answer is read as what it means."""
    answer = extract_answer(text)
    if value is None:
        assert answer is None
    else:
        assert answer is not None
        assert (answer.value, answer.kind, answer.unit) == (value, kind, unit)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("So she has 12 apples left.", "12"),
        ("5 + 7 = 12\nSo 12 - 2 = 10 are left, as 2 were eaten.", "2"),
        ("She pays 3 and 5, in all $1,008.50.", "1008.5"),
        ("He sold 24 - 8 = <<24-8=16>>16 eggs.", "16"),
        (r"Thus, $\frac{1}{2}$.", "1/2"),
        (r"$3 \times 4 = 12$ and then $12 - 2 = 10$ apples.", "10"),
        ("The answer is 7. Question: what of 5 and 3?", "7"),
        ("It cools to -3 degrees.", "-3"),
        ("Step 1: add\nStep 2: stop", None),
        ("1. First add.\n2. Then stop.", None),
        ("5 * 3 =", None),
        ("5 *", None),
        ("x=3 or x=5", None),
        ("The answer is 1,234 and 5", None),
        ("It is 3:45 PM.", None),
        (r"\boxed{a+1} after 3 steps", None),
        ("no number here", None),
    ],
)
def test_number_falls_back_to_the_last_number(text: str, value: str | None) -> None:
    """Kind `number` reads unmarked solutions, and skips what only counts steps or is undone."""
    answer = extract_answer(text, "number")
    assert (answer.value if answer else None) == value


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is C.", "C"),
        ("answer: (d) because", "D"),
        ("**J**", "J"),
        ("B) Paris", "B"),
        (r"\boxed{\text{E}}", "E"),
        ("A train leaves the station.", None),
        ("The answer is a train.", None),
        ("The answer is 7.", None),
    ],
)
def test_choice_takes_letters_and_no_articles(text: str, letter: str | None) -> None:
    """Option letters go beyond D; the article of `A train` is none."""
    answer = extract_answer(text, "choice")
    assert (answer.value if answer else None) == letter


def test_math_reads_a_lone_letter_as_a_variable() -> None:
    """Kind `math` has no options to choose from."""
    answer = extract_answer(r"\boxed{C}", "math")
    assert answer is not None
    assert (answer.kind, answer.value) == ("expression", "C")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The capital.\nAnswer: New York City.", "New York City"),
        (r"\boxed{\text{New York}}", "New York"),
        ("A short reply.", "A short reply"),
        ("Two lines\nwithout a mark", None),
    ],
)
def test_text_takes_marked_words_or_one_short_line(text: str, words: str | None) -> None:
    """Kind `text` is for answers that are no mathematics."""
    answer = extract_answer(text, "text")
    assert (answer.value if answer else None) == words


@pytest.mark.parametrize("text", [row[0] for row in MATRIX])
@pytest.mark.parametrize("kind", KINDS)
def test_span_says_where_the_answer_lies(text: str, kind: str) -> None:
    """`raw` is what the text holds at `span`, for every kind."""
    answer = extract_answer(text, kind)
    assert answer is None or text[answer.span[0] : answer.span[1]] == answer.raw


def test_only_the_last_part_of_a_long_text_is_read() -> None:
    """An answer far before the end is not found; one at the end is, with its true position."""
    noise = "so and so on.\n" * 5_000
    assert extract_answer(r"\boxed{7}" + noise) is None
    answer = extract_answer(noise + r"\boxed{7}")
    assert answer == Answer("7", "number", (len(noise) + 7, len(noise) + 8), "7")


def test_unknown_kind_is_refused() -> None:
    """The message names what is allowed."""
    with pytest.raises(InvalidInput, match="auto, choice, math, number, text"):
        extract_answer("7", "maths")


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("b<THINK>a</THINK>c<think>d</think>", "bc"),
        ("a</think>b", "b"),
        ("<think><think>a</think>b</think>c", "c"),
        ("b<think>a", ""),
        ("no thinking", "no thinking"),
    ],
)
def test_thinking_is_dropped(text: str, rest: str) -> None:
    """Closed blocks go; a block that never closes leaves nothing."""
    assert strip_thinking(text) == rest


def test_import_loads_no_computer_algebra() -> None:
    """sympy and math-verify belong to the helper process, torch and vLLM to the engine."""
    check = (
        "import sys, ttscale.answers as a; a.equivalent('1/2', '0.5'); "
        "sys.exit(any(m in sys.modules for m in ('sympy', 'math_verify', 'torch', 'vllm')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(
    ("mark", "text", "kind"),
    [
        ("box", r"The answer is 3. \boxed{7}", "auto"),
        ("tags", "<answer>7</answer> The answer is 3.", "auto"),
        ("hashes", "The answer is 3.\n#### 7", "auto"),
        ("sentence", "#### 3\nThe answer is **7**.", "auto"),
        ("alone", " 7 ", "auto"),
        ("unmarked", "Then there are 7 left.", "auto"),
        ("unmarked", "First 3, then 7", "number"),
    ],
)
def test_what_made_it_the_answer_is_told(mark: str, text: str, kind: str) -> None:
    """The surest mark wins, and a caller may tell a boxed answer from a last number."""
    answer = extract_answer(text, kind)

    assert answer is not None
    assert (answer.value, answer.mark) == ("7", mark)
    assert answer == replace(answer, mark="")
