"""Judging a contest's program: it is run on an input, or its function is called, in the sandbox.

What counts as equal is LiveCodeBench's rule: outputs by line, without the white space around it,
a line also by the numbers in it; returned values by `==`, a tuple as a list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ttscale.errors import InvalidInput

SECONDS = 6.0
"""For each test, as in LiveCodeBench."""

STARTING = 2.0
"""Seconds that a sandbox and the imports may take beside."""

MEMORY = 1 << 30
MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json", "builtins"),
    "typing",
)
"""What LiveCodeBench imports in front of every program, in that order."""

PRELUDE = (
    "\n".join(f"from {name} import *" for name in MODULES)
    + f"\nimport {', '.join(name for name in MODULES if name not in ('builtins', 'typing'))}"
    + "\nsys.setrecursionlimit(50000)\n"
)

CALLS = """\
import builtins as _builtins
import json as _json
import signal as _signal

def _late(*_):
    raise _builtins.TimeoutError("more than {seconds:g} seconds")

_signal.signal(_signal.SIGALRM, _late)
_method = {method}
for _given, _wanted in _json.loads({cases!r}):
    _signal.setitimer(_signal.ITIMER_REAL, {seconds})
    _got = _method(*[_json.loads(line) for line in _given.split("\\n")])
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    if _builtins.isinstance(_got, _builtins.tuple):
        _got = _builtins.list(_got)
    if not (_got == _json.loads(_wanted)):
        raise _builtins.AssertionError("wrong answer")
"""
"""The test of a function. Names of its own throughout: the program's are there as well."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test: what a program reads and must write, or arguments (one a line) and the result."""

    given: str
    wanted: str


def passes(program: str, cases: Sequence[Case], function: str | None = None) -> bool:
    """Whether a program passes every test.

    Args:
        program: Its text.
        cases: The tests, of one kind.
        function: Name of the function (or method of `Solution`) that is called; None runs the
            program for each test.

    Raises:
        InvalidInput: The name is none, or a test of a function holds no JSON.
        SandboxUnavailable: The machine cannot isolate programs.
    """
    if function is not None:
        return _called(program, cases, function)
    return all(_run(program, case) for case in cases)


def same_output(written: str, wanted: str) -> bool:
    """Whether two outputs are equal, line by line; numbers by value (decimals, exactly)."""
    ours, theirs = _lines(written), _lines(wanted)
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_line(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    try:
        return _numbers(ours) == _numbers(theirs)
    except (InvalidOperation, ValueError):
        return False


def _numbers(line: str) -> list[Decimal]:
    return [Decimal(word) for word in line.split()]


def _run(program: str, case: Case) -> bool:
    from ttscale import sandbox

    room = 2 * len(case.wanted.encode()) + 64 * 1024
    limits = sandbox.Limits(seconds=SECONDS + STARTING, memory=MEMORY, output=room)
    run = sandbox.run_program(PRELUDE + program, stdin=case.given, limits=limits)
    return run.reason == "finished" and same_output(run.stdout, case.wanted)


def _called(program: str, cases: Sequence[Case], function: str) -> bool:
    from ttscale import sandbox

    if not function.isidentifier():
        raise InvalidInput(f"the name of the function must be a Python name, got {function!r}")
    for case in cases:
        try:
            json.loads(case.wanted)
            [json.loads(line) for line in case.given.split("\n")]
        except ValueError as error:
            raise InvalidInput(f"a test of {function!r} must hold JSON: {error}") from error
    method = f"Solution().{function}" if "class Solution" in program else function
    listed = json.dumps([[case.given, case.wanted] for case in cases])
    test = CALLS.format(method=method, cases=listed, seconds=SECONDS)
    seconds = min(3600.0, (SECONDS + 1) * len(cases) + 5 + STARTING)
    limits = sandbox.Limits(seconds=seconds, memory=MEMORY)
    return sandbox.run_tests(PRELUDE + program, test, limits=limits).ok
