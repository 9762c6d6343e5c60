"""The host's side: start sandboxes, watch over them, and leave nothing running."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

from ttscale import _check
from ttscale.errors import InvalidInput, SandboxUnavailable
from ttscale.sandbox._built import GUARANTEES, MECHANISMS, Built, Job
from ttscale.sandbox.results import Run
from ttscale.sandbox.settings import LEVELS, Isolation, Limits

START_SECONDS = 20.0
POLL_SECONDS = 0.05
_STDOUT, _STDERR, _STATUS, _VERDICT = "stdout", "stderr", "status", "verdict"
_BARE = ("-I", "-S", "-X", "utf8")
# The packages' own modules, without running the `__init__` of either: no site, no third party.
_BOOT = """
import sys, types
for name in ("ttscale", "ttscale.sandbox"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{root!r} + "/" + name.replace(".", "/")]
from ttscale.sandbox._start import main
sys.exit(main())
"""


@dataclass(slots=True)
class Box:
    """One running sandbox and what has come from it.

    Attributes:
        process: Its keeper; closing its standard input ends all of it.
        pipes: Ends still open, by name.
        got: Bytes that came, by pipe.
    """

    process: subprocess.Popen[bytes]
    pipes: dict[str, int]
    got: dict[str, bytearray] = field(default_factory=dict)

    def lines(self, pipe: str) -> list[dict[str, object]]:
        """The complete lines of JSON that came from a pipe."""
        whole = bytes(self.got.get(pipe, b"")).split(b"\n")[:-1]
        return [json.loads(line) for line in whole]

    def status(self, key: str) -> object:
        """What the sandbox told of itself under a key; None so far."""
        return next((line[key] for line in self.lines(_STATUS) if key in line), None)

    def wrote_too_much(self, most: int) -> bool:
        """Whether an output is longer than `most` bytes."""
        return any(len(self.got.get(name, b"")) > most for name in (_STDOUT, _STDERR))


def available() -> bool:
    """Whether this machine has what the sandbox needs at least: Linux and Python's `pidfd_open`."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def check_request(require: str, without: Sequence[str]) -> None:
    """Raise unless a sandbox can be asked for in this way."""
    _check.choice("require", require, LEVELS)
    if not set(without) <= set(MECHANISMS):
        raise InvalidInput(f"without must be among {', '.join(MECHANISMS)}, got {without!r}")
    if not available():
        raise SandboxUnavailable(
            f"the sandbox needs Linux 5.3 or newer, this is {sys.platform}; "
            "run programs in a container there"
        )


@cache
def runtime(site_packages: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the sandbox's Python needs: files and folders to read, and its module search path."""
    libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"]
    folders = [*libraries, "/etc/ld.so.cache", "/usr/share/zoneinfo"]
    modules = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    modules = [path.replace(sys.prefix, sys.base_prefix, 1) for path in modules]
    paths = [f"{sys.base_prefix}/{sys.platlibdir}/{zipped()}", *modules]
    paths.append(f"{modules[1]}/lib-dynload")
    folders += [f"{sys.base_prefix}/{sys.platlibdir}", *modules]
    if site_packages:
        packages = [path for path in site.getsitepackages() if Path(path).is_dir()]
        paths += packages
        folders += packages
    return _outermost(folders), tuple(dict.fromkeys(paths))


def zipped() -> str:
    """Name of the archive that may hold the standard library."""
    return f"python{sys.version_info.major}{sys.version_info.minor}.zip"


def _outermost(paths: Sequence[str]) -> tuple[str, ...]:
    """Those that exist, without those that lie in another; real folders before links."""
    there = sorted({path for path in paths if Path(path).exists()}, key=len)
    kept: list[str] = []
    for path in there:
        if not any(path.startswith(f"{other}/") for other in kept if not Path(other).is_symlink()):
            kept.append(path)
    return tuple(kept)


@contextmanager
def boxes() -> Iterator[list[Box]]:
    """A list of sandboxes; all that are in it have ended, and their pipes are closed, after it."""
    started: list[Box] = []
    try:
        yield started
    finally:
        for box in started:
            _end(box)


def _end(box: Box) -> None:
    """End a sandbox: its keeper sees its input close, and ends everything inside."""
    if box.process.stdin is not None:
        with suppress(OSError):
            box.process.stdin.close()
    try:
        box.process.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        box.process.kill()  # what is inside dies with it, where there are namespaces
        box.process.wait()
    for pipe in box.pipes.values():
        os.close(pipe)
    box.pipes.clear()


def start(job: Job, folder: str) -> Box:
    """Start the sandbox that does `job`, whose pipes for the other side are set already."""
    ours: dict[str, int] = {}
    theirs: dict[str, int] = {}
    names = [_STDOUT, _STDERR, _STATUS, *([_VERDICT] if job["role"] == "tests" else [])]
    for name in names:
        ours[name], theirs[name] = os.pipe()
    job["folder"], job["status"] = folder, theirs[_STATUS]
    job["verdict"] = theirs.get(_VERDICT, -1)
    passed = {job["status"], job["verdict"], job["inward"], job["outward"]} - {-1}
    boot = _BOOT.format(root=str(Path(__file__).resolve().parents[2]))
    try:
        # A fixed command: the program goes through the pipe.
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *_BARE, "-c", boot, f"for process {os.getpid()}"],
            stdin=subprocess.PIPE,
            stdout=theirs[_STDOUT],
            stderr=theirs[_STDERR],
            pass_fds=sorted(passed),
            env={},
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        for pipe in ours.values():
            os.close(pipe)
        raise
    finally:
        for pipe in theirs.values():
            os.close(pipe)
    box = Box(process, ours)
    with suppress(BrokenPipeError):  # it has died; its status will tell
        if process.stdin is not None:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
    return box


