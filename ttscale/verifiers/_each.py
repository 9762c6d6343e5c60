"""Score candidates one by one: several at a time, each and all of them within a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ttscale import _check
from ttscale._concurrent import gather
from ttscale.errors import SandboxUnavailable, TTScaleError
from ttscale.types import Candidate
from ttscale.verifiers.sheet import CandidateScore, score_of

LONGEST = 1e6  # seconds; as good as no limit

Scorer = Callable[[Candidate], Awaitable[object]]


def check_times(timeout: float, total_timeout: float | None, concurrency: int) -> None:
    """Raise InvalidInput unless these settings are in their legal ranges."""
    _check.number("timeout", timeout, 0, LONGEST, open_low=True)
    if total_timeout is not None:
        _check.number("total_timeout", total_timeout, 0, LONGEST, open_low=True)
    _check.integer("concurrency", concurrency, 1)


async def score_each(
    candidates: Sequence[Candidate],
    scorer: Scorer,
    low: float,
    high: float,
    *,
    timeout: float,
    total_timeout: float | None,
    concurrency: int,
) -> tuple[CandidateScore, ...]:
    """Scores of all candidates; an error, or no score in time, is that of one candidate alone.

    Raises:
        SandboxUnavailable: No candidate can be scored on this machine.
    """
    end = asyncio.get_running_loop().time() + (LONGEST if total_timeout is None else total_timeout)

    async def score(place: int, candidate: Candidate) -> CandidateScore:
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(now + timeout, end)):
                value = await scorer(candidate)
        except SandboxUnavailable:
            raise
        except TTScaleError as error:
            return CandidateScore(place, error=str(error))
        except TimeoutError:
            return CandidateScore(place, error=_late(now + timeout <= end, timeout, total_timeout))
        return score_of(place, value, low, high)

    jobs = [score(place, candidate) for place, candidate in enumerate(candidates)]
    return tuple(await gather(jobs, concurrency))


def _late(own: bool, timeout: float, total: float | None) -> str:
    if own or total is None:
        return f"no score within timeout={timeout:g} s"
    return f"no score before total_timeout={total:g} s for all was up"
