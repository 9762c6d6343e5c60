"""The sandbox: what programs and tests can do in it, and what it says of itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ttscale.errors import InvalidInput, SandboxUnavailable
from ttscale.sandbox import Isolation, Limits, isolation, run_program, run_tests
from ttscale.sandbox.runs import in_thread

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/task") or isolation().level != "full",
    reason="this machine cannot isolate programs",
)
LIMITS = Limits(seconds=5)
ROOT = Path(__file__).resolve().parent.parent

PROGRAM = '''
from dataclasses import dataclass
from fractions import Fraction

LIMIT = 7

class Odd(ValueError):
    """Raised for odd numbers."""

@dataclass
class Point:
    x: int
    y: int = 0

    def moved(self, by):
        return Point(self.x + by, self.y)

    def __add__(self, other):
        return Point(self.x + other.x, self.y + other.y)

def half(n):
    if n % 2:
        raise Odd(f"{n} is odd")
    return n // 2

def same(value):
    return value

def sort(items):
    items.sort()

def apply(function, items):
    return [function(item) for item in items]

def count():
    n = 0
    while True:
        yield n
        n += 1

def first(n):
    return (i * i for i in range(n))

def mixed():
    return {"a": [1, (2, 3)], "b": {4, 5}, 6: Fraction(1, 2), "f": float("nan"), "i": 10**50}
'''

TESTS = {
    "values": "assert half(4) == 2 and LIMIT == 7",
    "mixed": (
        "from fractions import Fraction\nm = mixed()\nassert m['f'] != m.pop('f')\n"
        "assert m == {'a': [1, (2, 3)], 'b': {4, 5}, 6: Fraction(1, 2), 'i': 10**50}"
    ),
    "types-survive": (
        "for value in (None, True, -3, 2**70, 0.1, float('inf'), 'é\\ud800', b'x',\n"
        "              bytearray(b'y'), [1, [2]], (1,), {1}, frozenset({2}), {(1, 2): None}, 1j,\n"
        "              range(3), int):\n"
        "    assert same(value) == value and type(same(value)) is type(value), value"
    ),
    "in-place": "items = [3, 1, 2]\nassert sort(items) is None\nassert items == [1, 2, 3]",
    "functions-as-arguments": "assert apply(lambda x: x + 1, [1, 2]) == [2, 3]",
    "function-that-raises": (
        "try:\n    apply(lambda x: 1 // x, [0])\nexcept ZeroDivisionError:\n    pass\n"
        "else:\n    raise AssertionError"
    ),
    "own-exception": (
        "try:\n    half(3)\nexcept Odd as error:\n    assert str(error) == '3 is odd'\n"
        "else:\n    raise AssertionError\n"
        "try:\n    half(3)\nexcept ValueError:\n    pass"
    ),
    "objects": (
        "p = Point(1, 2)\nassert p.x == 1 and p.moved(3).x == 4\n"
        "assert p == Point(1, 2) and p != Point(1, 3) and isinstance(p, Point)\n"
        "assert (p + Point(1, 1)).y == 3\np.x = 9\nassert p.x == 9\n"
        "assert repr(p) == 'Point(x=9, y=2)'"
    ),
    "generators": (
        "assert list(first(4)) == [0, 1, 4, 9]\nn = count()\nassert next(n) == 0 and next(n) == 1\n"
        "import itertools\nassert list(itertools.islice(count(), 3)) == [0, 1, 2]"
    ),
    "test-functions": "def test_half():\n    assert half(8) == 4",
    "unittest": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(half(2), 1)\n        with self.assertRaises(ValueError):\n"
        "            half(1)"
    ),
    "import": "from solution import half as h\nimport program\nassert h(4) == program.half(4) == 2",
    "check": "def check(candidate):\n    assert candidate(6) == 3",
}


def test_tests_use_what_the_program_defines() -> None:
    """Values, functions, classes, exceptions and generators work over the border."""
    verdict = run_tests(PROGRAM, list(TESTS.values()), entry_point="half", limits=LIMITS)

    assert dict(zip(TESTS, verdict.failures, strict=True)) == dict.fromkeys(TESTS)
    assert verdict.ok
    assert verdict.passed == len(TESTS)


def test_each_failing_test_says_why() -> None:
    """A test fails alone, with the line and the error; also without a function or a check."""
    tests = [
        "assert half(4) == 2",
        "x = 4\nassert half(x) == 3",
        "assert half(3) == 1",
        "def test_a():\n    raise SystemExit(0)",
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        self.fail()",
        "assert nothing(1)",
        "x = (",
    ]
    verdict = run_tests(PROGRAM, tests, limits=LIMITS)

    assert verdict.passed == 1
    assert verdict.failures[1] == "line 2, assert half(x) == 3: AssertionError"
    assert "3 is odd" in (verdict.failures[2] or "")
    assert "SystemExit" in (verdict.failures[3] or "")
    assert "AssertionError" in (verdict.failures[4] or "")
    assert "NameError" in (verdict.failures[5] or "")
    assert "SyntaxError" in (verdict.failures[6] or "")


def test_missing_function_fails_the_tests() -> None:
    """A program without the function that is tested has not passed, whatever the tests say."""
    verdict = run_tests("x = 1", "def check(candidate):\n    pass", entry_point="f", limits=LIMITS)

    assert verdict.failures == ("NameError: the program does not define f",)


def test_script_reads_and_writes() -> None:
    """A script has its input, both outputs and its exit status; its folder can be written."""
    source = (
        "import sys\ntext = sys.stdin.read()\nopen('f', 'w').write(text)\n"
        "print(open('f').read().upper(), end='')\nprint('oops', file=sys.stderr)\nsys.exit(3)"
    )
    run = run_program(source, stdin="abc é", limits=LIMITS)

    assert (run.reason, run.exit_code) == ("failed", 3)
    assert (run.stdout, run.stderr) == ("ABC É", "oops\n")


@pytest.mark.parametrize(
    ("source", "reason", "code"),
    [
        ("print(1)", "finished", 0),
        ("import __main__\nassert __name__ == '__main__' and __main__.__dict__ is globals()",
         "finished", 0),
        ("1 / 0", "failed", 1),
        ("import os\nos.kill(os.getpid(), 9)", "signal", -signal.SIGKILL),
        ("import os\nos.abort()", "signal", -signal.SIGABRT),
    ],
)  # fmt: skip
def test_end_of_a_script_is_told(source: str, reason: str, code: int) -> None:
    """An exit status, an exception and a signal are told apart."""
    run = run_program(source, limits=LIMITS)

    assert (run.reason, run.exit_code) == (reason, code)


def test_standard_library_is_there_and_packages_are_not() -> None:
    """Programs import Python's own modules; what else is installed only when that is wished."""
    run = run_program("import decimal, sqlite3, ssl, zoneinfo, asyncio, ctypes\nimport httpx")

    assert "No module named 'httpx'" in run.stderr
    assert run_program("import httpx", site_packages=True).reason == "finished"


