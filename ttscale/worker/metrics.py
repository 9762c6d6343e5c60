"""ESamp's counters on the server's `/metrics`, although the work happens in other processes.

A snapshot is fetched from the workers when `/metrics` is asked for, at most once a second and for
at most half a second: a busy engine gives an older snapshot, never a hanging scrape. Nothing is
fetched while nobody asks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from ttscale.errors import TTScaleError

log = logging.getLogger(__name__)

OLDEST = 1.0
"""Age in seconds from which on a snapshot is fetched anew."""
PATIENCE = 0.5
"""Longest wait for a fresh snapshot, in seconds."""

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]


class ESampMetrics(Collector):
    """Shows the latest snapshot of what ESamp did.

    Args:
        fetch: Gets a report of the workers, as `plugin.esamp_report` makes it.
        active: Whether the engine can run ESamp.
    """

    def __init__(self, fetch: Fetch, *, active: bool) -> None:
        self._fetch = fetch
        self._active = active
        self._snapshot: Mapping[str, Any] = {}
        self._at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Fetch a snapshot unless the last one is new; returns after `PATIENCE` at the latest."""
        if time.monotonic() - self._at < OLDEST:
            return
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._take())
        await asyncio.wait([self._fetching], timeout=PATIENCE)

    async def _take(self) -> None:
        try:
            self._snapshot = await self._fetch()
        except TTScaleError as error:
            log.warning("ESamp's counters could not be fetched: %s", error)
        else:
            self._at = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        """The metrics of the latest snapshot."""
        told = self._snapshot
        total = told.get("total") or {}
        yield _gauge("active", "Whether this server can run ESamp.", float(self._active))
        yield _counter("rows_mixed", "Decode steps of samples that were re-weighted.", total)
        yield _counter("steps_trained", "Updates of distillers.", total)
        yield _fallbacks(total.get("fallbacks") or {})
        yield _gauge("live_distillers", "Distillers in use.", told.get("live", 0))
        yield _gauge("distiller_bytes", "Bytes held for distillers.", told.get("held", 0))
        if total.get("relative_error") is not None:
            about = "Mean of ||hL - f(h1)|| / ||hL|| over the latest rows."
            yield _gauge("relative_error", about, total["relative_error"])


def register(metrics: ESampMetrics, registry: CollectorRegistry) -> None:
    """Show `metrics` in `registry`, in place of what an earlier server in this process showed."""
    old = getattr(registry, "_ttscale_metrics", None)
    if old is not None:
        registry.unregister(old)
    registry.register(metrics)
    registry._ttscale_metrics = metrics  # type: ignore[attr-defined]


def _counter(name: str, about: str, total: Mapping[str, Any]) -> Metric:
    return CounterMetricFamily(f"ttscale:esamp_{name}", about, value=total.get(name, 0))


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"ttscale:esamp_{name}", about, value=value)


def _fallbacks(causes: Mapping[str, int]) -> Metric:
    about = "Times that sampling fell back to plain."
    family = CounterMetricFamily("ttscale:esamp_fallbacks", about, labels=["cause"])
    for cause, count in causes.items():
        family.add_metric([cause], count)
    return family
