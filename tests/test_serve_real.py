"""`ttscale serve` for real: keys of requests, callers, strategies, counters, cancellation."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

from ttscale import ESamp, Sampler, ServerEngine

pytestmark = pytest.mark.engine
# without the gate every decode row is mixed, so that counts are known
OPEN = {"esamp_beta": 0.5, "esamp_gate": 0}
RANGE = "esamp_beta must be a number in [0, 4], got 9"
TEXT = {"/v1/completions": {"prompt": "One, two,"}}
CHAT = {"/v1/chat/completions": {"messages": [{"role": "user", "content": "Name a colour."}]}}
RESPONSES = {"/v1/responses": {"input": "Name a colour."}}
ROUTES = [*TEXT.items(), *CHAT.items(), *RESPONSES.items()]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
        },
    },
}


@pytest.fixture
def client(server_url: str) -> Iterator[httpx.Client]:
    """A plain HTTP client of the server, without `/v1`."""
    root = server_url.removesuffix("/v1")
    with httpx.Client(base_url=root, trust_env=False, timeout=120) as made:
        yield made


def report(client: httpx.Client, group: str | None = None, key: str = "") -> dict[str, Any]:
    """What ESamp did so far."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    params = {} if group is None else {"group": group}
    answer = client.get("/ttscale/v1/esamp", params=params, headers=headers)
    content: dict[str, Any] = answer.raise_for_status().json()
    return content


def limit(route: str, tokens: int) -> dict[str, int]:
    """The field that bounds an answer's length."""
    return {"max_output_tokens" if route.endswith("responses") else "max_tokens": tokens}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_every_route_takes_esamp_keys(
    client: httpx.Client, route: str, body: dict[str, Any], stream: bool
) -> None:
    """With n above 1 where the route has it; the counters say how many rows were mixed."""
    n = {} if route.endswith("responses") else {"n": 3}
    before = report(client)["total"]["rows_mixed"]
    asked = {**body, **n, **limit(route, 6), "stream": stream, "ignore_eos": True}
    answer = client.post(route, json={**asked, "vllm_xargs": OPEN})

    assert answer.status_code == 200, answer.text
    assert "error" not in answer.text[:200]
    assert report(client)["total"]["rows_mixed"] - before >= 3 * n.get("n", 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("route", "body"), ROUTES)
def test_every_route_refuses_bad_keys_with_the_range(
    client: httpx.Client, route: str, body: dict[str, Any], stream: bool
) -> None:
    """400, also where the answer would have been streamed."""
    bad = {**body, "stream": stream, "vllm_xargs": {"esamp_beta": 9}}
    answer = client.post(route, json=bad)

    assert answer.status_code == 400
    assert RANGE in answer.json()["error"]["message"]


def test_two_callers_never_share_a_group_of_one_name(client: httpx.Client) -> None:
    """Each sees what happened in a group of that name of its own, and nobody the other's."""
    body = {"prompt": "One, two,", "max_tokens": 5, "ignore_eos": True}
    asked = {**body, "vllm_xargs": {**OPEN, "esamp_group": "isolation"}}
    for key, times in (("alice", 2), ("bob", 1)):
        for _ in range(times):
            headers = {"authorization": f"Bearer {key}"}
            client.post("/v1/completions", json=asked, headers=headers).raise_for_status()
    rows = {
        key: report(client, "isolation", key)["groups"]["isolation"] for key in ("alice", "bob")
    }

    assert (rows["alice"]["rows_mixed"], rows["bob"]["rows_mixed"]) == (8, 4)
    assert report(client, "isolation")["groups"]["isolation"] is None


def test_scope_shared_is_shared_within_one_caller(client: httpx.Client) -> None:
    """Two callers at the same time have two distillers."""

    async def both() -> int:
        live = 0
        body = {"prompt": "A", "max_tokens": 60, "ignore_eos": True, "n": 2}
        asked = {**body, "vllm_xargs": {"esamp_beta": 0.1, "esamp_scope": "shared"}}
        async with httpx.AsyncClient(
            base_url=client.base_url, trust_env=False, timeout=120
        ) as other:
            jobs = [
                asyncio.create_task(other.post("/v1/completions", json=asked, headers=h))
                for h in ({"authorization": f"Bearer {k}"} for k in ("ann", "ann", "ben"))
            ]
            while not all(job.done() for job in jobs):
                told = (await other.get("/ttscale/v1/esamp")).json()
                live = max(live, told["live"])
        return live

    assert asyncio.run(both()) == 2


def test_metrics_show_what_the_workers_did(client: httpx.Client) -> None:
    """The same numbers as the report, on the server's own page."""
    body = {"prompt": "One,", "max_tokens": 5, "ignore_eos": True}
    client.post("/v1/completions", json={**body, "vllm_xargs": OPEN})
    time.sleep(1.1)  # a snapshot of the last second would do for a scrape
    page, told = client.get("/metrics").text, report(client)
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))

    assert float(lines["ttscale:esamp_rows_mixed_total"]) == told["total"]["rows_mixed"]
    assert float(lines["ttscale:esamp_steps_trained_total"]) == told["total"]["steps_trained"]
    assert float(lines["ttscale:esamp_active"]) == 1
    assert float(lines["ttscale:esamp_live_distillers"]) == 0
    assert float(lines["ttscale:esamp_distiller_bytes"]) == 0
    assert 0 < float(lines["ttscale:esamp_relative_error"]) < 10


