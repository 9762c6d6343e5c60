"""Run several coroutines at once, a bounded number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def gather(jobs: Sequence[Coroutine[Any, Any, T]], limit: int | None = None) -> list[T]:
    """Results of all `jobs` in their order, at most `limit` of them running at once.

    When one raises, or the caller is cancelled, the others are cancelled and have ended before
    the error is passed on.
    """
    permits = asyncio.Semaphore(limit or len(jobs) or 1)

    async def with_permit(job: Coroutine[Any, Any, T]) -> T:
        async with permits:
            return await job

    tasks = [asyncio.ensure_future(with_permit(job)) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for job in jobs:
            job.close()  # one that was cancelled before it started would warn otherwise
