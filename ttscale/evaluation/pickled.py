"""A text out of a pickle, without unpickling: a pickle is a program, and it is not run."""

from __future__ import annotations

import pickletools

from ttscale.errors import InvalidInput

TEXT = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
"""Operations that hold a text."""

PASSED_OVER = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT", "STOP"})
"""Operations around a text that make nothing."""


def text_in(raw: bytes) -> str:
    """The text that a pickle of one text holds; the pickle is listed, never executed.

    Raises:
        InvalidInput: It is no pickle, or holds anything but one text.
    """
    found: list[str] = []
    try:
        for operation, argument, _ in pickletools.genops(raw):
            if operation.name in TEXT and isinstance(argument, str):
                found.append(argument)
            elif operation.name not in PASSED_OVER:
                raise InvalidInput(
                    f"a pickle of one text holds no operation {operation.name}; it is not run"
                )
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"it is no pickle: {error}") from error
    if len(found) != 1:
        raise InvalidInput(f"a pickle of one text was expected, got one of {len(found)} texts")
    return found[0]
