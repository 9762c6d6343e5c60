"""Filling a pool by an engine that is given all requests at once, such as Ray Data's."""

from __future__ import annotations

from collections.abc import Iterator

from ttscale.engines.batch import Answered, Ask, BatchEngine
from ttscale.errors import InvalidInput
from ttscale.evaluation.book import Book, Plan, Request, Watch
from ttscale.evaluation.pool import Pool, PoolWriter
from ttscale.types import Samples


class BatchRunner:
    """Draws what a pool still lacks in one batch, and grades what is not graded.

    Args:
        plan: What the pool shall hold; its `concurrency` is the engine's affair here.
        pool: What it holds; kept up to date.
        writer: Where new records go.
        engine: What draws.
        watch: Told of every new record.
    """

    def __init__(
        self,
        plan: Plan,
        pool: Pool,
        writer: PoolWriter,
        engine: BatchEngine,
        watch: Watch | None = None,
    ) -> None:
        self._book = Book(plan, pool, writer, watch)
        self._engine = engine

    def fill(self) -> None:
        """Draw every sample that is missing, the samplers in their order.

        Raises:
            InvalidInput: The pool holds something else; nothing was drawn.
            EngineError: The engine has failed as a whole; what it drew is in the pool.
        """
        self._book.open(self._engine.model)
        requests = list(self._requests())
        asked = [Ask(r.prompt(), len(r.missing), r.sampler) for r in requests]
        for answered in self._engine.draw_all(asked) if asked else ():
            self._store(requests[answered.number], answered)

    def _requests(self) -> Iterator[Request]:
        """The requests for what is missing; what is there and not graded is graded meanwhile."""
        plan = self._book.plan
        for suite in plan.suites:
            for arm in plan.arms:
                for problem in suite.task.problems:
                    self._book.grade(suite, arm, problem)
                    request = self._book.request(suite, arm, problem)
                    if request is not None and self._can_be_asked(request):
                        yield request

    def _can_be_asked(self, request: Request) -> bool:
        """Whether the question makes a prompt; one that does not is written down as failed."""
        try:
            request.prompt()
            request.sampler.check_count(len(request.missing))
        except InvalidInput as error:
            self._book.end(request, Samples(len(request.missing), ()), (str(error),), 0.0)
            return False
        return True

    def _store(self, request: Request, answered: Answered) -> None:
        samples = answered.samples
        for candidate, seconds in zip(samples.candidates, answered.finished, strict=True):
            self._book.keep(request, candidate, seconds)
        reasons = tuple(failure.reason for failure in samples.failures)
        reasons = (answered.error,) if answered.error else reasons
        self._book.end(request, samples, reasons, answered.seconds)
        self._book.grade(request.suite, request.arm, request.problem)
