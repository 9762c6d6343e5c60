"""The fields of DSPy's examples and predictions as questions, texts and answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

from pydantic import BaseModel

from ttscale import _check
from ttscale.answers import KINDS, Answer, extract_answer
from ttscale.errors import InvalidInput


def check_kind(kind: str) -> None:
    """Raise InvalidInput unless `kind` is one of `ttscale.answers.KINDS`."""
    _check.choice("kind", kind, KINDS)


def answer_of(value: object, kind: str = "auto") -> Answer | None:
    """The answer that the value of a typed field is; None abstains.

    Numbers are compared by value: 7, 7.0 and "7" are the same. A text is read by `kind`, as
    `extract_answer` does; where `auto` finds no value in it, the text as a whole is the answer.
    Anything else (lists, models) is compared as JSON.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return _whole(format(Decimal(str(value)), "f"), "number")
    if not isinstance(value, str):
        return _whole(_json(value), "text")
    answer = extract_answer(value, kind)
    if answer is None and kind == "auto":
        return extract_answer(value, "text") or _whole(" ".join(value.split()), "text")
    return answer


def shown(fields: Mapping[str, Any]) -> str:
    """Fields as text: the bare value of a single one, else a line `name: value` for each."""
    texts = {
        name: value if isinstance(value, str) else _json(value) for name, value in fields.items()
    }
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n\n".join(f"{name}: {text}" for name, text in texts.items())


def voting_field(field: str | None, fields: Mapping[str, Any]) -> str:
    """The field that is voted on: the one named, else the last.

    Raises:
        InvalidInput: There is no field of that name.
    """
    if field is None:
        return list(fields)[-1]
    if field not in fields:
        raise InvalidInput(f"no output field {field!r}; the fields are {', '.join(fields)}")
    return field


def _whole(text: str, kind: str) -> Answer | None:
    return Answer(text, kind, (0, len(text)), text) if text else None


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return str(value)
