"""What came of a program in the sandbox."""

from __future__ import annotations

from dataclasses import dataclass

from ttscale.sandbox.settings import Isolation

REASONS = ("finished", "failed", "signal", "stopped", "time", "output", "cancelled")
"""How a run can end: by itself with status 0, or with another status; by a signal (the kernel's
answer to a crash or to a limit); stopped when its tests were done, when its time was up, when it
wrote too much, or when the caller was cancelled."""


@dataclass(frozen=True, slots=True)
class Run:
    """How one program ended.

    Attributes:
        reason: One of `REASONS`.
        exit_code: Its exit status; negative for the signal that ended it, None when it was stopped.
        stdout: What it wrote, as far as it was kept.
        stderr: The same of its errors.
        isolation: What kept it in.
    """

    reason: str
    exit_code: int | None
    stdout: str
    stderr: str
    isolation: Isolation


@dataclass(frozen=True, slots=True)
class Verdict:
    """What tests said of one program.

    Attributes:
        failures: For each test None when it ran to its end, or why it failed.
        run: How the program's own process ended; `stopped` when the tests were done before it.
    """

    failures: tuple[str | None, ...]
    run: Run

    @property
    def passed(self) -> int:
        """Number of tests that ran to their end."""
        return sum(failure is None for failure in self.failures)

    @property
    def ok(self) -> bool:
        """Whether all of them did."""
        return self.passed == len(self.failures)
