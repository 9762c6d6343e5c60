"""Verifiers by name, for the command line and for requests over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ttscale.errors import InvalidInput
from ttscale.verifiers.checks import Gold, JSONSchema, MathEquivalence, Regex
from ttscale.verifiers.judge import SelfJudge
from ttscale.verifiers.llm_judge import LLMJudge
from ttscale.verifiers.protocol import Verifier

MAX_SCHEMA_BYTES = 1_000_000


def _schema_of(path: str) -> JSONSchema:
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")[: MAX_SCHEMA_BYTES + 1]
        schema = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"json-schema:FILE must name a JSON file, got {path!r}: {error}"
        ) from None
    if not isinstance(schema, dict):
        raise InvalidInput(f"{path!r} must hold a JSON schema, which is an object")
    return JSONSchema(schema)


PLAIN: dict[str, tuple[Callable[[], Verifier], str]] = {
    "self-judge": (SelfJudge, "the model that answers says yes or no, by its log-probabilities"),
    "llm-judge": (LLMJudge, "the model that answers gives a score from 1 to 10, in JSON"),
}
WITH_ARGUMENT: dict[str, tuple[Callable[[str], Verifier], str, str]] = {
    "gold": (Gold, "ANSWER", "1 for an answer that means the same as ANSWER"),
    "math": (MathEquivalence, "EXPRESSION", "1 for a mathematical answer equal to EXPRESSION"),
    "regex": (Regex, "PATTERN", "1 where PATTERN occurs"),
    "json-schema": (_schema_of, "FILE", "1 for JSON that fits the schema in FILE"),
}
LOCAL_ONLY = ("json-schema",)
"""Those that read a file of this machine: not for requests of others."""


def names() -> dict[str, str]:
    """What can be named, as it is written, and what it does."""
    plain = {name: what for name, (_, what) in PLAIN.items()}
    return plain | {f"{name}:{arg}": what for name, (_, arg, what) in WITH_ARGUMENT.items()}


def named(spec: str, *, files: bool = True) -> Verifier:
    """The verifier that `spec` names: `self-judge`, `llm-judge`, `gold:42`, `regex:PATTERN`, ...

    Args:
        spec: A name, with what it needs behind a colon; see `names`.
        files: Whether it may name a file of this machine.

    Raises:
        InvalidInput: There is no such verifier, or what it needs is missing, superfluous or bad.
        MissingDependency: A package that it needs is not installed.
    """
    name, colon, argument = str(spec).partition(":")
    if name in PLAIN:
        if colon:
            raise InvalidInput(f"verifier {name!r} takes nothing behind a colon, got {spec!r}")
        return PLAIN[name][0]()
    if name not in WITH_ARGUMENT or (name in LOCAL_ONLY and not files):
        legal = [n for n in names() if files or n.partition(":")[0] not in LOCAL_ONLY]
        raise InvalidInput(f"verifier must be one of {', '.join(legal)}; got {spec!r}")
    make, wanted, _ = WITH_ARGUMENT[name]
    if not argument:
        raise InvalidInput(f"verifier {name!r} needs {wanted}: write {name}:{wanted}")
    return make(argument)
