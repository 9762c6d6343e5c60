"""Reading one answer's content: `\\frac12` is a number, `x=3 or x=5` a set, `[1,2)` an interval.

Policies, each of which `equivalent` relies on:

- A unit is kept aside: `10\\ \\text{cm}^2` is 10 with unit `cm^2`, `50\\%` is 50 with unit `%`.
  A counting noun (`12 apples`) is dropped.
- Values joined by `or`, `and` or commas outside of brackets are an unordered set; so is `a \\pm b`.
  A set of one is its member.
- `x = 5` is 5; an equation between formulas stays an equation.
- Round brackets hold a tuple, unless an end is infinite; square ones an interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from ttscale.answers import latex, units
from ttscale.answers.latex import SET_CLOSE, SET_OPEN
from ttscale.answers.numbers import read_number
from ttscale.answers.values import Value

MAX_EXPRESSION = 300
MAX_DEPTH = 16
_FUNCTION_NAMES = (
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp gcd lcm max min mod"
    " det lim"
)
FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

_LETTER = re.compile(r"[\x02\s(]*([A-Z])[\x03\s).:]*")
_LETTER_AND_TEXT = re.compile(r"[\x02\s]*(?:\(([A-Z])\)|([A-Z])[.):])[\s\x02\x03]+\S.*")
_MONEY = re.compile(r"(-?)\s*([$€£])\s*(-?[0-9.].*)")
_MARKED_UNIT = re.compile(r"(.*)\x02([^0-9]*?(?:\^\s*\{?-?[0-9]\}?)?[^0-9]*)")
_PLAIN_UNIT = re.compile(
    r"(-?\s*[0-9][0-9.,]*(?:/[0-9]+)?(?:\s[0-9]+/[0-9]+)?)(\s*)"
    r"([A-Za-z€£%°][A-Za-z ./'-]*(?:\^\{?[0-9]\}?)?)"
)
_SYMBOL_UNIT = re.compile(r"(.*[0-9}\])])\s*(%|°\s*[CF]?|[€£$])")
_JOINER = re.compile(r"[\s\x02\x03,]+(?:or|and)[\s\x02\x03]+")
_COMMA = re.compile(r"[,;]")
_UNION = re.compile(r"\\cup(?![A-Za-z])")
_EQUALS = re.compile(r"(?<![<>!:=])=(?!=)")
_NAME = re.compile(
    r"\s*(?:[A-Za-z](?:_\{?[0-9A-Za-z]+\}?)?'?(?:\([A-Za-z]\))?)\s*(?:=|\\in(?![A-Za-z]))\s*"
)
_MATRIX = re.compile(
    r"\\begin\{(?:p|b|B|small)?(matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{[a-zA-Z]*\}"
)
_RELATION = re.compile(r"[<>]|\\[lg]e(?![A-Za-z])")
_SIGNS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_CONTROL = re.compile(r"\\[A-Za-z]+")
_FORMULA = re.compile(r"[0-9A-Za-z+\-*/^_(){}\[\].,=<>|!:'\\& ]+")
_PHRASE = re.compile(
    r"(?<![\\A-Za-z])([A-Za-z]{2,}) +[A-Za-z]|(?<![\\A-Za-z])[A-Za-z] +([A-Za-z]{2,})"
)
_ODD = re.compile(
    r"(?<![0-9 ]) *:|: *(?![0-9 ])|\\(?:f?box|boxed)(?![A-Za-z])|[0-9] +[0-9]|\.\."
    r"|[,;:]$|[+\-*/^_=<]$|^[*/^_=<>,]"
)
_LOOSE = re.compile(r"(?<![A-Za-z]) | (?![A-Za-z])")
_OTHER_WORDS = (
    "or and not to of in on at by from is are was were than pi sqrt because so times plus minus"
    " divided equals x y z i e"
)
_NOT_NOUNS = FUNCTIONS.union(_OTHER_WORDS.split())


@lru_cache(maxsize=4096)
def read(text: str, letters: bool = True) -> Value | None:
    """Read the content of one answer; what is no mathematics comes back as kind `text`.

    With `letters`, a lone capital letter is a choice, else a variable. None for an empty answer.
    """
    if len(text) > MAX_EXPRESSION:
        return _as_text(text)
    plain = _unwrapped(latex.tidy(text))
    if not plain.translate(latex.MARKS).strip(" .,;"):
        return None
    if letters and (match := _LETTER.fullmatch(plain) or _LETTER_AND_TEXT.fullmatch(plain)):
        return Value("choice", next(group for group in match.groups() if group))
    if len(plain) > MAX_EXPRESSION or not -1 < latex.depth_of(_unbracketed(plain)) <= MAX_DEPTH:
        return _as_text(plain)
    return _measured(plain) or _content(plain, 0) or _as_text(plain)


def _as_text(text: str) -> Value | None:
    """Words, compared with neither case nor spacing."""
    shown = latex.visible(text).strip(" .,;:!\"'`*$")
    return Value("text", shown) if shown else None


def _unbracketed(text: str) -> str:
    """`text` without the ends of half-open intervals on the same level."""
    return text.replace("[", "(").replace("]", ")")


def _unwrapped(text: str) -> str:
    """`text` without math delimiters, emphasis, a final full stop or braces around it all."""
    before = None
    while text != before:
        before = text
        text = text.strip().strip('`*"').strip()
        text = text.rstrip(";,:").rstrip()
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        for start, end in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            if len(text) > len(start + end) and text.startswith(start) and text.endswith(end):
                # All of them, for `$x=3$ or $x=5$`.
                text = text.replace(start, "").replace(end, "")
        braced = latex.enclosed(text) and text[0] + text[-1] == "{}"
        if braced and not latex.split_top(text[1:-1], _COMMA)[1:]:
            text = text[1:-1]
    return text


def _measured(text: str) -> Value | None:
    """A value with a unit or a counting noun behind it (or a currency sign before it)."""
    if match := _MONEY.fullmatch(text):
        return _with_unit(match[1] + match[3], {"€": "euro"}.get(match[2], match[2]))
    if match := _SYMBOL_UNIT.fullmatch(text):
        unit = {"€": "euro"}.get(match[2], match[2].replace(" ", ""))
        return _with_unit(match[1], unit)
    if match := _MARKED_UNIT.fullmatch(text):
        return _with_words(match[1], match[2].translate(latex.MARKS), spaced=True)
    if match := _PLAIN_UNIT.fullmatch(text):
        return _with_words(match[1], match[3], spaced=bool(match[2]))
    return None


def _with_words(value: str, words: str, *, spaced: bool) -> Value | None:
    """`value` with the unit that `words` name, or without one when they are a counting noun."""
    unit = units.canonical(words)
    if unit is not None and (spaced or len(words.strip()) > 1):
        return _with_unit(value, unit)
    nouns = words.lower().split()
    counting = 0 < len(nouns) <= 5 and not _NOT_NOUNS.intersection(nouns) and "^" not in words
    if not spaced or not counting or max(map(len, nouns)) < 3:
        return None
    number = read_number(_without_name(value))
    return None if number is None else Value("number", number[1], number=number[0])


def _with_unit(value: str, unit: str) -> Value | None:
    content = _content(_without_name(value).strip(), 0) if value.strip() else None
    # `5 or 6 cm` are two lengths, but the 0.5 of `0.5 or 50%` is no percentage.
    if content is None or (content.kind == "set" and unit == "%"):
        return None
    return replace(content, unit=unit)


def _without_name(text: str) -> str:
    """`x = 5` and `x \\in S` without the name; only when what is left names no variable itself."""
    match = _NAME.match(text)
    rest = text[match.end() :] if match else text
    bare = _CONTROL.sub("", _WORD.sub("", rest))
    return text if any(c.isalpha() for c in bare) or "=" in rest else rest


def _content(text: str, depth: int) -> Value | None:
    """The value of text without a unit; None when it is no mathematics."""
    text = text.strip()
    if not text or depth > 4:
        return None
    if number := read_number(text.translate(latex.MARKS)):
        return Value("number", number[1], number=number[0])
    return (
        _matrix(text, depth)
        or _two_signs(text, depth)
        or _joined(text, depth)
        or _named(text, depth)
        or _union(text, depth)
        or _bracketed(text, depth)
        or _formula(text)
    )


def _named(text: str, depth: int) -> Value | None:
    """The right side of `x = 5`, and of a calculation such as `5 + 7 = 12`."""
    rest = _without_name(text)
    if rest != text:
        return _content(rest, depth + 1)
    sides = _EQUALS.split(text)
    if len(sides) > 1 and not any(c.isalpha() for c in _CONTROL.sub("", "".join(sides[:-1]))):
        last = read_number(sides[-1])
        return last and Value("number", last[1], number=last[0])
    return None


def _matrix(text: str, depth: int) -> Value | None:
    """A LaTeX matrix, or rows in square brackets."""
    if match := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in match[2].strip(latex.ROW + " ").split(latex.ROW)]
    elif text.startswith("[[") and text.endswith("]]"):
        inner = latex.split_top(text[1:-1], _COMMA)
        if not all(latex.enclosed(row.strip()) for row in inner):
            return None
        rows = [latex.split_top(row.strip()[1:-1], _COMMA) for row in inner]
    else:
        return None
    read_rows = []
    for row in rows:
        cells = _all(row, depth)
        if cells is None or len(row) != len(rows[0]):
            return None
        read_rows.append(Value("tuple", f"[{_listed(cells)}]", members=cells))
    return Value("matrix", f"[{_listed(tuple(read_rows))}]", members=tuple(read_rows))


def _two_signs(text: str, depth: int) -> Value | None:
    """`a \\pm b` as the set of both; more than one such sign would be ambiguous."""
    if len(_SIGNS.findall(text)) != 1:
        return None
    sides = [_SIGNS.sub(sign, text).strip() for sign in "+-"]
    return _set(tuple(side.lstrip("+ ") for side in sides), depth)


def _joined(text: str, depth: int) -> Value | None:
    """Several values in no brackets: `3, 5`, `x=3 or x=5`; a set, since no order is stated."""
    parts: list[str] = []
    for part in latex.split_top(text, _JOINER):
        parts += [part] if read_number(part) else latex.split_top(part, _COMMA)
    parts = [part.translate(latex.MARKS).strip() for part in parts]
    if len(parts) < 2 or _RELATION.search(text):
        return None
    return _set(tuple(parts), depth)


def _union(text: str, depth: int) -> Value | None:
    """A union of intervals."""
    parts = _all(latex.split_top(text, _UNION), depth)
    if parts is None or len(parts) < 2:
        return None
    shown = " \\cup ".join(sorted({part.text for part in parts}))
    return Value("interval", shown, members=parts, brackets="u")


def _bracketed(text: str, depth: int) -> Value | None:
    """A set, tuple or interval in its brackets."""
    if text == "\\emptyset" or text.strip(SET_OPEN + SET_CLOSE + " ") == "":
        return Value("set", "\\emptyset")
    if not latex.enclosed(text):
        return None
    parts = latex.split_top(text[1:-1], _COMMA)
    if text[0] in SET_OPEN + "{":
        return _set(tuple(parts), depth)
    members = _all(parts, depth) if len(parts) > 1 else None
    if members is None:
        return None
    ends = text[0] + text[-1]
    infinite = any("\\infty" in part for part in parts)
    if len(parts) == 2 and (ends != "()" or infinite):
        shown = f"{ends[0]}{_listed(members)}{ends[1]}"
        return Value("interval", shown, members=members, brackets=ends)
    return Value("tuple", f"{ends[0]}{_listed(members)}{ends[1]}", members=members)


def _set(parts: tuple[str, ...], depth: int) -> Value | None:
    """An unordered set, printed in a fixed order; a set of one is its member."""
    names = {match[0].strip() for part in parts if (match := _NAME.match(part))}
    # `x=3, y=5` is another answer than `x=5, y=3`, so several names stay.
    members = _known(map(_formula, parts)) if len(names) > 1 else _all(parts, depth)
    if members is None:
        return None
    distinct = {member.text: member for member in members}
    ordered = tuple(sorted(distinct.values(), key=_order))
    if len(ordered) == 1:
        return ordered[0]
    return Value("set", "{" + _listed(ordered) + "}", members=ordered)


def _order(value: Value) -> tuple[bool, float, str]:
    number = value.number
    # Beyond the range of floats the text alone decides; 300 digits do not fit into one.
    known = number is not None and abs(number) < 10**300
    return (not known, float(number) if number is not None and known else 0.0, value.text)


def _all(parts: list[str] | tuple[str, ...], depth: int) -> tuple[Value, ...] | None:
    """The values of all parts, or None when one is no mathematics."""
    return _known(_content(part, depth + 1) for part in parts)


def _known(values: Iterable[Value | None]) -> tuple[Value, ...] | None:
    """All of the values, or None when one is missing."""
    found = tuple(values)
    known = tuple(value for value in found if value is not None)
    return known if len(known) == len(found) else None


def _listed(members: tuple[Value, ...]) -> str:
    return ", ".join(member.text for member in members)


def _formula(text: str) -> Value | None:
    """A formula in normal form; None for words, half formulas and stray characters."""
    text = re.sub(r"\x02([A-Za-z])\x03", r"\1", text)
    if not _FORMULA.fullmatch(text) or _ODD.search(text) or latex.depth_of(text) < 0:
        return None
    words = [word for word in _WORD.findall(text) if word not in FUNCTIONS]
    bare = text.replace(" ", "").isalpha()
    phrases = [first or second for first, second in _PHRASE.findall(text)]
    if any(len(word) > 3 or bare for word in words) or not FUNCTIONS.issuperset(phrases):
        return None
    if not any(c.isalnum() for c in text):
        return None
    return Value("expression", _LOOSE.sub("", text).strip())
