"""What every HTTP request passes, and the counters on /metrics, without an engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, generate_latest

from ttscale.serving.backend import Facts, Failed
from ttscale.worker import metrics
from ttscale.worker.callers import caller, identify
from ttscale.worker.gate import Gate
from ttscale.worker.metrics import ESampMetrics, register

REPORT: dict[str, Any] = {
    "total": {
        "rows_mixed": 7,
        "steps_trained": 3,
        "fallbacks": {"no_room": 2},
        "relative_error": 0.5,
    },
    "live": 1,
    "held": 10,
}


async def send(body: bytes, refused: str = "", **headers: str) -> tuple[httpx.Response, list[Any]]:
    """The answer to a POST through the gate, and what the route behind it saw."""
    seen: list[Any] = []
    app = FastAPI()

    @app.post("/v1/completions")
    async def route(request: Request) -> dict[str, bool]:
        seen.extend([await request.body(), caller.get()])
        return {"ok": True}

    app.add_middleware(Gate)
    app.state.ttscale = SimpleNamespace(facts=Facts(("m",), 8, esamp_refused=refused))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        told = {"content-type": "application/json", **headers}
        return await client.post("/v1/completions", content=body, headers=told), seen


@pytest.mark.parametrize("stream", [True, False])
async def test_bad_keys_are_refused_before_a_stream_begins(stream: bool) -> None:
    """With 400, the range, and OpenAI's shape."""
    body = {"prompt": "a", "stream": stream, "vllm_xargs": {"esamp_beta": "much"}}
    answer, seen = await send(json.dumps(body).encode())

    assert answer.status_code == 400
    assert "esamp_beta must be a number in [0, 4], got 'much'" in answer.json()["error"]["message"]
    assert seen == []


async def test_every_answer_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals, too, by the name that all front-end processes of one start have."""
    monkeypatch.setenv("TTSCALE_REPLICA_NAME", "r1")
    good, _ = await send(b"{}")
    bad, _ = await send(b'{"vllm_xargs": {"esamp_beta": -1}}')
    monkeypatch.delenv("TTSCALE_REPLICA_NAME")
    own = [(await send(b"{}"))[0].headers["x-ttscale-replica"] for _ in range(2)]

    assert (good.status_code, bad.status_code) == (200, 400)
    assert good.headers["x-ttscale-replica"] == bad.headers["x-ttscale-replica"] == "r1"
    assert own[0] == own[1] != "r1"


async def test_esamp_is_refused_where_the_engine_cannot_run_it() -> None:
    """With the reason; requests that do not ask pass."""
    asks = json.dumps({"vllm_xargs": {"esamp_beta": 1}}).encode()
    answer, _ = await send(asks, refused="speculative decoding is on")
    other, _ = await send(b'{"vllm_xargs": {"mine": 1}}', refused="speculative decoding is on")

    assert "speculative decoding is on" in answer.json()["error"]["message"]
    assert other.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"vllm_xargs": ',
        b'{"vllm_xargs": 7}',
        b'["vllm_xargs"]',
        b'{"a": "' + b"x" * 300_000 + b'", "vllm_xargs": {"esamp_beta": 1}}',
        b"[" * 100_000 + b'"vllm_xargs"',
    ],
)
async def test_what_is_not_refused_passes_unchanged(body: bytes) -> None:
    """Broken bodies are vLLM's to refuse."""
    answer, seen = await send(body)

    assert answer.status_code == 200
    assert seen[0] == body


@pytest.mark.parametrize("body", [b'{"prompt": "a", "structured_outputs": 3}', b'{"prompt": "a"}'])
async def test_a_body_that_vllms_checks_fail_on_is_the_callers_fault(body: bytes) -> None:
    """400, where the checks raise AttributeError; any other such error is the server's."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def route() -> None:
        raise AttributeError("'int' object has no attribute 'get'")

    app.add_middleware(Gate)
    app.state.ttscale = SimpleNamespace(facts=Facts(("m",), 8))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/v1/completions", content=body, headers=headers)

    assert answer.status_code == (400 if b"structured" in body else 500)


async def test_the_caller_is_known_behind_the_gate() -> None:
    """By the key in the header, and only for the time of the request."""
    _, seen = await send(b"{}", authorization="Bearer alice")

    assert seen[1] == identify("Bearer alice")
    assert caller.get() is None


def page(shown: ESampMetrics) -> dict[str, float]:
    """The values on the page of a registry with these metrics."""
    registry = CollectorRegistry()
    register(shown, registry)
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


async def test_a_scrape_shows_a_fresh_snapshot() -> None:
    """Counters, gauges, and fallbacks by cause."""

    async def fetch() -> Mapping[str, Any]:
        return REPORT

    shown = ESampMetrics(fetch, active=True)
    await shown.refresh()

    assert page(shown) == {
        "ttscale:esamp_active": 1,
        "ttscale:esamp_rows_mixed_total": 7,
        "ttscale:esamp_steps_trained_total": 3,
        'ttscale:esamp_fallbacks_total{cause="no_room"}': 2,
        "ttscale:esamp_live_distillers": 1,
        "ttscale:esamp_distiller_bytes": 10,
        "ttscale:esamp_relative_error": 0.5,
    }


async def test_a_busy_engine_holds_up_no_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """One fetch at a time; the page shows what is known meanwhile."""
    monkeypatch.setattr(metrics, "PATIENCE", 0.01)
    calls, gate = [], asyncio.Event()

    async def fetch() -> Mapping[str, Any]:
        calls.append(1)
        await gate.wait()
        return REPORT

    shown = ESampMetrics(fetch, active=True)
    await shown.refresh()
    await shown.refresh()
    before = page(shown)["ttscale:esamp_rows_mixed_total"]
    gate.set()
    await shown.refresh()

    assert len(calls) == 1
    assert before == 0
    assert page(shown)["ttscale:esamp_rows_mixed_total"] == 7


async def test_a_snapshot_is_not_fetched_twice_within_a_second() -> None:
    """However often the page is asked for."""
    calls = []

    async def fetch() -> Mapping[str, Any]:
        calls.append(1)
        return REPORT

    shown = ESampMetrics(fetch, active=True)
    for _ in range(3):
        await shown.refresh()

    assert len(calls) == 1


async def test_a_dead_engine_leaves_the_last_snapshot() -> None:
    """The page still answers."""
    answers: list[Mapping[str, Any] | Failed] = [REPORT, Failed("the engine has died")]

    async def fetch() -> Mapping[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Failed):
            raise answer
        return answer

    shown = ESampMetrics(fetch, active=True)
    await shown.refresh()
    shown._at = float("-inf")
    await shown.refresh()

    assert answers == []
    assert page(shown)["ttscale:esamp_rows_mixed_total"] == 7


def test_a_later_server_in_the_same_process_takes_the_place_of_an_earlier_one() -> None:
    """Registering twice is no error."""

    async def fetch() -> Mapping[str, Any]:
        return REPORT

    registry = CollectorRegistry()
    register(ESampMetrics(fetch, active=False), registry)
    register(ESampMetrics(fetch, active=True), registry)

    assert b"ttscale:esamp_active 1.0" in generate_latest(registry)