def test_the_models_route_says_whether_esamp_is_active(client: httpx.Client) -> None:
    """And what may be asked for."""
    told = client.get("/ttscale/v1/models").json()

    assert told["data"][0]["id"] == "smollm2-135m-instruct"
    assert told["ttscale"]["esamp"] == {"active": True, "reason": "", "defaults": {}}
    assert "self-consistency" in told["ttscale"]["strategies"]


def test_an_openai_client_gets_a_strategy_by_its_base_url(server_url: str) -> None:
    """The official client parses the completion and every chunk of the streamed one."""
    base = server_url.removesuffix("/v1") + "/ttscale/v1"
    asked: dict[str, Any] = {
        "model": "smollm2-135m",
        "messages": [
            {"role": "system", "content": "Answer with a number."},
            {"role": "user", "content": "What is 3 + 4?"},
        ],
        "max_tokens": 12,
        "extra_body": {"ttscale": {"n": 4, "strategy": "best-of-n"}},
    }
    with openai.OpenAI(base_url=base, api_key="none") as client:
        create: Any = client.chat.completions.create
        whole = create(**asked)
        chunks = list(create(**asked, stream=True, stream_options={"include_usage": True}))
    block = whole.model_extra["ttscale"] if whole.model_extra else {}

    assert whole.choices[0].message.content
    assert whole.usage is not None
    tokens = sum(row["tokens"] for row in block["candidates"])
    assert whole.usage.completion_tokens == tokens
    assert block["returned"] == 4
    assert block["esamp"]["rows_mixed"] > 0
    assert block["esamp"]["fallbacks"] == {}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage is not None
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")


def test_the_server_engine_tells_what_esamp_did(server_url: str) -> None:
    """For a draw whose samples share with no others; a group of one's own name is not told."""
    sampler = Sampler(max_tokens=6, min_tokens=6, esamp=ESamp(beta=0.5, gate=False))
    with ServerEngine(server_url) as engine:
        alone = engine.draw("Name a colour.", 3, sampler)
        named = replace(sampler, esamp=ESamp(beta=0.5, group="mine"))
        together = engine.draw("Name a colour.", 3, named)

    assert alone.esamp is not None
    assert (alone.esamp.rows_mixed, alone.esamp.fallback_count) == (15, 0)
    assert alone.esamp.steps_trained >= 5
    assert together.esamp is None


def test_tool_calls_and_json_are_constrained_and_voted_on(client: httpx.Client) -> None:
    """A forced call is legal by its grammar; a JSON answer fits its schema."""
    question = [{"role": "user", "content": "How is the weather in Oslo?"}]
    named = {"type": "function", "function": {"name": "weather"}}
    common = {"messages": question, "max_tokens": 80, "ttscale": {"n": 3}}
    calls = client.post(
        "/ttscale/v1/chat/completions", json={**common, "tools": [WEATHER], "tool_choice": named}
    ).json()
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema}}
    texts = client.post(
        "/ttscale/v1/chat/completions", json={**common, "response_format": form}
    ).json()
    function = calls["choices"][0]["message"]["tool_calls"][0]["function"]

    assert function["name"] == "weather"
    assert json.loads(function["arguments"])["city"] in ("Oslo", "Rome")
    assert calls["ttscale"]["votes"][0]["answer"].startswith("weather(")
    assert json.loads(texts["choices"][0]["message"]["content"])["city"] in ("Oslo", "Rome")
    assert texts["ttscale"]["votes"][0]["answer"].startswith('{"city":')


def test_vllms_refusals_come_through(client: httpx.Client) -> None:
    """With its status and message, before a stream begins."""
    long = [{"role": "user", "content": "word " * 3000}]
    for stream in (False, True):
        answer = client.post(
            "/ttscale/v1/chat/completions", json={"messages": long, "stream": stream}
        )
        assert answer.status_code == 400
        assert "1024" in answer.json()["error"]["message"]
    unknown = {"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]}
    answer = client.post("/ttscale/v1/chat/completions", json=unknown)

    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")


def test_a_client_that_goes_away_aborts_its_samples(client: httpx.Client) -> None:
    """Streamed or not: nothing runs on, and no distiller is left."""
    body = {"messages": [{"role": "user", "content": "Count."}], "ignore_eos": True}
    for stream in (False, True):
        asked = {**body, "max_tokens": 900, "stream": stream, "ttscale": {"n": 4}}
        with pytest.raises(httpx.ReadTimeout):
            client.post("/ttscale/v1/chat/completions", json=asked, timeout=2)
    for _ in range(100):
        page = client.get("/metrics").text
        running = [line for line in page.splitlines() if line.startswith("vllm:num_requests_run")]
        if report(client)["live"] == 0 and all(line.endswith(" 0.0") for line in running):
            break
        time.sleep(0.1)

    assert running
    assert all(line.endswith(" 0.0") for line in running)
    assert report(client)["live"] == 0
