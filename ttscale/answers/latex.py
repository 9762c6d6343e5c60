"""LaTeX and look-alike characters brought into one plain form; nothing is evaluated.

Three private marks keep what plain text would lose: `WORD_OPEN`/`WORD_CLOSE` stand around what was
set as text (`\\text{cm}`), `SET_OPEN`/`SET_CLOSE` for `\\{` and `\\}`, `ROW` for `\\\\`.
"""

from __future__ import annotations

import re
import unicodedata

WORD_OPEN, WORD_CLOSE = "\x02", "\x03"
SET_OPEN, SET_CLOSE = "\x0e", "\x0f"
ROW = "\x1f"
MARKS = str.maketrans("", "", WORD_OPEN + WORD_CLOSE)
OPENING, CLOSING = "([{" + SET_OPEN, ")]}" + SET_CLOSE

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ", "⋅": r"\cdot ",
    "∞": r"\infty ", "π": r"\pi ", "√": r"\sqrt ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∈": r"\in ", "∅": r"\emptyset ", "⁄": "/",
    "⁰": "^0", "¹": "^1", "²": "^2", "³": "^3", "⁴": "^4", "⁵": "^5", "⁶": "^6", "⁷": "^7",
    "⁸": "^8", "⁹": "^9", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3",
    "º": "°",
}  # fmt: skip
_TABLE = str.maketrans({**_CHARACTERS, **dict.fromkeys("\x02\x03\x0e\x0f\x1f\u200b\ufeff")})

# (what is written, what it stands for), applied in this order.
_RENAMES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), to)
    for pattern, to in (
        (r"\\\\(?:\[[^\]]{0,20}\])?", ROW),
        (r"\\\{|\\lbrace\b", SET_OPEN),
        (r"\\\}|\\rbrace\b", SET_CLOSE),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![A-Za-z])\.?", ""),
        (r"\\langle\b", "("),
        (r"\\rangle\b", ")"),
        (r"\\[,;:!]|\{\}|\\(?:display|text)style\b", ""),
        (r"\\[ \n]|~|\\q?quad\b|[ \t\r\n]+", " "),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\{,\}", ","),
        (r"\\%", "%"),
        (r"\\\$", "$"),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])", "°"),
        (r"\\(?:leqslant|leq)(?![A-Za-z])|<=", r"\\le "),
        (r"\\(?:geqslant|geq)(?![A-Za-z])|>=", r"\\ge "),
        (r"\\neq(?![A-Za-z])|!=", r"\\ne "),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset "),
        (r"\\l?dots(?![A-Za-z])|…", "..."),
        (r"(?<=[0-9A-Za-z)}])\s?\*\*\s?(?=[0-9A-Za-z({\\-])", "^"),
        (r"_\s?([0-9A-Za-z]+)(?=\s|$)", r"_{\1}"),
    )
)
_UPRIGHT = re.compile(r"\\(?:operatorname|math(?:bf|it|sf|bb|cal)|boldsymbol)\s*\{([^{}]*)\}")
_WORDS = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt|normal)?|mbox|mathrm|emph)\s*\{([^{}]*)\}")
_BOX = re.compile(r"\\f?box(?:ed)?\s*\{([^{}]*)\}")
_SHORT_FRAC = re.compile(r"\\frac\s*([0-9A-Za-z])\s*(?:([0-9A-Za-z])|(?=\{))")
_HALF_FRAC = re.compile(r"(\\frac\s*\{[^{}]*\})\s*([0-9A-Za-z])")
_GAPS = re.compile(r"(\\(?:frac|d?binom|sqrt)|\})\s+(?=\{)")
_SHORT_ROOT = re.compile(r"\\sqrt\s*([0-9]+|[A-Za-z])")
_CALL_ROOT = re.compile(r"(?<![A-Za-z\\])\\?sqrt\s*\(([^()]*)\)")
_POWER = re.compile(r"\^\s*\(([^()]*)\)")
_PI = re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])")


def tidy(text: str) -> str:
    """The plain form of `text`: one spelling per symbol, full braces, marked words."""
    text = text.translate(_TABLE)
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    for pattern, to in _RENAMES:
        text = pattern.sub(to, text)
    for _ in range(4):
        before = text
        text = _BOX.sub(r"\1", _WORDS.sub(_marked, _UPRIGHT.sub(r"\1", text)))
        text = _POWER.sub(r"^{\1}", _CALL_ROOT.sub(r"\\sqrt{\1}", text))
        if text == before:
            break
    text = _SHORT_FRAC.sub(_full_frac, _GAPS.sub(r"\1", text))
    text = _HALF_FRAC.sub(r"\1{\2}", text)
    return _PI.sub(r"\\pi ", _SHORT_ROOT.sub(r"\\sqrt{\1}", text)).strip()


def _marked(match: re.Match[str]) -> str:
    """Text set as words, marked when it holds a letter: `\\text{13}` is a plain 13."""
    words = match[1].translate(MARKS)
    return f"{WORD_OPEN}{words}{WORD_CLOSE}" if any(c.isalpha() for c in words) else words


def _full_frac(match: re.Match[str]) -> str:
    return f"\\frac{{{match[1]}}}" + (f"{{{match[2]}}}" if match[2] else "")


def visible(text: str) -> str:
    """`text` with the private marks put back into what they stand for."""
    text = text.translate(MARKS).replace(SET_OPEN, "{").replace(SET_CLOSE, "}")
    return " ".join(text.replace(ROW, r"\\ ").split())


def brace_pairs(text: str) -> dict[int, int]:
    """Position of each `{` that is closed, and of its `}`; escaped braces are no braces."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    escaped = False
    for i, char in enumerate(text):
        if escaped or char == "\\":
            escaped = not escaped
        elif char == "{":
            stack.append(i)
        elif char == "}" and stack:
            pairs[stack.pop()] = i
    return pairs


def depth_of(text: str) -> int:
    """How deep the brackets of `text` nest; -1 when they do not balance."""
    depth = deepest = 0
    for char in text:
        depth += (char in OPENING) - (char in CLOSING)
        deepest = max(deepest, depth)
        if depth < 0:
            return -1
    return deepest if depth == 0 else -1


def split_top(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split at the separators that lie in no bracket."""
    parts: list[str] = []
    start = depth = at = 0
    for match in separator.finditer(text):
        for char in text[at : match.start()]:
            depth += (char in OPENING) - (char in CLOSING)
        at = match.start()
        if depth == 0:
            parts.append(text[start : match.start()])
            start = at = match.end()
    return [*parts, text[start:]]


def enclosed(text: str) -> bool:
    """Whether the first character opens the bracket that the last one closes."""
    if len(text) < 2 or text[0] not in OPENING or text[-1] not in CLOSING:
        return False
    depth = 0
    for i, char in enumerate(text):
        depth += (char in OPENING) - (char in CLOSING)
        if depth == 0:
            return i == len(text) - 1
    return False
