"""The judge: compares two formulas in a helper process that can be stopped at any moment.

sympy may take hours or all memory for a short formula, and no limit inside its own process holds
on every thread. So formulas go to a child that this module starts on first need, kills when a
comparison exceeds its time, and starts again for the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from functools import cache

DEFAULT_LIMIT = 1.5  # seconds; with the end of the process a comparison stays below 2
START_LIMIT = 120.0
MAX_FORMULA = 300
MAX_REMEMBERED = 4096

_log = logging.getLogger(__name__)
_CONTROL = re.compile(r"\\([A-Za-z]+)")
_SAFE = re.compile(r"[0-9A-Za-z+\-*/^(){}.,=<>|!\\ ]+")
_COMMANDS = (
    "frac sqrt pi sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln exp binom"
    " times cdot div le ge ne lt gt infty theta alpha beta gamma lambda mu phi"
)
_KNOWN = frozenset(_COMMANDS.split())


class Judge:
    """One helper process, started on first need; safe to use from any thread.

    Attributes:
        limit: Longest time of one comparison, in seconds; the start of the process, about a second
            and only on first need and after a stop, does not count.
        timeouts: Comparisons that were stopped because they exceeded it.
    """

    def __init__(self, limit: float = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self.timeouts = 0
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._readable: dict[str, bool] = {}
        self._broken = False
        self._deadline = 0.0

    def same(self, a: str, b: str) -> bool:
        """Whether two formulas in LaTeX are equal; False when that is not decided in time.

        A formula that alone exceeds the limit is not tried a second time.
        """
        if not (_is_safe(a) and _is_safe(b)):
            return False
        with self._lock:
            if self._running() is None:
                return False
            self._deadline = time.monotonic() + self.limit
            return self._reads(a) and self._reads(b) and self._ask([a, b]) is True

    def close(self) -> None:
        """End the helper process; a later comparison starts a new one."""
        with self._lock:
            self._stop()

    def _reads(self, formula: str) -> bool:
        """Whether the child can read and evaluate the formula in time; remembered.

        Not remembered is what failed because the other formula had used up the time.
        """
        if formula in self._readable:
            return self._readable[formula]
        if len(self._readable) >= MAX_REMEMBERED:
            self._readable.clear()
        fair = self._left() >= self.limit / 2
        readable = self._ask([formula]) is True
        if readable or fair:
            self._readable[formula] = readable
        return readable

    def _left(self) -> float:
        """Seconds left for this comparison; never none, so that a stop is a stop."""
        return max(0.01, self._deadline - time.monotonic())

    def _ask(self, formulas: list[str]) -> bool | None:
        """The child's verdict; None when it could not be started, died or was stopped."""
        request = json.dumps({"formulas": formulas, "limit": self.limit}).encode() + b"\n"
        reply, stopped = self._exchange(request)
        if not reply and not stopped:
            # The child had died before, or dies of this request; a second time tells.
            reply, stopped = self._exchange(request)
        if stopped:
            self._count_timeout()
        return _verdict(reply)

    def _exchange(self, request: bytes) -> tuple[bytes, bool]:
        """Exchange with a running child, which ends unless it replies."""
        child = self._running()
        if child is None:
            return b"", False
        try:
            reply, stopped = _exchange(child, request, self._left())
        except BaseException:
            # An interrupt while waiting: the reply would be taken for that of the next request.
            self._stop()
            raise
        if stopped or not reply:
            self._stop()
        return reply, stopped

    def _running(self) -> subprocess.Popen[bytes] | None:
        """The child, started if there is none that lives."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._stop()
        if self._broken:
            return None
        try:
            self._child = _start()
            reply, _ = _exchange(self._child, b"", START_LIMIT)
        except OSError:
            reply = b""
        except BaseException:
            self._stop()
            raise
        if _verdict(reply) is not True:
            _log.warning("formulas are compared as text: the helper process does not start")
            self._broken = True
            self._stop()
        return self._child

    def _count_timeout(self) -> None:
        self.timeouts += 1
        if self.timeouts == 1:
            _log.warning(
                "a comparison of two formulas exceeded %g s and counts as different; "
                "further ones are counted, not logged",
                self.limit,
            )

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            _close_pipes(child)

    def _forget(self) -> None:
        """After a fork: the child belongs to the parent process, and locks may be held there."""
        self._lock = threading.Lock()
        if self._child is not None:
            _close_pipes(self._child)
            # Tells Popen that there is nothing to wait for.
            self._child.returncode = 0
        self._child = None


def _start() -> subprocess.Popen[bytes]:
    """A new child: no file of the working folder shadows its modules, and Ctrl-C spares it."""
    # A fixed command: formulas only go through the pipe.
    return subprocess.Popen(
        [sys.executable, "-P", "-B", "-m", "ttscale.answers._judge"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _exchange(child: subprocess.Popen[bytes], request: bytes, limit: float) -> tuple[bytes, bool]:
    """Send one line and read one; (reply, whether the child was killed for taking too long)."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        child.kill()

    timer = threading.Timer(limit, stop)
    timer.daemon = True
    timer.start()
    reply = b""
    try:
        if child.stdin and request:
            child.stdin.write(request)
            child.stdin.flush()
        reply = child.stdout.readline() if child.stdout else b""
    except BrokenPipeError:
        # The child has died; the empty reply says so.
        pass
    finally:
        timer.cancel()
    return (b"", True) if stopped.is_set() else (reply, False)


def _verdict(reply: bytes) -> bool | None:
    """The child's answer, or None when it is not one."""
    try:
        verdict = json.loads(reply)
    except ValueError:
        return None
    return verdict if isinstance(verdict, bool) else None


def _close_pipes(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _is_safe(formula: str) -> bool:
    """Whether a formula is short and made of known commands only."""
    # An index means another number (1011_2), except that of a logarithm.
    if len(formula) > MAX_FORMULA or not _SAFE.fullmatch(formula.replace("\\log_", "\\log ")):
        return False
    # The parser keeps only the end of `x=2y=3`, so chains of equations are not given to it.
    return formula.count("=") <= 1 and _KNOWN.issuperset(_CONTROL.findall(formula))


@cache
def shared() -> Judge:
    """The judge of this process; ended with the interpreter, made anew after a fork."""
    judge = Judge()
    atexit.register(judge.close)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=judge._forget)
    return judge
