"""Data parallelism: groups stay on one engine core, and reports are those of all cores."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ttscale.worker.parallel import fetch, keep_together, merge
from ttscale.worker.request import admit


def config(size: int, local: int | None = None) -> SimpleNamespace:
    """What is read of a VllmConfig with `size` engine cores, `local` of them behind this front."""
    parallel = SimpleNamespace(
        data_parallel_size=size,
        data_parallel_size_local=local or size,
        local_engines_only=local is not None,
    )
    return SimpleNamespace(parallel_config=parallel)


def sent_to(vllm_config: Any, rank: int | None = None, **extra: Any) -> int | None:
    """The core that a request with keys `extra` is sent to; the caller has chosen `rank`."""
    params = SimpleNamespace(extra_args=extra, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
    admit(params)
    request = SimpleNamespace(sampling_params=params, data_parallel_rank=rank)
    keep_together(vllm_config, request)
    core: int | None = request.data_parallel_rank
    return core


def test_a_group_is_sent_to_one_core() -> None:
    """The name alone decides, in every front-end process; different groups use all cores."""
    named = [sent_to(config(4), esamp_group="mine") for _ in range(3)]
    cores = {sent_to(config(4), esamp_group=f"g{place}") for place in range(64)}

    assert len(set(named)) == 1
    assert cores == {0, 1, 2, 3}


def test_cores_are_counted_where_the_front_end_reaches_them() -> None:
    """A front end that serves its own node's cores alone counts those."""
    cores = {sent_to(config(8, local=2), esamp_group=f"g{place}") for place in range(64)}

    assert cores == {0, 1}


@pytest.mark.parametrize(
    ("vllm_config", "rank", "extra"),
    [
        (config(1), None, {"esamp_beta": 0.25}),
        (config(4), None, {"other": 1}),
        (config(4), None, {"fire_temperature": 2.0}),
        (config(4), None, {"esamp_scope": "shared"}),
        (config(4), 3, {"esamp_beta": 0.25}),
    ],
)
def test_other_requests_go_where_they_went(
    vllm_config: Any, rank: int | None, extra: dict[str, Any]
) -> None:
    """One core, plain and FIRE requests, the shared distiller and a caller's choice stay."""
    assert sent_to(vllm_config, rank, **extra) == rank


def report(rows: int, steps: int, error: float | None, **fallbacks: int) -> dict[str, Any]:
    """One group's report as plain values."""
    return {
        "rows_mixed": rows,
        "steps_trained": steps,
        "fallbacks": fallbacks,
        "relative_error": error,
        "bytes_held": 10,
        "error_at": {"8": [error, 1]} if error is not None else {},
    }


def test_reports_of_cores_add_up() -> None:
    """Counts and bytes are sums; the error is the mean over training steps; groups are joined."""
    one = {"total": report(4, 1, 1.0, no_room=1), "live": 1, "groups": {"a": report(4, 1, 1.0)}}
    two = {"total": report(6, 3, 0.5, no_room=2), "live": 2, "groups": {"a": None}}
    idle = {"total": report(0, 0, None), "live": 0, "groups": {"a": None}}
    whole = merge([one, two, idle])

    assert whole["live"] == 3
    assert whole["total"]["rows_mixed"] == 10
    assert whole["total"]["fallbacks"] == {"no_room": 3}
    assert whole["total"]["relative_error"] == pytest.approx((1.0 + 3 * 0.5) / 4)
    assert whole["total"]["error_at"] == {"8": [1.5, 2]}
    assert whole["total"]["bytes_held"] == 30
    assert whole["groups"]["a"] == report(4, 1, 1.0)


def test_all_cores_are_asked() -> None:
    """vLLM's own `collective_rpc` returns the first core's answer alone."""
    cores = [[{"live": 1}, {"live": 1}], [{"live": 2}, {"live": 2}]]

    async def one(*_: Any, **__: Any) -> Any:
        return cores[0]

    async def every(*_: Any) -> Any:
        return cores

    core = SimpleNamespace(call_utility_all_async=every)
    engines = [
        SimpleNamespace(vllm_config=config(size), collective_rpc=one, engine_core=core)
        for size in (1, 2)
    ]

    assert [asyncio.run(fetch(engine, []))["live"] for engine in engines] == [1, 3]
