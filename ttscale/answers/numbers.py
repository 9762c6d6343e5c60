"""Numbers written in plain text or simple LaTeX, read exactly."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 300
MAX_EXPONENT = 100

_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_DECIMAL = re.compile(_PLAIN)
_RATIO = re.compile(rf"({_PLAIN})\s*/\s*([+-]?(?:{_PLAIN}))")
_FRAC = re.compile(r"([0-9]*)\s*\\frac\{([+-]?[0-9.,]+)\}\{([+-]?[0-9.,]+)\}")
_MIXED = re.compile(r"([0-9]+)\s+([0-9]+)\s*/\s*([0-9]+)")
_SCIENTIFIC = re.compile(
    rf"({_PLAIN})\s*(?:[eE]|(?:\\times|\\cdot|\*)\s*10\s*\^\s*)\{{?([+-]?[0-9]{{1,4}})\}}?"
)
_POWER_OF_TEN = re.compile(r"10\s*\^\s*\{?([+-]?[0-9]{1,4})\}?")
_REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\overline\{([0-9]+)\}")


def read_number(text: str) -> tuple[Fraction, str] | None:
    """Read `text`, wholly, as one number: its exact value and its printable form.

    Understands integers, decimals (`1,234.5`), ratios, `\\frac{a}{b}`, mixed numbers, powers of
    ten and `0.\\overline{3}`. None when it is anything else, has a denominator of 0, or is longer
    than 300 characters.
    """
    text = text.strip()
    if not text or len(text) > MAX_DIGITS:
        return None
    sign = 1
    while text[:1] in ("+", "-"):
        sign = -sign if text[0] == "-" else sign
        text = text[1:].lstrip()
    if text[:1] == "(" and text[-1:] == ")" and "(" not in text[1:]:
        inner = read_number(text[1:-1])
        return None if inner is None else _printed(sign * inner[0], decimal="." in inner[1])
    decimal = _decimal(text)
    magnitude = decimal if decimal is not None else _composed(text)
    if magnitude is None:
        return None
    return _printed(sign * magnitude, decimal=decimal is not None)


def _decimal(text: str) -> Fraction | None:
    """An integer or decimal, with or without thousands separators."""
    if not _DECIMAL.fullmatch(text):
        return None
    return Fraction(text.replace(",", "").rstrip(".") or "0")


def _composed(text: str) -> Fraction | None:
    """A number made of several: ratio, fraction, mixed number, power of ten, repetend."""
    if match := _RATIO.fullmatch(text):
        return _divided(match[1], match[2])
    if match := _FRAC.fullmatch(text):
        part = _divided(match[2], match[3])
        return _mixed(match[1], part) if match[1] else part
    if match := _MIXED.fullmatch(text):
        return _mixed(match[1], _divided(match[2], match[3]))
    if match := _SCIENTIFIC.fullmatch(text):
        return _scaled(_decimal(match[1]), int(match[2]))
    if match := _POWER_OF_TEN.fullmatch(text):
        return _scaled(Fraction(1), int(match[1]))
    if match := _REPEATING.fullmatch(text):
        return _repeating(match[1], match[2], match[3])
    return None


def _divided(top: str, bottom: str) -> Fraction | None:
    ends = [read_number(top), read_number(bottom)]
    if ends[0] is None or ends[1] is None or ends[1][0] == 0:
        return None
    return ends[0][0] / ends[1][0]


def _mixed(whole: str, part: Fraction | None) -> Fraction | None:
    """`3 1/2`; None unless the part is a proper fraction, since `3 5/2` may be a product."""
    if part is None or not 0 < part < 1:
        return None
    return int(whole) + part


def _scaled(mantissa: Fraction | None, exponent: int) -> Fraction | None:
    if mantissa is None or abs(exponent) > MAX_EXPONENT:
        return None
    return mantissa * Fraction(10) ** exponent


def _repeating(whole: str, head: str, cycle: str) -> Fraction:
    """`0.1\\overline{6}`: the cycle of k digits is worth cycle / (10^k - 1), shifted."""
    start = Fraction(f"{whole or '0'}.{head or '0'}")
    return start + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(head))


def _printed(value: Fraction, *, decimal: bool) -> tuple[Fraction, str]:
    """The value and how it prints: an integer, the decimal it was written as, or a ratio."""
    if decimal and value.denominator != 1:
        return value, _as_decimal(value)
    return value, str(value)


def _as_decimal(value: Fraction) -> str:
    """A terminating decimal without superfluous zeros."""
    places = 0
    scaled = abs(value)
    while scaled.denominator != 1 and places < MAX_DIGITS:
        scaled *= 10
        places += 1
    digits = str(scaled.numerator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}"
