"""Requests and answers as JSON, which is how they travel in the rows of a dataset.

Prompts and samples are other people's texts, so they are never pickled; pydantic checks what comes
back.
"""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from ttscale.engines.batch import Answered, Ask

_ASK, _ANSWERED = TypeAdapter(Ask), TypeAdapter(Answered)
_EITHER: TypeAdapter[Ask | Answered] = TypeAdapter(Ask | Answered)


def dump(value: Ask | Answered) -> str:
    """A request or an answer as JSON; a log-probability may be infinite, as Python writes it."""
    return json.dumps(_EITHER.dump_python(value))


def ask(text: str) -> Ask:
    """The request that `dump` has written."""
    return _ASK.validate_python(json.loads(text))


def answered(text: str) -> Answered:
    """The answer that `dump` has written."""
    return _ANSWERED.validate_python(json.loads(text))
