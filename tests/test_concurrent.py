"""Running several coroutines at once."""

from __future__ import annotations

import asyncio

import pytest

from ttscale._concurrent import gather


async def test_results_come_in_the_order_of_the_jobs() -> None:
    """Jobs that finish in another order give their results in their own."""

    async def job(place: int) -> int:
        for _ in range(5 - place):
            await asyncio.sleep(0)
        return place

    assert await gather([job(i) for i in range(5)]) == [0, 1, 2, 3, 4]
    assert await gather([job(i) for i in range(5)], limit=2) == [0, 1, 2, 3, 4]


async def test_no_jobs() -> None:
    """Without jobs there are no results."""
    jobs: list[asyncio.Future[int]] = []

    assert await gather([_wait(job) for job in jobs]) == []


async def _wait(future: asyncio.Future[int]) -> int:
    return await future


async def test_first_error_stops_the_others() -> None:
    """When one job raises, those under way are cancelled before the error comes out."""
    ended: list[str] = []

    async def patient(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def failing() -> None:
        await asyncio.sleep(0)
        raise KeyError("first")

    with pytest.raises(KeyError, match="first"):
        await gather([patient("a"), failing(), patient("b")])

    assert sorted(ended) == ["a", "b"]


async def test_cancelled_waiters_start_nothing() -> None:
    """Jobs still waiting for a place when the caller is cancelled are never started."""
    started: list[int] = []

    async def job(place: int) -> None:
        started.append(place)
        await asyncio.Event().wait()

    running = asyncio.create_task(gather([job(i) for i in range(4)], limit=1))
    while not started:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert started == [0]
