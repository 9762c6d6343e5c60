"""Hostile programs: each is contained, none passes its tests, nothing is left running."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ttscale.sandbox import Limits, isolation, run_program, run_tests

pytestmark = pytest.mark.skipif(
    not os.path.exists("/proc/self/task") or isolation().level != "full",
    reason="this machine cannot isolate programs",
)
MEBIBYTE = 1024 * 1024
LIMITS = Limits(seconds=0.8, memory=256 * MEBIBYTE, disk=4 * MEBIBYTE)
RIGHT = "def f(x):\n    return 5309 if x == 867 else None\n"
WANTED = "assert f(867) == 5309"
WAYS = {"all": (), "no-namespaces": ("namespaces",)}

# What is attacked: {secret} and {target} are files of the host, {port} a socket that it listens on,
# {host} its process. Where success is told by the answer, it is the answer that the tests want.
PROGRAMS = {
    "ends-before-the-tests": "import sys\nsys.exit(0)",
    "ends-at-once": "import os\nos._exit(0)",
    "ends-when-called": "import os\ndef f(x):\n    os._exit(0)",
    "raises-system-exit": "def f(x):\n    raise SystemExit(0)",
    "raises-keyboard-interrupt": "def f(x):\n    raise KeyboardInterrupt",
    "ends-at-exit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x):\n    return 1",
    "answers-in-del": (
        "import os\nclass A:\n    def __del__(self):\n        os.write(1, b'[null]')\nkept = A()\n"
        "def f(x):\n    return kept"
    ),
    "fork-bomb": "import os\nwhile True:\n    os.fork()",
    "fork-bomb-that-persists": (
        "import os\ndef f(x):\n    while True:\n        try:\n            os.fork()\n"
        "        except OSError:\n            pass"
    ),
    "daemon": (
        "import os, time\ndef f(x):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork() == 0:\n            time.sleep(60)\n        os._exit(0)\n"
        "    return 5309"
    ),
    "other-program": "import os\nos.execv('/bin/sh', ['sh', '-c', 'sleep 60'])",
    "thread-bomb": (
        "import threading, time\ndef f(x):\n    while True:\n"
        "        threading.Thread(target=time.sleep, args=(60,)).start()"
    ),
    "memory": "def f(x):\n    kept = []\n    while True:\n        kept.append(bytearray(10**7))",
    "memory-at-once": "def f(x):\n    return len(bytearray(10**11)) and 5309",
    "memory-outside-of-the-heap": (
        "import os\ndef f(x):\n    for i in range(100):\n"
        "        os.write(os.memfd_create('m'), bytes(10**6))\n    return 5309"
    ),
    "disk": "def f(x):\n    with open('big', 'wb') as file:\n        while True:\n"
    "            file.write(bytes(10**6))",
    "disk-in-many-files": (
        "def f(x):\n    for i in range(10**6):\n        with open(f'x{{i}}', 'wb') as file:\n"
        "            file.write(bytes(10**5))\n    return 5309"
    ),
    "writes-outside": "def f(x):\n    open({target!r}, 'w').close()\n    return 5309",
    "writes-in-other-folders": (
        "import os\ndef f(x):\n    done = []\n"
        "    for folder in ('/', '/usr/lib', '/etc', '/dev', '/root', '/home'):\n        try:\n"
        "            open(folder + '/x', 'w').close()\n            done.append(folder)\n"
        "        except OSError:\n            pass\n    return done and 5309"
    ),
    "changes-the-mode-of-a-file": (
        "import os\ndef f(x):\n    os.chmod({secret!r}, 0o777)\n    return 5309"
    ),
    "reads-outside": "def f(x):\n    return open({secret!r}).read() and 5309",
    "reads-users": "def f(x):\n    return open('/etc/passwd').read() and 5309",
    "symlink": (
        "import os\ndef f(x):\n    os.symlink({secret!r}, 'link')\n"
        "    return open('link').read() and 5309"
    ),
    "environment": (
        "import os\ndef f(x):\n    found = str(dict(os.environ))\n"
        "    for place in ('self', '1', str(os.getppid())):\n        try:\n"
        "            found += open('/proc/' + place + '/environ').read()\n"
        "        except OSError:\n            pass\n"
        "    return 'hunter2' in found and 5309"
    ),
    "network": (
        "import socket\ndef f(x):\n    socket.create_connection(('127.0.0.1', {port}))\n"
        "    return 5309"
    ),
    "datagram": (
        "import socket\ndef f(x):\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    return s.sendto(b'x', ('127.0.0.1', {port})) and 5309"
    ),
    "signals": (
        "import os\ndef f(x):\n    sent = []\n    for number in (os.getppid(), {host}, -1):\n"
        "        try:\n            os.kill(number, 9)\n            sent.append(number)\n"
        "        except OSError:\n            pass\n    return sent and 5309"
    ),
    "tracing": (
        "import ctypes, os\ndef f(x):\n    libc = ctypes.CDLL(None)\n"
        "    return libc.ptrace(16, os.getppid(), 0, 0) == 0 and 5309"
    ),
    "reads-the-parents-memory": (
        "import os\ndef f(x):\n    return open(f'/proc/{{os.getppid()}}/mem', 'rb') and 5309"
    ),
    "mounts": (
        "import ctypes\ndef f(x):\n    libc = ctypes.CDLL(None)\n"
        "    got = [libc.unshare(0x10000000), libc.mount(b'none', b'/tmp', b'tmpfs', 0, None),\n"
        "           libc.chroot(b'.')]\n    return 0 in got and 5309"
    ),
    "endless-output": "while True:\n    print('x' * 1000)",
    "endless-errors": (
        "import sys\ndef f(x):\n    while True:\n        sys.stderr.write('x' * 1000)"
    ),
    "endless-loop": "def f(x):\n    while True:\n        pass",
    "endless-loop-on-loading": "while True:\n    pass",
    "sleeps": "import time\ndef f(x):\n    time.sleep(10**6)",
    "ignores-signals": (
        "import signal\nfor number in range(1, 65):\n    try:\n"
        "        signal.signal(number, signal.SIG_IGN)\n    except (OSError, ValueError):\n"
        "        pass\ndef f(x):\n    while True:\n        pass"
    ),
    "crashes": "import ctypes\ndef f(x):\n    ctypes.string_at(0)",
    "recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return f(x) + 1"
    ),
    "recursion-in-c": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    for i in range(10**6):\n"
        "        x = [x]\n    return repr(x) and 5309"
    ),
    "changes-the-checker": (
        "import builtins, sys, unittest\nclass Nothing(Exception):\n    pass\n"
        "builtins.AssertionError = Nothing\nbuiltins.compile = lambda *a: a\n"
        "builtins.exec = lambda *a: None\nunittest.TestCase.assertEqual = lambda *a: None\n"
        "sys.modules['tests'] = None\nsys.settrace(lambda *a: None)\ndef f(x):\n    return 0"
    ),
    "equals-everything": (
        "class Any(int):\n    def __eq__(self, other):\n        return True\n"
        "    def __sub__(self, other):\n        return 0\n    __hash__ = None\n"
        "def f(x):\n    return Any(0)"
    ),
    "equals-everything-without-a-number": (
        "class Any:\n    def __eq__(self, other):\n        return True\n"
        "    __req__ = __eq__\n    def __getattr__(self, name):\n        return lambda *a: True\n"
        "def f(x):\n    return Any()"
    ),
    "looks-for-the-answer": (
        "import gc, sys\ndef f(x):\n    marker, frame = 'assert f' + chr(40), sys._getframe()\n"
        "    seen = [item for item in gc.get_objects() if type(item) in (str, list, dict)]\n"
        "    while frame:\n        seen += [*frame.f_locals.values(), *frame.f_globals.values()]\n"
        "        frame = frame.f_back\n"
        "    for item in seen:\n        if marker in str(item):\n"
        "            return int(str(item).split(marker)[1].split('== ')[1][:4])"
    ),
    "writes-verdicts": (
        "import os\ndef f(x):\n    for pipe in range(64):\n        try:\n"
        "            os.write(pipe, b'[null]\\n')\n        except OSError:\n            pass\n"
        "    return 0"
    ),
    "closes-files": "import os\nos.closerange(0, 64)\ndef f(x):\n    return 5309",
    "never-answers": (
        "import os, time\ndef f(x):\n    os.closerange(0, 64)\n    time.sleep(10**6)"
    ),
    "too-long-an-answer": "def f(x):\n    return 'x' * (20 * 2**20)",
    "too-deep-an-answer": (
        "def f(x):\n    for i in range(10**5):\n        x = [x]\n    return x"
    ),
    "error-that-cannot-be-told": (
        "class E(Exception):\n    def __str__(self):\n        raise self\n"
        "def f(x):\n    raise E()"
    ),
    "reaches-into-the-tests": (
        "def f(g):\n    return g.__globals__ and 5309"
    ),
    "no-python": "def f(x) return (((",
    "null-byte": "x = 1\0",
    "deep-source": "x = " + "(" * 100_000 + ")" * 100_000,
    "not-there": "def g(x):\n    return 5309",
}  # fmt: skip

# What the kernel must refuse is tried in both ways of isolation, the rest in one.
KERNEL = {
    "fork-bomb", "daemon", "other-program", "thread-bomb", "memory-outside-of-the-heap", "disk",
    "disk-in-many-files", "writes-outside", "writes-in-other-folders", "changes-the-mode-of-a-file",
    "reads-outside", "reads-users", "symlink", "environment", "network", "datagram", "signals",
    "tracing", "reads-the-parents-memory", "mounts", "writes-verdicts",
}  # fmt: skip
CASES = [(name, way) for name in PROGRAMS for way in WAYS if way == "all" or name in KERNEL]


def left_running() -> list[str]:
    """Command lines of sandboxes that were started for this process and still run."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if folder.name.isdigit() and f"for process {os.getpid()}" in line:
            found.append(f"{folder.name} {line}")
    return found


