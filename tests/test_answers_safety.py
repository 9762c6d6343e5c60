"""Hostile and broken texts: no crash, no execution, no endless reading."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ttscale.answers import KINDS, Answer, equivalent, extract_answer
from ttscale.answers.reading import read

LIMIT = 2.0
MEGABYTE = 1_000_000


@contextmanager
def watched() -> Iterator[None]:
    """Fail what takes longer than the limit."""

    def stop(*_: object) -> None:
        pytest.fail(f"took more than {LIMIT:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(text: str, kind: str) -> Answer | None:
    """Extract under watch and hold what always holds of the result."""
    with watched():
        answer = extract_answer(text, kind)
        if answer is None:
            return None
        assert text[answer.span[0] : answer.span[1]] == answer.raw
        assert answer.value
        assert equivalent(answer, answer)
    return answer


UNITS = [
    "a", "7", " ", "\n", "{", "}", "$", "\\", "(", ",", ".", "=", "*", "-", "answer", "|",
    "answer: ", "answer is ", "\\boxed{", "\\boxed", "\\boxed{}", "\\boxed{...",
    "\\frac{", "\\frac1", "\\text{",
    "\\sqrt", "\\pm", "\\(", "\\[", "$$", "#### ", "\n#### 1", "<think>", "</think>", "1,", "1.",
    "12 ", "2x=", ", ", "best ", "<<", "9^{", "\u0660", "а", "²", "½", "\x02", "\x0e", "１",
]  # fmt: skip


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["auto", "number", "text"])
def test_a_megabyte_of_anything_is_read_in_time(unit: str, kind: str) -> None:
    """No pattern backtracks without bound, whatever is repeated and however it ends."""
    body = unit * (MEGABYTE // len(unit))
    check(body, kind)
    check("The answer is " + unit * 9_000 + "7", kind)
    check("\\boxed{" + unit * (19_000 // len(unit)) + "}", kind)
    check("7" + body[:15_000] + " x7", kind)


@pytest.mark.parametrize(
    "content",
    [
        "\\boxed{" * 2_000 + "7" + "}" * 2_000,
        "\\frac{" * 40 + "1" + "}{2}" * 40,
        "\\sqrt{" * 1_000 + "2" + "}" * 1_000,
        "(" * 140 + "1" + ")" * 140,
        "{" * 140 + "1" + "}" * 140,
        "\\{" * 90 + "1" + "\\}" * 90,
        "((1,2),(" * 30,
        "1," * 149 + "1",
        "x=" * 100,
        "\\begin{pmatrix}" + "1&" * 100 + "\\end{pmatrix}",
        "\\begin{pmatrix}" * 15,
        "\\pm" * 60,
        "1 or " * 50,
        "9" * 300,
        "1e99999",
        "10^{9999}",
        "9^{9^{9^{9}}}",
        "0.\\overline{" + "9" * 200 + "}",
        "1/" * 100 + "0",
        "1/0",
    ],
)
def test_bombs_are_defused(content: str) -> None:
    """Nesting, towers and huge numbers are read as text, or as what they are, in time."""
    for kind in KINDS:
        check(f"so \\boxed{{{content}}}", kind)


PAYLOADS = [
    "open('{path}', 'w')",
    "__import__('os').system('touch {path}')",
    "__import__('pathlib').Path('{path}').touch()",
    "x + open('{path}','w').write('1')",
    "\\text{{__import__('os').system('touch {path}')}}",
    "$(touch {path})",
    "`touch {path}`",
    "\\write18{{touch {path}}}",
    "\\immediate\\openout1={path}",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_in_an_answer_is_executed(payload: str, tmp_path: Path) -> None:
    """Neither extraction nor comparison runs what a model wrote."""
    target = tmp_path / "x"
    content = payload.format(path=target)
    for kind in KINDS:
        answer = extract_answer(f"\\boxed{{{content}}}", kind)
        assert answer is None or not equivalent(answer, "x+1")
    assert not equivalent(content, "x + 1")
    assert not target.exists()
    assert list(tmp_path.iterdir()) == []


PIECES = st.sampled_from(
    [
        *UNITS, "\\boxed{7}", "\\frac12", "\\frac{1}{2}", " or ", " and ", "x=3", "1,234", "50\\%",
        "\\text{cm}", "^2", "\\left(", "\\right]", "[1,2)", "\\cup", "\\infty", "\\begin{pmatrix}",
        "&", "\\\\", "\\end{pmatrix}", "°",
        "The answer is ", "Final answer:", "**73**", "(C)", "A train",
        "import os", "not", "\\{", "\\}", "∞", "√", "×", "–", "\u202e", "\U0001d7d9", "𝟕",
    ]
)  # fmt: skip
TEXTS = st.one_of(
    st.lists(PIECES, max_size=30).map("".join), st.text(max_size=200), st.text("{}\\$()[]1,x=")
)


@given(TEXTS, st.sampled_from(KINDS))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_without_crash(text: str, kind: str) -> None:
    """Fragments of LaTeX, prose and noise in any order give an answer or none."""
    check(text, kind)
    check("\\boxed{" + text + "}", kind)


@given(TEXTS)
@example("{0<)%")
@settings(max_examples=400, deadline=None)
def test_reading_the_normal_form_changes_nothing(text: str) -> None:
    """What is printed for a mathematical value reads as the same value."""
    value = read(text, letters=False)
    if value is None or value.kind == "text":
        return
    again = read(value.text, letters=False)
    assert again is not None
    assert (again.kind, again.text, again.number) == (value.kind, value.text, value.number)


def test_look_alike_letters_are_not_latin_ones() -> None:
    """A Cyrillic letter makes another answer; full-width digits are digits."""
    assert not equivalent("а", "a")
    assert equivalent("１２", "12")
