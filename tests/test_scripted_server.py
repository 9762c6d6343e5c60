"""The scripted server that users test with, seen by a plain HTTP client."""

from __future__ import annotations

import json

import httpx
import pytest

from ttscale.errors import InvalidInput
from ttscale.testing import Reply, ScriptedServer, ServerRequest, ToolCall

ASK = {"messages": [{"role": "user", "content": "two words"}]}


def test_routes() -> None:
    """It names its models, and knows no other routes and models."""
    with (
        ScriptedServer(["a"], models=["m", "k"], esamp=False) as server,
        httpx.Client(base_url=server.base_url) as client,
    ):
        told = client.get("/models").json()
        assert client.get("/other").status_code == 404
        assert client.post("/other", json={}).status_code == 404
        assert client.post("/chat/completions", json={"model": "x"}).status_code == 404

    assert [(m["id"], m["owned_by"]) for m in told["data"]] == [
        ("m", "scripted"),
        ("k", "scripted"),
    ]
    assert [r.method for r in server.requests] == ["GET", "GET", "POST", "POST"]


def test_a_function_sees_the_request() -> None:
    """A script may answer what was asked."""

    def script(request: ServerRequest, index: int) -> str:
        return f"{request.body['model']} {index}"

    with ScriptedServer(script, models=["m"]) as server:
        answer = httpx.post(
            f"{server.base_url}/chat/completions", json={**ASK, "model": "m", "n": 2}
        ).json()

    assert [c["message"]["content"] for c in answer["choices"]] == ["m 0", "m 1"]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def test_calls_of_tools() -> None:
    """Scripted calls travel whole and streamed, with their arguments as text."""
    script = [[ToolCall("add", {"a": 1}), ToolCall("broken", "{")]]
    with ScriptedServer(script) as server:
        url = f"{server.base_url}/chat/completions"
        (whole,) = httpx.post(url, json=ASK).json()["choices"]
        streamed = httpx.post(url, json={**ASK, "stream": True}).text

    calls = [call["function"] for call in whole["message"]["tool_calls"]]
    assert calls == [{"name": "add", "arguments": '{"a": 1}'}, {"name": "broken", "arguments": "{"}]
    assert whole["finish_reason"] == "tool_calls"
    events = [line.removeprefix("data: ") for line in streamed.split("\n") if line]
    assert events[-1] == "[DONE]"
    last = json.loads(events[-2])["choices"][0]
    assert [call["function"] for call in last["delta"]["tool_calls"]] == calls
    assert last["finish_reason"] == "tool_calls"


def test_first_replies_come_before_the_script() -> None:
    """Status, headers and message are those of the reply; after it the script goes on."""
    first = [Reply(status=429, headers={"Retry-After": "3"}, message="slow")]
    with ScriptedServer(["a"], first=first) as server:
        url = f"{server.base_url}/chat/completions"
        refused, answered = httpx.post(url, json=ASK), httpx.post(url, json=ASK)

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    assert refused.json()["error"]["message"] == "slow"
    assert answered.status_code == 200


def test_esamp_keys_are_checked_as_the_plugin_does() -> None:
    """Illegal values are refused with their range; a server without ESamp ignores them."""
    body = {**ASK, "vllm_xargs": {"esamp_beta": 9}}
    answers = []
    for has in (True, False):
        with ScriptedServer(["a"], esamp=has) as server:
            answers.append(httpx.post(f"{server.base_url}/chat/completions", json=body))

    assert [answer.status_code for answer in answers] == [400, 200]
    message = answers[0].json()["error"]["message"]
    assert message == "esamp_beta must be a number in [0, 4], got 9"


def test_a_key_may_be_wanted() -> None:
    """Requests without it are refused."""
    with ScriptedServer(["a"], api_key="k") as server:
        url = f"{server.base_url}/models"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer k"}).status_code == 200


def test_bad_scripts_are_refused() -> None:
    """A single text or nothing is no script."""
    bad_scripts: tuple[str | list[str], ...] = ("text", [])
    for bad in bad_scripts:
        with pytest.raises(InvalidInput, match="script must be"):
            ScriptedServer(bad)