@pytest.mark.parametrize(("name", "way"), CASES)
def test_hostile_program_is_contained_and_does_not_pass(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tests fail, its target is as it was, and no process of it is left."""
    secret, target = tmp_path / "secret", tmp_path / "target"
    secret.write_text("the secret")
    secret.chmod(0o644)
    monkeypatch.setenv("SECRET", "hunter2")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        where = {
            "secret": str(secret),
            "target": str(target),
            "port": listening.getsockname()[1],
            "host": os.getpid(),
        }
        source = PROGRAMS[name].format(**where)
        asked = WANTED if name != "reaches-into-the-tests" else "assert f(lambda: 1) == 5309"
        verdict = run_tests(source, asked, limits=LIMITS, without=WAYS[way])
        with pytest.raises(BlockingIOError):
            listening.accept()

    assert not verdict.ok
    assert verdict.run.isolation.level == "full"
    assert left_running() == []
    assert not target.exists()
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("the secret", 0o644)


@pytest.mark.parametrize("way", WAYS)
def test_right_program_passes(way: str) -> None:
    """What fails above fails for its own sake, not for the sandbox's."""
    verdict = run_tests(RIGHT, WANTED, limits=LIMITS, without=WAYS[way])

    assert verdict.ok
    assert verdict.failures == (None,)


@pytest.mark.parametrize("way", WAYS)
def test_hostile_script_is_stopped(way: str) -> None:
    """A script that writes without end is stopped as soon as it has written too much."""
    run = run_program("while True:\n    print('x' * 1000)", limits=LIMITS, without=WAYS[way])

    assert (run.reason, run.exit_code) == ("output", None)
    assert len(run.stdout) == LIMITS.output
    assert left_running() == []
