"""Units of measure, under the one name by which two answers are compared."""

from __future__ import annotations

import re

_NAMES = {
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "km": "km kilometer kilometers kilometre kilometres kms",
    "in": "in inch inches",
    "ft": "ft foot feet",
    "yd": "yd yard yards yds",
    "mi": "mi mile miles",
    "mg": "mg milligram milligrams",
    "g": "g gram grams",
    "kg": "kg kilogram kilograms kgs",
    "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces",
    "ton": "ton tons tonne tonnes",
    "ms": "ms millisecond milliseconds",
    "s": "s sec secs second seconds",
    "min": "min mins minute minutes",
    "h": "h hr hrs hour hours",
    "day": "day days",
    "week": "week weeks",
    "month": "month months",
    "year": "year years yr yrs",
    "mL": "ml milliliter milliliters millilitre millilitres",
    "L": "l liter liters litre litres",
    "gal": "gal gallon gallons",
    "$": "dollar dollars usd",
    "cent": "cent cents",
    "euro": "euro euros eur €",
    "£": "£ gbp",
    "%": "% percent",
    "°": "° degree degrees deg",
    "rad": "rad radian radians",
    "mi/h": "mph",
    "km/h": "kph kmh",
    "N": "newton newtons",
    "J": "joule joules",
    "W": "watt watts",
    "V": "volt volts",
    "Hz": "hz hertz",
}
_CANONICAL = {word: name for name, words in _NAMES.items() for word in words.split()}
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3", "cu": "^3"}
_SUFFIXES = {"squared": "^2", "cubed": "^3"}
_SINGLE = re.compile(r"([^\s^]+)(?:\^\{?([0-9])\}?)?")


def canonical(phrase: str) -> str | None:
    """The one name of a unit (`square feet` -> `ft^2`, `miles per hour` -> `mi/h`), or None."""
    phrase = phrase.strip().rstrip(".").replace(" per ", "/")
    parts = [_simple(part) for part in phrase.split("/")]
    if len(parts) > 2 or None in parts:
        return None
    return "/".join(part for part in parts if part)


def _simple(phrase: str) -> str | None:
    """The name of a unit without division."""
    words = phrase.lower().split()
    power = ""
    if len(words) == 2 and words[0] in _POWERS:
        power = _POWERS[words.pop(0)]
    elif len(words) == 2 and words[1] in _SUFFIXES:
        power = _SUFFIXES[words.pop()]
    match = _SINGLE.fullmatch("".join(words)) if len(words) == 1 else None
    if match is None or match[1] not in _CANONICAL:
        return None
    if match[2] and match[2] != "1":
        power = f"^{match[2]}"
    return _CANONICAL[match[1]] + power