def watch(started: Sequence[Box], limits: Limits, stop: threading.Event) -> str:
    """Read from all pipes until it is over; why it is: `ended`, `time`, `output` or `cancelled`.

    It is over when there is a verdict, or when a sandbox that should give one has ended, or all
    have. The time runs from when all sandboxes stand.
    """
    deadline, begun = time.monotonic() + START_SECONDS, False
    with selectors.DefaultSelector() as selector:
        for box in started:
            for name, pipe in box.pipes.items():
                selector.register(pipe, selectors.EVENT_READ, (box, name))
        while True:
            for key, _ in selector.select(POLL_SECONDS):
                _take(selector, key)
            if any(box.wrote_too_much(limits.output) for box in started):
                return "output"
            if not begun and all(box.status("isolation") for box in started):
                begun, deadline = True, time.monotonic() + limits.seconds
            if stop.is_set():
                return "cancelled"
            if _is_over(started):
                return "ended"
            if time.monotonic() > deadline:
                return "time"


def _take(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    """Read what a pipe has; close it at its end."""
    box, name = key.data
    chunk = os.read(key.fd, 65536)
    box.got.setdefault(name, bytearray()).extend(chunk)
    if not chunk:
        selector.unregister(key.fd)
        os.close(box.pipes.pop(name))


def _is_over(started: Sequence[Box]) -> bool:
    judges = [box for box in started if _VERDICT in box.pipes or _VERDICT in box.got]
    if judges:
        return any(box.lines(_VERDICT) or _VERDICT not in box.pipes for box in judges)
    return not any(box.pipes for box in started)


def job_of(
    role: str,
    source: str,
    limits: Limits,
    *,
    require: str,
    site_packages: bool,
    without: Sequence[str],
) -> Job:
    """A job without its pipes."""
    readable, paths = runtime(site_packages)
    return {
        "role": role,
        "source": source,
        "tests": [],
        "entry_point": None,
        "stdin": "",
        "folder": "",
        "readable": list(readable),
        "paths": list(paths),
        "without": list(without),
        "demands": list(GUARANTEES) if require == "full" else [],
        "status": -1,
        "inward": -1,
        "outward": -1,
        "verdict": -1,
        # The host keeps the time; this is for the case that the host is gone.
        "seconds": limits.seconds + START_SECONDS,
        "memory": limits.memory,
        "disk": limits.disk,
        "threads": limits.threads,
    }


@contextmanager
def folder() -> Iterator[str]:
    """An empty folder to mount a file tree on."""
    path = tempfile.mkdtemp(prefix="ttscale-sandbox-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def isolation_of(box: Box, require: str) -> Isolation:
    """What isolation a sandbox had.

    Raises:
        SandboxUnavailable: Less than `require`, or the sandbox could not be built at all.
    """
    built = box.status("isolation")
    if not isinstance(built, dict):
        said = _text(box, _STDERR).strip()[-500:]
        raise SandboxUnavailable(f"no sandbox could be built: {said or 'its process ended'}")
    isolation = Isolation.of(cast("Built", built))
    missing = box.status("missing")
    if isinstance(missing, list) and missing:
        raise SandboxUnavailable(
            f"require={require!r} demands what this machine does not offer: no guarantee of "
            f"{', '.join(map(str, missing))} (has {isolation}); allow user namespaces, or "
            "Landlock and seccomp, or give require='limits' for programs that you trust"
        )
    return isolation


def run_of(box: Box, why: str, limits: Limits, isolation: Isolation) -> Run:
    """How the program of a sandbox ended."""
    ended = box.status("ended")
    code = ended if isinstance(ended, int) else None
    reason = why if why != "ended" else _reason(code)
    stdout, stderr = (_text(box, name)[: limits.output] for name in (_STDOUT, _STDERR))
    return Run(reason, code, stdout, stderr, isolation)


def _reason(code: int | None) -> str:
    """The reason for the end of a program that was not stopped before it."""
    if code is None:
        return "stopped"
    return "finished" if code == 0 else "failed" if code > 0 else "signal"


def verdict_of(box: Box, count: int, why: str) -> tuple[str | None, ...]:
    """What the tests' sandbox said of each test; the same reason for all when it said nothing."""
    lines = box.lines(_VERDICT)
    if lines and isinstance(lines[0], list) and len(lines[0]) == count:
        return tuple(lines[0])
    reasons = {
        "time": "the tests were not done in time",
        "output": "the program wrote too much",
        "cancelled": "cancelled",
    }
    said = _text(box, _STDERR).strip()[-200:]
    return (reasons.get(why, f"the tests ended without a verdict {said}".strip()),) * count


def _text(box: Box, name: str) -> str:
    return bytes(box.got.get(name, b"")).decode("utf-8", "replace")
