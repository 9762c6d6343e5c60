"""When a request is sent again, and how long to wait before that."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE = 0.5  # seconds
LONGEST_PAUSE = 8.0


def worth_retrying(status: int) -> bool:
    """Whether the same request may succeed later: time-outs, too many requests, server errors."""
    return status in (408, 429) or status >= 500


def pause(attempt: int, retry_after: str | None, now: datetime, dice: float) -> float:
    """Seconds to wait before the attempt after number `attempt` (from 0).

    Exponential, with jitter from `dice` in [0, 1], and never shorter than `Retry-After` asks.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 10))
    return max(longest * (0.5 + dice / 2), seconds_asked(retry_after, now))


def seconds_asked(retry_after: str | None, now: datetime) -> float:
    """What a `Retry-After` header asks for: seconds, or a date; 0 for none or a malformed one."""
    if retry_after is None:
        return 0.0
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if date.tzinfo is None:  # "-0000": a date in UTC by RFC 5322
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
