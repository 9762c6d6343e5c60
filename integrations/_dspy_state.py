"""What DSPy keys its cache by and saves: settings as plain JSON values, engines by their model."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.sampling import Sampler
from ttscale.strategies import BestOfN, SelfConsistency, VerifierRerank
from ttscale.verifiers import SelfJudge

LOCAL_ENGINE = "ttscale.worker.engine:LocalEngine"
_CLASS, _OBJECT = "class", "object"

_live: weakref.WeakValueDictionary[tuple[str, str], Engine] = weakref.WeakValueDictionary()
_tokens: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_held: dict[int, tuple[object, str]] = {}
_started: list[Engine] = []


def path_of(value: object) -> str:
    """`module:name` of a class or function, or of the class of an object."""
    named: Any = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"


_REBUILT = {
    path_of(kind): kind
    for kind in (BestOfN, SelfConsistency, VerifierRerank, SelfJudge, Sampler, ESamp)
}


def describe(value: object, skip: Iterable[str] = ()) -> Any:
    """`value` as JSON values; equal descriptions mean equal settings.

    Dataclasses are described by class and fields (without those named in `skip`). Functions and
    other objects get a token that is unique to this process, because nothing tells whether two of
    them do the same.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: describe(getattr(value, f.name)) for f in fields(value)}
        return {_CLASS: path_of(value), **{k: v for k, v in own.items() if k not in skip}}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    return {_OBJECT: path_of(value), "token": _token(value)}


def rebuild(plain: Any) -> Any:
    """The value that `describe` has described.

    Raises:
        InvalidInput: It contains a function, an object or a class that is not ttscale's own.
    """
    if isinstance(plain, list):
        return tuple(rebuild(item) for item in plain)
    if not isinstance(plain, dict):
        return plain
    if _OBJECT in plain:
        raise InvalidInput(
            f"{plain[_OBJECT]} cannot be saved with a program; save without the LM "
            "(program.set_lm(None)) and set it again after loading"
        )
    settings = {key: rebuild(item) for key, item in plain.items() if key != _CLASS}
    if _CLASS not in plain:
        return settings
    if plain[_CLASS] not in _REBUILT:
        raise InvalidInput(
            f"class {plain[_CLASS]!r} cannot be rebuilt from a saved program; "
            f"classes that can are {', '.join(_REBUILT)}"
        )
    return _REBUILT[plain[_CLASS]](**settings)


def remember(engine: Engine) -> None:
    """Let programs that are loaded later find this engine, for as long as it lives."""
    _live[path_of(type(engine)), engine.model] = engine


def describe_engine(engine: Engine) -> dict[str, str]:
    """The engine as it is saved: its class and its model."""
    return {_CLASS: path_of(type(engine)), "model": engine.model}


def find_engine(record: Mapping[str, str]) -> Engine:
    """The live engine of this class and model; a `LocalEngine` is started when there is none.

    Raises:
        InvalidInput: No such engine lives in this process, and it is not one to start.
    """
    key = (record[_CLASS], record["model"])
    if (engine := _live.get(key)) is not None:
        return engine
    if key[0] == LOCAL_ENGINE:
        from ttscale.worker.engine import LocalEngine

        engine = LocalEngine(key[1])
        remember(engine)
        _started.append(engine)  # only the program knows it, and loading rebuilds each LM twice
        return engine
    raise InvalidInput(
        f"the program was saved with an engine {key[0]} of model {key[1]!r}, which this process "
        "does not have; make it and an ESampLM of it before loading"
    )


def _token(value: object) -> str:
    try:
        return _tokens.setdefault(value, uuid.uuid4().hex)
    except TypeError:  # neither hashable nor weakly referable: held, so that its id stays its own
        return _held.setdefault(id(value), (value, uuid.uuid4().hex))[1]
