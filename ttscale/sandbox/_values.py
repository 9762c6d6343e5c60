"""Values as they cross from one sandbox to the other: plain data, rebuilt on arrival.

Nothing that arrives can carry code or behaviour of its own: a list arrives as a list, and an object
of any other type only as a number that its owner can be asked about.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

Encoded = None | bool | int | float | str | list["Encoded"]
Refer = Callable[[object], "Encoded"]
"""Turns an object that is no plain data into what stands for it."""
Resolve = Callable[[str, int], object]
"""Turns what stands for an object into something to work with."""

SMALL = 1 << 53
TYPES = {
    name: found
    for name, found in vars(builtins).items()
    if isinstance(found, type) and not name.startswith("_")
}
_TYPE_NAMES = {found: name for name, found in TYPES.items()}


def encode(value: object, refer: Refer) -> Encoded:
    """`value` for JSON; of a subclass of a plain type only the plain part goes over."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        number = int.__index__(value)
        return number if abs(number) < SMALL else ["i", hex(number)]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return _container(value, refer)
    if isinstance(value, bytes | bytearray):
        return ["b" if isinstance(value, bytes) else "a", bytes(value).hex()]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return encode(value.tolist(), refer)
    return _scalar(value) or refer(value)


def _container(value: object, refer: Refer) -> Encoded:
    if isinstance(value, dict):
        return ["d", [[encode(k, refer), encode(v, refer)] for k, v in dict.items(value)]]
    # The plain type's own iteration: a subclass may pretend to hold something else.
    if isinstance(value, list):
        return ["l", [encode(item, refer) for item in list.__iter__(value)]]
    if isinstance(value, tuple):
        return ["t", [encode(item, refer) for item in tuple.__iter__(value)]]
    if isinstance(value, set):
        return ["s", [encode(item, refer) for item in set.__iter__(value)]]
    if isinstance(value, frozenset):
        return ["z", [encode(item, refer) for item in frozenset.__iter__(value)]]
    raise TypeError(f"no container: {type(value).__name__}")


def _scalar(value: object) -> Encoded:
    """Rarer plain values; None for anything else."""
    if isinstance(value, complex):
        return ["c", value.real, value.imag]
    if isinstance(value, Fraction):
        return ["q", hex(value.numerator), hex(value.denominator)]
    if isinstance(value, Decimal):
        return ["n", str(value)]
    if isinstance(value, range):
        return ["r", hex(value.start), hex(value.stop), hex(value.step)]
    if isinstance(value, type) and value in _TYPE_NAMES:
        return ["k", _TYPE_NAMES[value]]
    return None


def decode(value: Encoded, resolve: Resolve) -> object:
    """The value that `encode` was given.

    Raises:
        ValueError: It is none that `encode` makes.
    """
    if not isinstance(value, list):
        return value
    try:
        return _decoded(str(value[0]), value[1:], resolve)
    except (IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(f"no value: {error}") from None


def _decoded(tag: str, parts: list[Encoded], resolve: Resolve) -> object:
    if tag in ("l", "t", "s", "z"):
        items = [decode(item, resolve) for item in _list(parts[0])]
        kind: type = {"l": list, "t": tuple, "s": set, "z": frozenset}[tag]
        return kind(items)
    if tag == "d":
        pairs = [_list(pair) for pair in _list(parts[0])]
        return {decode(k, resolve): decode(v, resolve) for k, v in pairs}
    if tag in ("x", "y"):
        return resolve(tag, int(str(parts[0])))
    return _plain(tag, [str(part) for part in parts])


def _plain(tag: str, texts: list[str]) -> object:
    if tag == "i":
        return int(texts[0], 16)
    if tag in ("b", "a"):
        data = bytes.fromhex(texts[0])
        return data if tag == "b" else bytearray(data)
    if tag == "c":
        return complex(float(texts[0]), float(texts[1]))
    if tag == "q":
        return Fraction(int(texts[0], 16), int(texts[1], 16))
    if tag == "n":
        return Decimal(texts[0])
    if tag == "r":
        return range(*(int(text, 16) for text in texts))
    if tag == "k":
        return TYPES[texts[0]]
    raise ValueError(f"no value with the tag {tag!r}")


def _list(value: Encoded) -> list[Encoded]:
    if not isinstance(value, list):
        raise ValueError(f"a list was due, got {value!r}")  # noqa: TRY004 - it is a bad message
    return value
