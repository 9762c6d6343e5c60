"""Run asynchronous code from synchronous callers, also where an event loop already runs.

One daemon thread holds one event loop for the whole process, so sync and async entry points share
one implementation.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def background_loop() -> asyncio.AbstractEventLoop:
    """The process's background event loop, started on first use."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="ttscale-loop", daemon=True).start()
    return loop


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on the background loop and wait for its result.

    A KeyboardInterrupt while waiting cancels the work before it is raised.
    """
    future = asyncio.run_coroutine_threadsafe(work, background_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def on_background_loop(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` on the background loop from any other loop; cancellation passes through."""
    loop = background_loop()
    if asyncio.get_running_loop() is loop:
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
