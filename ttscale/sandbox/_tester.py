"""The tests' side: runs them in a process that the program cannot reach.

The program's functions and classes are there under their names; a call goes over to the program,
and what comes back is plain data. So the program can neither see the tests nor touch what checks
them: all it can do for a pass is to return what they want.
"""

from __future__ import annotations

import builtins
import io
import json
import linecache
import os
import sys
import traceback
import types
import unittest

from ttscale.sandbox._built import Job
from ttscale.sandbox._peer import Lost, Peer

NAME = "tests.py"
MAX_TOLD = 500


def run(job: Job) -> int:
    """Run every test and write one line: for each None, or why it failed."""
    verdict = os.fdopen(job["verdict"], "wb")
    reader, writer = os.fdopen(job["inward"], "rb"), os.fdopen(job["outward"], "wb")
    peer = Peer(reader, writer, open_objects=False)
    try:
        names = _loaded(peer)
        results = [_failure(test, names, job["entry_point"]) for test in job["tests"]]
    except (Lost, ValueError, RecursionError) as error:
        results = [f"the program did not load: {error}"] * len(job["tests"])
    verdict.write(json.dumps(results).encode() + b"\n")
    verdict.close()
    return 0


def _loaded(peer: Peer) -> dict[str, object]:
    """What the program offers, by name."""
    word, message = peer.hear()
    if word != "ready" or not isinstance(message, dict):
        raise Lost(str(message)[:MAX_TOLD])
    names, errors = message["names"], message["errors"]
    if not isinstance(names, dict) or not isinstance(errors, dict):
        raise Lost("the program answers out of turn")
    for name, bases in errors.items():
        peer.errors[name] = names[name] = type(name, (_builtin_base(bases),), {})
    return names


def _builtin_base(names: list[str]) -> type[Exception]:
    """The nearest class of exceptions that Python itself has."""
    for name in names:
        found = getattr(builtins, name, None)
        if isinstance(found, type) and issubclass(found, Exception):
            return found
    return Exception


def _failure(test: str, names: dict[str, object], entry_point: str | None) -> str | None:
    """Why a test fails, or None when it has run to its end."""
    linecache.cache[NAME] = (len(test), None, test.splitlines(keepends=True), NAME)
    try:
        _run(test, names, entry_point)
    except BaseException as error:  # noqa: BLE001 - also SystemExit: the test did not pass
        return _described(error)[:MAX_TOLD]
    return None


def _run(test: str, names: dict[str, object], entry_point: str | None) -> None:
    """Run the test's text, then what it defines: `check`, `test_*` functions, test cases."""
    module = types.ModuleType("tests")
    module.__dict__.update(names)
    for alias in ("program", "solution"):
        sys.modules[alias] = types.ModuleType(alias)
        sys.modules[alias].__dict__.update(names)
    sys.modules["tests"] = module
    exec(compile(test, NAME, "exec"), module.__dict__)  # noqa: S102 - in a sandbox as well
    own = {key: value for key, value in vars(module).items() if value is not names.get(key)}
    if entry_point is not None:
        if entry_point not in names:
            raise NameError(f"the program does not define {entry_point}")
        if isinstance(check := own.get("check"), types.FunctionType):
            check(names[entry_point])
    for key, value in own.items():
        if key.startswith("test") and isinstance(value, types.FunctionType):
            value()
        elif isinstance(value, type) and issubclass(value, unittest.TestCase):
            _run_case(value)


def _run_case(case: type[unittest.TestCase]) -> None:
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    result = unittest.TextTestRunner(io.StringIO()).run(suite)
    if not result.wasSuccessful():
        raise AssertionError([text for _, text in result.failures + result.errors])


def _described(error: BaseException) -> str:
    """The error, and the line of the tests that it came from."""
    said = traceback.format_exception_only(error)[-1].strip()
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == NAME]
    return f"line {lines[-1].lineno}, {lines[-1].line}: {said}" if lines else said
