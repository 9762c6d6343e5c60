"""The program's side: run it as a script, or load it and answer for its functions."""

from __future__ import annotations

import os
import sys
import traceback
import types

from ttscale.sandbox._built import Job
from ttscale.sandbox._peer import Lost, Peer

NAME = "program.py"
_BROKEN, _LOST = 1, 3


def execute(job: Job) -> int:
    """Run the program as a script, with its standard input; its end is this process's end."""
    try:
        _run(job["source"], "__main__")
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - the program's own
        traceback.print_exc()
        raise SystemExit(_BROKEN) from None
    raise SystemExit(0)


def serve(job: Job) -> int:
    """Load the program and answer the tests' questions until they are gone."""
    # Opened before the program runs, which could close them, and would then have failed.
    reader, writer = os.fdopen(job["inward"], "rb"), os.fdopen(job["outward"], "wb")
    peer = Peer(reader, writer, open_objects=True)
    try:
        module = _run(job["source"], "program")
    except BaseException as error:  # noqa: BLE001 - the program's own; the tests are told
        _tell_failure(peer, error)
        return _BROKEN
    try:
        peer.tell("ready", _public(module))
        peer.serve()
    except Lost:
        return _LOST
    return 0


def _run(source: str, name: str) -> types.ModuleType:
    """Run the program's text in a module of its own."""
    module = types.ModuleType(name)
    module.__file__ = NAME
    sys.modules[name] = module
    code = compile(source, NAME, "exec")
    exec(code, module.__dict__)  # noqa: S102 - the sandbox is what this is for
    return module


def _tell_failure(peer: Peer, error: BaseException) -> None:
    try:
        peer.tell("broken", f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - a foreign __str__, or no one is there to be told
        return


def _public(module: types.ModuleType) -> dict[str, object]:
    """What tests can use: values by name, and for exception classes their builtin bases."""
    names = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType)
    }
    errors = {
        name: [base.__name__ for base in value.__mro__]
        for name, value in names.items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    return {"names": names, "errors": errors}
