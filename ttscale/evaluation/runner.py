"""Filling a pool: every sampler draws n samples of every problem, whatever was drawn before."""

from __future__ import annotations

import asyncio
import time

from ttscale._concurrent import gather
from ttscale.engines import Engine
from ttscale.errors import EngineStopped, TTScaleError
from ttscale.evaluation.book import Book, Plan, Request, Watch, draw_seed
from ttscale.evaluation.judged import select
from ttscale.evaluation.pool import Pool, PoolWriter
from ttscale.evaluation.samplers import Arm, Drawer
from ttscale.evaluation.suite import Suite
from ttscale.evaluation.tasks import Problem
from ttscale.types import Candidate, Samples


class Runner:
    """Draws what a pool still lacks and grades what is not graded.

    Args:
        plan: What the pool shall hold.
        pool: What it holds; kept up to date.
        writer: Where new records go.
        engine: What draws.
        watch: Told of every new record.
    """

    def __init__(
        self, plan: Plan, pool: Pool, writer: PoolWriter, engine: Engine, watch: Watch | None = None
    ) -> None:
        self._book = Book(plan, pool, writer, watch)
        self._engine = engine
        self._behind: dict[Drawer, Engine] = {}

    async def fill(self) -> None:
        """Draw every sample that is missing, one sampler after the other.

        A request that fails is written down and costs its own samples alone, unless the plan has
        redraws.

        Raises:
            InvalidInput: The pool holds something else; nothing was drawn.
            EngineStopped: The engine has died; what it drew is in the pool.
        """
        plan, book = self._book.plan, self._book
        book.open(self._engine.model)
        for suite in plan.suites:
            for arm in plan.arms:
                for _ in range(1 + plan.redraws):
                    lacking = [p for p in suite.task.problems if book.lacks(suite, arm, p)]
                    jobs = [self._problem(suite, arm, problem) for problem in lacking]
                    await gather(jobs, plan.concurrency)

    async def _problem(self, suite: Suite, arm: Arm, problem: Problem) -> None:
        """Complete one problem with one sampler: grade what is there, draw what is not."""
        request = self._book.request(suite, arm, problem)
        if request is not None:
            await self._draw(request)
        await asyncio.to_thread(self._book.grade, suite, arm, problem)
        await self._judge(suite, arm, problem)

    async def _judge(self, suite: Suite, arm: Arm, problem: Problem) -> None:
        """Run the strategies with a judge that have not been run over these samples."""
        waiting = self._book.unjudged(suite, arm, problem)
        if waiting is None:
            return
        seed = draw_seed(self._book.plan.seed, suite.name, problem.id, 0)
        for judge in waiting.judges:
            job = select(judge, suite, problem, waiting.samples, waiting.grades, self._engine, seed)
            self._book.write(await job)

    async def _draw(self, request: Request) -> None:
        started = time.monotonic()

        def keep(candidate: Candidate) -> None:
            self._book.keep(request, candidate, time.monotonic() - started)

        missing = len(request.missing)
        try:
            engine = self._engine_of(request.arm)
            samples = await engine.adraw(
                request.prompt(), missing, request.sampler, on_candidate=keep
            )
        except EngineStopped:
            raise
        except TTScaleError as error:
            samples = Samples(missing, ())
            reasons: tuple[str, ...] = (str(error),)
        else:
            reasons = tuple(failure.reason for failure in samples.failures)
            for candidate in samples.candidates:
                keep(candidate)
        self._book.end(request, samples, reasons, time.monotonic() - started)

    def _engine_of(self, arm: Arm) -> Engine:
        """What draws for this arm."""
        if arm.by is None:
            return self._engine
        if arm.by not in self._behind:
            self._behind[arm.by] = arm.by.on(self._engine)
        return self._behind[arm.by]
