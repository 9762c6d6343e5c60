"""Run a program, or a program's tests, in the sandbox."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeVar

from ttscale.errors import InvalidInput
from ttscale.sandbox import host
from ttscale.sandbox._built import Job
from ttscale.sandbox.results import Run, Verdict
from ttscale.sandbox.settings import Isolation, Limits

T = TypeVar("T")


def run_program(
    source: str,
    *,
    stdin: str = "",
    limits: Limits | None = None,
    require: str = "full",
    site_packages: bool = False,
    without: Sequence[str] = (),
    stop: threading.Event | None = None,
) -> Run:
    """Run a Python program as a script, with `stdin` as its standard input.

    Args:
        source: The program's text.
        stdin: What it can read.
        limits: What it may use.
        require: `full`, or `limits` to run it even where the machine cannot isolate it.
        site_packages: Whether it may import what is installed beside ttscale.
        without: Mechanisms to leave out (`namespaces`, `landlock`, `seccomp`), for tests.
        stop: Ends it when set.

    Raises:
        InvalidInput: A setting is refused.
        SandboxUnavailable: The machine does not offer what `require` demands.
    """
    limits = limits or Limits()
    host.check_request(require, without)
    job = host.job_of(
        "program", source, limits, require=require, site_packages=site_packages, without=without
    )
    job["stdin"] = stdin
    with host.folder() as folder, host.boxes() as started:
        started.append(host.start(job, folder))
        why = host.watch(started, limits, stop or threading.Event())
        isolation = host.isolation_of(started[0], require)
        return host.run_of(started[0], why, limits, isolation)


def run_tests(
    source: str,
    tests: str | Sequence[str],
    *,
    entry_point: str | None = None,
    limits: Limits | None = None,
    require: str = "full",
    site_packages: bool = False,
    without: Sequence[str] = (),
    stop: threading.Event | None = None,
) -> Verdict:
    """Load a Python program, and run tests of its functions in another sandbox than the program's.

    A test is text in Python: assertions, functions named `test_*`, cases of `unittest`, or a
    function `check(candidate)` that is called with the function named `entry_point`. What the
    program defines is there by name. A test passes when all of it has run without an exception.

    Args:
        source: The program's text.
        tests: One test, or several that are told apart.
        entry_point: Name of the function that `check` is given.

    The other arguments and errors are those of `run_program`.
    """
    several = [tests] if isinstance(tests, str) else list(tests)
    if not several or not all(isinstance(test, str) and test.strip() for test in several):
        raise InvalidInput(f"tests must be one or several non-empty texts, got {tests!r}")
    limits = limits or Limits()
    host.check_request(require, without)
    judge, program = (
        host.job_of(
            role, text, limits, require=require, site_packages=site_packages, without=without
        )
        for role, text in (("tests", ""), ("serve", source))
    )
    judge["tests"], judge["entry_point"] = several, entry_point
    with host.folder() as first, host.folder() as second, host.boxes() as started:
        _start_connected(started, (judge, first), (program, second))
        why = host.watch(started, limits, stop or threading.Event())
        return _verdict(started, len(several), why, limits, require)


def _start_connected(
    started: list[host.Box], judge: tuple[Job, str], program: tuple[Job, str]
) -> None:
    """Start two sandboxes, each with its folder, that hear what the other one writes."""
    asks, answers = os.pipe(), os.pipe()
    judge[0]["inward"], judge[0]["outward"] = answers[0], asks[1]
    program[0]["inward"], program[0]["outward"] = asks[0], answers[1]
    try:
        for job, folder in (judge, program):
            started.append(host.start(job, folder))
    finally:
        for pipe in (*asks, *answers):
            os.close(pipe)


def _verdict(
    started: Sequence[host.Box], count: int, why: str, limits: Limits, require: str
) -> Verdict:
    """What came of the judge's and the program's sandbox."""
    judge, program = started
    if why == "ended":  # when it was stopped the judge need not have come so far
        host.isolation_of(judge, require)
    isolation = host.isolation_of(program, require)
    failures = host.verdict_of(judge, count, why)
    return Verdict(failures, host.run_of(program, why, limits, isolation))


@cache
def isolation() -> Isolation:
    """What isolation programs get on this machine; found out by running one.

    Raises:
        SandboxUnavailable: None at all can be had.
    """
    return run_program("", require="limits").isolation


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run one of the functions above on a thread; cancelling the caller ends the sandbox first."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        raise