def test_isolation_is_told() -> None:
    """What held a program is a record, and a line to read."""
    found = isolation()

    assert found.level == "full"
    assert found.guarantees == ("limits", "processes", "network", "files")
    assert str(found).startswith("full: ")
    assert Isolation().level == "limits"
    assert str(Isolation()).endswith("holds: nothing")


def test_too_little_isolation_is_refused_before_the_program_runs(tmp_path: Path) -> None:
    """Without a way to close off files nothing runs, and the error says what is missing."""
    source = f"open({str(tmp_path / 'x')!r}, 'w')"

    with pytest.raises(SandboxUnavailable, match="no guarantee of files"):
        run_program(source, without=("namespaces", "landlock"))
    with pytest.raises(SandboxUnavailable, match="no guarantee of files"):
        run_tests(source, "assert True", without=("namespaces", "landlock"))

    assert not (tmp_path / "x").exists()


def test_limits_alone_can_be_asked_for() -> None:
    """For trusted programs less may do; the record says that it was less."""
    run = run_program("print(1)", require="limits", without=("namespaces", "landlock", "seccomp"))

    assert run.stdout == "1\n"
    assert (run.isolation.level, run.isolation.guarantees) == ("limits", ("limits",))


def test_no_process_is_left_even_without_namespaces() -> None:
    """With limits alone a process that left the program's session is found and ended."""
    source = (
        "import os, time\nfor i in range(3):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        time.sleep(100)\nprint('left')"
    )
    run = run_program(source, require="limits", without=("namespaces", "landlock", "seccomp"))

    assert (run.reason, run.stdout) == ("finished", "left\n")
    assert running() == 0


