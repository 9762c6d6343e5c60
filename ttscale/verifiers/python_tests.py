"""Unit tests as a verifier: the candidate's program runs in the sandbox."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from ttscale import _check, sandbox
from ttscale.answers import strip_thinking
from ttscale.engines import Engine
from ttscale.errors import InvalidInput
from ttscale.sandbox.runs import in_thread
from ttscale.types import Candidate, Prompt
from ttscale.verifiers._each import LONGEST, check_times, score_each
from ttscale.verifiers.checks import fenced
from ttscale.verifiers.sheet import ScoreSheet

PYTHON = ("python", "py", "python3")


@dataclass(frozen=True)
class PythonTests:
    """Whether a candidate's program passes tests, each run in the sandbox (`ttscale.sandbox`).

    The program is the candidate's last fenced block of Python (or of no language), else all of its
    text; thinking blocks are left out. It scores 1 when every test passes, else 0.

    Attributes:
        tests: One test or several, as in `ttscale.sandbox.run_tests`.
        entry_point: Name of the function that a `check(candidate)` among the tests is given.
        prefix: Put before the program: imports, or the start of a function that models complete.
        partial: Whether to score the share of tests that pass instead.
        limits: What one program may use; its `seconds` are for all tests together.
        require: What isolation the machine must offer, as in `run_tests`.
        site_packages: Whether programs may import what is installed beside ttscale.
        total_timeout: Seconds for all candidates together; None for no limit.
        concurrency: Programs that run at the same time.
        name: Name for reports.

    Raises:
        InvalidInput: There is no test, or a setting is outside its legal range.
    """

    tests: str | tuple[str, ...]
    entry_point: str | None = None
    prefix: str = ""
    partial: bool = False
    limits: sandbox.Limits = field(default_factory=sandbox.Limits)
    require: str = "full"
    site_packages: bool = False
    total_timeout: float | None = None
    concurrency: int = 2
    name: str = "python-tests"

    def __post_init__(self) -> None:
        several = (self.tests,) if isinstance(self.tests, str) else self.tests
        if not several or not all(isinstance(test, str) and test.strip() for test in several):
            raise InvalidInput(f"tests must be one or several non-empty texts, got {self.tests!r}")
        _check.choice("require", self.require, sandbox.LEVELS)
        check_times(LONGEST, self.total_timeout, self.concurrency)

    @property
    def low(self) -> float:
        """No test passes (with `partial`), or one does not."""
        return 0.0

    @property
    def high(self) -> float:
        """Every test passes."""
        return 1.0

    async def ascore(
        self,
        prompt: Prompt,  # noqa: ARG002 - part of the protocol
        candidates: Sequence[Candidate],
        engine: Engine,  # noqa: ARG002 - part of the protocol; no model is asked
    ) -> ScoreSheet:
        """Test every candidate; see `Verifier.ascore`.

        Raises:
            SandboxUnavailable: The machine does not offer the isolation that `require` demands.
        """

        async def score(candidate: Candidate) -> object:
            verdict = await self.averdict(candidate.text)
            share = verdict.passed / len(verdict.failures)
            return share if self.partial else float(verdict.ok)

        scores = await score_each(
            candidates,
            score,
            self.low,
            self.high,
            timeout=LONGEST,  # the sandbox keeps the time, and answers what did not pass in it
            total_timeout=self.total_timeout,
            concurrency=self.concurrency,
        )
        return ScoreSheet(scores)

    async def averdict(self, text: str) -> sandbox.Verdict:
        """What the tests say of one candidate, with why they fail and how it was isolated."""

        def work(stop: threading.Event) -> sandbox.Verdict:
            return sandbox.run_tests(
                self.prefix + program_in(text),
                self.tests,
                entry_point=self.entry_point,
                limits=self.limits,
                require=self.require,
                site_packages=self.site_packages,
                stop=stop,
            )

        return await in_thread(work)


def program_in(text: str) -> str:
    """The last fenced block of Python, else the last of no language, else the whole text."""
    shown = strip_thinking(text)
    blocks = fenced(shown)
    for languages in (PYTHON, ("",)):
        found = [body for language, body in blocks if language in languages]
        if found:
            return found[-1]
    return shown
