"""Checks of values at the door, with one wording for all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection

from ttscale.errors import InvalidInput


def number(name: str, value: object, low: float, high: float, *, open_low: bool = False) -> float:
    """Return `value` as a float if it is a finite number in [low, high], else raise InvalidInput.

    With `open_low` the lower end is excluded.
    """
    span = f"{'(' if open_low else '['}{low:g}, {high:g}]"
    legal = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not legal or not low <= value <= high or (open_low and value == low):  # type: ignore[operator]
        raise InvalidInput(f"{name} must be a number in {span}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` if it is a whole number from `low` to `high`, else raise InvalidInput."""
    span = f"of at least {low}" if high is None else f"from {low} to {high}"
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise InvalidInput(f"{name} must be a whole number {span}, got {value!r}")
    if high is not None and value > high:
        raise InvalidInput(f"{name} must be a whole number {span}, got {value!r}")
    return value


def choice(name: str, value: object, legal: Collection[str]) -> str:
    """Return `value` if it is one of the legal words, else raise InvalidInput."""
    if not isinstance(value, str) or value not in legal:
        raise InvalidInput(f"{name} must be one of {', '.join(sorted(legal))}; got {value!r}")
    return value


def flag(name: str, value: object) -> bool:
    """Return `value` as a bool if it is true, false, 0 or 1, else raise InvalidInput."""
    if not isinstance(value, bool | int) or value not in (0, 1):
        raise InvalidInput(f"{name} must be true or false, 1 or 0; got {value!r}")
    return bool(value)


def json_object(name: str, value: object) -> str:
    """Return `value` if it is the text of a JSON object, else raise InvalidInput."""
    try:
        content = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(value, str) or not isinstance(content, dict):
        raise InvalidInput(f"{name} must be the text of a JSON object, got {value!r}")
    return value