def running(owner: int | None = None) -> int:
    """How many processes of sandboxes run that a process has started."""
    wanted = f"for process {owner or os.getpid()}".encode()
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            count += wanted in (folder / "cmdline").read_bytes()
        except OSError:
            continue
    return count


async def test_cancelling_ends_the_sandbox() -> None:
    """Once the caller is cancelled nothing runs any more."""
    begun = threading.Event()

    def work(stop: threading.Event) -> object:
        begun.set()
        return run_program("while True: pass", limits=Limits(seconds=100), stop=stop)

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert running() == 0


def test_sandbox_ends_with_its_host() -> None:
    """When the host is killed the sandbox does not outlive it."""
    code = (
        "from ttscale.sandbox import Limits, run_program\n"
        "run_program('while True: pass', limits=Limits(seconds=600))"
    )
    host = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: running(host.pid) >= 3)
    finally:
        host.kill()
        host.wait()
    until(lambda: running(host.pid) == 0)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.05)
    pytest.fail("waited for 30 s in vain")


def _python_for_all() -> str | None:
    """An interpreter that every user may run."""
    for path in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        real = Path(path).resolve()
        if real.exists() and all(p.stat().st_mode & 0o005 == 0o005 for p in real.parents):
            return path
    return None


@pytest.mark.skipif(os.getuid() != 0, reason="the other tests run without privileges already")
def test_sandbox_works_without_privileges() -> None:
    """A user who may nothing gets the same guarantees, through a user namespace or Landlock."""
    python = _python_for_all()
    if python is None:
        pytest.skip("no interpreter that other users may run")
    code = textwrap.dedent(
        """
        import os, sys, types
        os.setgroups([]); os.setresgid(4242, 4242, 4242); os.setresuid(4242, 4242, 4242)
        import ttscale.sandbox as sandbox
        source = "def f(x):\\n    open('/tmp/own', 'w').close()\\n    return x + 1"
        verdict = sandbox.run_tests(source, "assert f(1) == 2")
        assert verdict.run.isolation.level == "full", verdict
        assert verdict.ok or not verdict.run.isolation.own_tree, verdict
        stolen = sandbox.run_program("print(open('/etc/passwd').read())")
        assert stolen.stdout == "" and stolen.exit_code == 1, stolen
        """
    )
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    env = {"PYTHONPATH": f"{ROOT}:{packages}", "HOME": "/tmp"}  # noqa: S108 - its own home has none
    done = subprocess.run(
        [python, "-c", code], env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "settings",
    [{"seconds": 0}, {"memory": 10}, {"disk": 0}, {"output": 0}, {"threads": 0}, {"seconds": 1e9}],
)
def test_bad_limits_are_refused(settings: dict[str, float]) -> None:
    """A limit outside its range is refused at construction."""
    with pytest.raises(InvalidInput, match="must be"):
        Limits(**settings)  # type: ignore[arg-type]


def test_bad_requests_are_refused() -> None:
    """A level, a mechanism and tests are checked before anything starts."""
    with pytest.raises(InvalidInput, match="require must be one of full, limits"):
        run_program("", require="most")
    with pytest.raises(InvalidInput, match="without must be among"):
        run_program("", without=("chroot",))
    with pytest.raises(InvalidInput, match="tests must be"):
        run_tests("", [])
    with pytest.raises(InvalidInput, match="tests must be"):
        run_tests("", "  ")
