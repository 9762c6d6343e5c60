"""The strategy route over a scripted chat handler: what goes in, what comes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from ttscale.errors import TTScaleError
from ttscale.serving.backend import Facts, Failed, Refused
from ttscale.serving.routes import _unless_gone, on_error, router
from ttscale.strategies import NAMES

Answer = dict[str, Any] | Exception
Script = Callable[[Mapping[str, Any], int], Answer]
QUESTION = [{"role": "user", "content": "What is 3 + 4?"}]
REPORT = {
    "rows_mixed": 7,
    "steps_trained": 3,
    "fallbacks": {},
    "relative_error": 0.5,
    "bytes_held": 10,
}
# what a judge might say first, and the length of every scripted answer: two tokens
LIKELY = [{"token": word, "logprob": -0.5 - place} for place, word in enumerate(("Yes", "A", "B"))]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "required": ["city"]},
    },
}


class Server:
    """A backend that answers from a script and writes down what it was asked."""

    def __init__(self, script: Script, facts: Facts | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.groups: list[str | None] = []
        self.spans: list[Mapping[str, Any]] = []
        self.facts = facts or Facts(("small",), 512)
        self._script = script

    def authorised(self, request: Request) -> bool:
        """Whether the header carries the one key."""
        return request.headers.get("authorization") in (None, "Bearer right")

    def check(self, body: Mapping[str, Any]) -> None:
        """Every body is well-formed."""

    async def complete(self, body: Mapping[str, Any], request: Request) -> bytes:
        """The next scripted answer."""
        self.bodies.append(dict(body))
        made = self._script(body, len(self.bodies) - 1)
        if isinstance(made, Exception):
            raise made
        return json.dumps(completion(made)).encode()

    def trace(self, request: Request, started: int, about: Mapping[str, Any]) -> None:
        """Keep what a span would say."""
        self.spans.append(about)

    async def report(self, group: str | None = None) -> Mapping[str, Any]:
        """The same report for every group."""
        self.groups.append(group)
        return {"total": REPORT, "live": 0, "held": 0, "groups": {group: REPORT}}


def completion(message: dict[str, Any]) -> dict[str, Any]:
    """A completion with one choice of two tokens, as vLLM's chat route makes it."""
    tokens = [{**token, "top_logprobs": LIKELY} for token in LIKELY[:2]]
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {
        "index": 0,
        "message": {"role": "assistant", **message},
        "logprobs": {"content": tokens},
        "finish_reason": reason,
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def says(*texts: str) -> Script:
    """A script of plain answers, dealt in order and over again."""
    return lambda _, place: {"content": texts[place % len(texts)]}


def calls(*cities: str) -> Script:
    """A script of calls of the weather tool."""

    def script(_: Mapping[str, Any], place: int) -> Answer:
        arguments = json.dumps({"city": cities[place % len(cities)]})
        function = {"name": "weather", "arguments": arguments}
        call = {"id": f"call-{place}", "type": "function", "function": function}
        return {"content": None, "tool_calls": [call]}

    return script


async def post(server: Server, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    """The answer of the chat route over `server`."""
    app = FastAPI()
    app.include_router(router)
    app.add_exception_handler(TTScaleError, on_error)
    app.state.ttscale = server
    headers = {"authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post("/ttscale/v1/chat/completions", json=body, headers=headers)


async def ask(server: Server, **fields: Any) -> dict[str, Any]:
    """The whole answer to the question."""
    response = await post(server, {"messages": QUESTION, **fields})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


async def test_a_plain_openai_body_gets_the_answer_of_a_vote() -> None:
    """Three of five samples agree; the usage counts all five and the prompt once."""
    server = Server(says("It is 7.", "It is 9.", "It is 7."))
    answer = await ask(server, ttscale={"n": 5})

    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "It is 7."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["logprobs"] is None
    told = {"prompt_tokens": 5, "completion_tokens": 10, "total_tokens": 15}
    assert answer["usage"] == told
    assert answer["ttscale"]["votes"][0] == {"answer": "7", "count": 3, "weight": 3.0}
    assert (answer["ttscale"]["requested"], answer["ttscale"]["returned"]) == (5, 5)


async def test_a_run_is_told_to_the_servers_tracer() -> None:
    """Once, with the strategy and what it drew."""
    server = Server(says("4", "4", "5"))
    await ask(server, ttscale={"n": 3})

    [span] = server.spans
    assert (span["strategy"], span["samples"], span["requested"]) == ("self-consistency", 3, 3)
    assert span["tokens"] > 0


async def test_without_the_object_ttscale_there_are_defaults() -> None:
    """An OpenAI client that only changes its base URL gets a vote over ESamp samples."""
    server = Server(says("7"))
    answer = await ask(server)

    assert answer["ttscale"]["strategy"] == "self-consistency"
    assert len(server.bodies) == 8
    assert {body["vllm_xargs"]["esamp_beta"] for body in server.bodies} == {0.25}


async def test_the_samples_of_a_draw_share_a_group_of_their_own() -> None:
    """One unguessable group a request, whose report comes with the answer."""
    server = Server(says("7"))
    first, _ = await ask(server), await ask(server)
    groups = {body["vllm_xargs"]["esamp_group"] for body in server.bodies}

    assert len(groups) == 2
    assert set(server.groups) == groups
    assert first["ttscale"]["esamp"]["rows_mixed"] == 7


async def test_beta_zero_samples_plainly() -> None:
    """No key of ESamp goes to the server, and nothing is reported."""
    server = Server(says("7"))
    answer = await ask(server, ttscale={"n": 2, "beta": 0})

    assert all("vllm_xargs" not in body for body in server.bodies)
    assert answer["ttscale"]["esamp"] is None


async def test_the_operators_defaults_hold_and_can_be_switched_off() -> None:
    """Beta 0 is passed on, or the server would add its own."""
    facts = Facts(("small",), 512, esamp_defaults={"esamp_beta": 0.5})
    server = Server(says("7"), facts)
    await ask(server, ttscale={"n": 1})
    await ask(server, ttscale={"n": 1, "beta": 0})

    assert server.bodies[0]["vllm_xargs"]["esamp_beta"] == 0.5
    assert server.bodies[1]["vllm_xargs"] == {"esamp_beta": 0}


async def test_a_server_without_esamp_samples_plainly_unless_asked() -> None:
    """ESamp by default is a wish; ESamp by name is a demand."""
    server = Server(says("7"), Facts(("small",), 512, esamp_refused="it has no first layer"))
    answer = await ask(server, ttscale={"n": 1})
    response = await post(server, {"messages": QUESTION, "ttscale": {"beta": 0.5}})

    assert answer["ttscale"]["esamp"] is None
    assert response.status_code == 400
    assert "it has no first layer" in response.json()["error"]["message"]


async def test_the_conversation_goes_to_the_model_as_it_was_given() -> None:
    """System turn, parts, tools and unknown fields stay; sampling settings are the request's."""
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "3 + 4?"},
    ]
    server = Server(says("7"))
    body = {"messages": turns, "seed": 5, "temperature": 0.7, "max_tokens": 9, "user": "u"}
    await post(server, {**body, "ttscale": {"n": 2}})

    assert [sent["messages"] for sent in server.bodies] == [turns, turns]
    assert [sent["seed"] for sent in server.bodies] == [5, 6]
    assert {(sent["temperature"], sent["max_tokens"]) for sent in server.bodies} == {(0.7, 9)}
    assert server.bodies[0]["user"] == "u"
    assert "ttscale" not in server.bodies[0]


async def test_settings_left_out_are_the_models_own() -> None:
    """As on vLLM's own route."""
    facts = Facts(("small",), 512, sampling={"temperature": 0.6, "top_k": 20})
    server = Server(says("7"), facts)
    await ask(server, ttscale={"n": 1})
    sent = server.bodies[0]

    assert (sent["temperature"], sent["top_k"], sent["max_tokens"]) == (0.6, 20, 512)
    assert "repetition_penalty" not in sent


async def test_tool_calls_are_kept_and_voted_on_by_name_and_arguments() -> None:
    """The calls of most samples win, with their id and finish reason."""
    server = Server(calls("Oslo", "Rome", "Oslo"))
    answer = await ask(server, tools=[WEATHER], ttscale={"n": 3})
    message = answer["choices"][0]["message"]

    assert message["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}'
    assert message["tool_calls"][0]["id"] in ("call-0", "call-2")
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["ttscale"]["votes"][0]["count"] == 2
    assert server.bodies[0]["tools"] == [WEATHER]


async def test_json_is_voted_on_by_its_values() -> None:
    """Spelling and order of members do not split the vote; what does not fit cannot win."""
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    server = Server(says('{"b": 1}', '{"a": 1, "b": 2}', '{"b":2,"a":1}', '{"b": 1}', '{"b": 1}'))
    answer = await ask(server, response_format=wanted, ttscale={"n": 5})

    assert json.loads(answer["choices"][0]["message"]["content"]) == {"a": 1, "b": 2}
    assert answer["ttscale"]["votes"][0]["count"] == 2
    assert server.bodies[0]["response_format"] == wanted


async def test_an_open_question_gets_the_likeliest_sample_and_the_reason() -> None:
    """A vote that abstains still answers, and says so."""
    answer = await ask(Server(says("I do not know.")), ttscale={"n": 2})

    assert answer["choices"][0]["message"]["content"] == "I do not know."
    assert "the likeliest sample is given" in answer["ttscale"]["reason"]


async def test_samples_that_fail_are_told_and_cost_no_others() -> None:
    """Two of four came back; the answer is theirs."""

    def script(_: Mapping[str, Any], place: int) -> Answer:
        return Failed("the engine is busy", 503) if place % 2 else {"content": "7"}

    answer = await ask(Server(script), ttscale={"n": 4})

    assert answer["choices"][0]["message"]["content"] == "7"
    assert answer["ttscale"]["failures"] == ["the engine is busy"] * 2


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (Failed("the engine has died"), 500, "InternalServerError"),
        (Failed("too many requests", 503), 503, "ServiceUnavailableError"),
        (Refused("the prompt is too long", 400), 400, "BadRequestError"),
        (Refused("no such model", 404), 404, "NotFoundError"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_of_the_server_comes_through(
    error: Exception, status: int, kind: str, stream: bool
) -> None:
    """With the server's status and words in OpenAI's shape, streamed or not."""
    body = {"messages": QUESTION, "model": "small", "stream": stream, "ttscale": {"n": 2}}
    response = await post(Server(lambda *_: error), body)

    assert response.status_code == status
    told = response.json()["error"]
    assert (told["message"], told["type"], told["code"]) == (str(error), kind, status)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ttscale": {"strategy": "guess"}}, "ttscale.strategy must be one of"),
        ({"ttscale": {"beta": 9}}, r"esamp_beta must be a number in [0, 4], got 9"),
        ({"ttscale": {"group": "a b"}}, "esamp_group must be 1 to 128 letters"),
        (
            {"ttscale": {"strategy": "best-of-n", "verifier": "json-schema:/etc/passwd"}},
            "verifier must be one of self-judge",
        ),
        ({"ttscale": {"kind": "poem"}}, "kind must be one of"),
        ({"n": 4}, "the number of samples is ttscale.n"),
        ({"temperature": 0}, "n must be 1 at temperature 0"),
        ({"temperature": 9}, "temperature must be a number in [0, 2], got 9"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1, got 0"),
        ({"use_beam_search": True}, "use_beam_search does not go together"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "role must be one of"),
    ],
)
async def test_bad_fields_are_refused_with_what_is_allowed(
    fields: dict[str, Any], message: str
) -> None:
    """Nothing is drawn, and the message says the legal values."""
    server = Server(says("7"))
    response = await post(server, {"messages": QUESTION, **fields})

    assert response.status_code == 400
    assert message in response.json()["error"]["message"]
    assert server.bodies == []


async def test_a_wrong_key_is_refused() -> None:
    """The routes check the key themselves: vLLM guards only its own prefixes."""
    server = Server(says("7"))

    assert (await post(server, {"messages": QUESTION}, key="wrong")).status_code == 401
    assert (await post(server, {"messages": QUESTION}, key="right")).status_code == 200


async def test_a_stream_is_progress_then_answer_then_usage() -> None:
    """Comments, valid chunks, the block in the last choice, and the end mark."""
    server = Server(calls("Oslo"))
    body = {
        "messages": QUESTION,
        "tools": [WEATHER],
        "stream": True,
        "stream_options": {"include_usage": True},
        "ttscale": {"n": 3},
    }
    response = await post(server, body)
    lines = [line for line in response.text.split("\n\n") if line]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    assert response.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    call = events[1]["choices"][0]["delta"]["tool_calls"][0]
    assert (call["index"], call["function"]["name"]) == (0, "weather")
    assert events[2]["choices"][0]["finish_reason"] == "tool_calls"
    assert events[2]["ttscale"]["returned"] == 3
    assert events[3]["choices"] == []
    assert events[3]["usage"]["completion_tokens"] == 6


async def test_samples_are_told_as_they_finish() -> None:
    """A slow run shows how many samples there are."""
    gate = asyncio.Event()

    class Slow(Server):
        async def complete(self, body: Mapping[str, Any], request: Request) -> bytes:
            made = await super().complete(body, request)
            if len(self.bodies) > 1:
                asyncio.get_running_loop().call_later(0.7, gate.set)  # past BEFORE_STREAM
                await gate.wait()
            return made

    body = {"messages": QUESTION, "stream": True, "ttscale": {"n": 2}}
    response = await post(Slow(says("7")), body)

    assert ": ttscale 1 of 2 samples" in response.text
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("name", list(NAMES))
async def test_every_strategy_answers_over_http(name: str) -> None:
    """By its name alone; one whose extra is not installed says so."""
    options = {"strategy": name, "n": 4, "beta": 0}
    body = {"messages": QUESTION, "max_tokens": 64, "ttscale": options}
    response = await post(Server(says("3 + 4 = 7.\n\n", "It is 7.", "So 7.")), body)
    content = response.json()

    if response.status_code == 501:
        assert "pip install" in content["error"]["message"]
        return
    assert response.status_code == 200, response.text
    assert content["ttscale"]["strategy"] == name
    assert content["ttscale"]["reason"] == ""
    assert "7" in content["choices"][0]["message"]["content"]
    assert content["usage"]["completion_tokens"] > 0


async def test_tools_do_not_go_together_with_strategies_that_go_step_by_step() -> None:
    """A call that is put together of pieces of several samples would be no call."""
    body = {"messages": QUESTION, "tools": [WEATHER], "ttscale": {"strategy": "beam-search"}}
    response = await post(Server(says("7")), body)

    assert response.status_code == 400
    assert "takes neither tools nor response_format" in response.json()["error"]["message"]


async def test_a_judge_is_asked_without_tools_and_its_tokens_are_counted() -> None:
    """The verifier's own questions carry none of the conversation's fields."""

    def script(body: Mapping[str, Any], place: int) -> Answer:
        judged = "Is the proposed solution correct" in body["messages"][0]["content"]
        return {"content": "Yes" if judged else "7"}

    server = Server(script)
    options = {"n": 2, "strategy": "best-of-n", "verifier": "self-judge"}
    answer = await ask(server, ttscale=options, user="u", stop=["x"])

    assert ["user" in body for body in server.bodies] == [True, True, False, False]
    assert answer["usage"]["completion_tokens"] == 8


async def test_a_budget_ends_the_run_with_the_best_so_far() -> None:
    """It says so, and draws no more than allowed."""
    server = Server(says("7"))
    answer = await ask(server, ttscale={"n": 8, "budget": {"max_samples": 3}})

    assert len(server.bodies) <= 3
    assert answer["choices"][0]["message"]["content"] == "7"
    assert answer["ttscale"]["stopped"]
    assert answer["ttscale"]["spent"]["samples"] == len(server.bodies)


async def test_a_budget_too_small_for_one_sample_is_a_timeout() -> None:
    """There is nothing to answer with, and the reason is the budget's."""

    class Stuck(Server):
        async def complete(self, body: Mapping[str, Any], request: Request) -> bytes:
            await asyncio.Event().wait()
            return b""

    body = {"messages": QUESTION, "ttscale": {"n": 2, "budget": {"deadline_seconds": 0.05}}}
    response = await post(Stuck(says("7")), body)

    assert response.status_code == 504
    assert response.json()["error"]["type"] == "GatewayTimeoutError"


async def test_candidates_are_shown_on_demand() -> None:
    """Texts of all samples come only when asked for."""
    hidden = await ask(Server(says("7")), ttscale={"n": 2})
    shown = await ask(Server(says("7")), ttscale={"n": 2, "return_candidates": True})

    assert "message" not in hidden["ttscale"]["candidates"][0]
    assert shown["ttscale"]["candidates"][1]["message"]["content"] == "7"


async def test_a_client_that_goes_away_ends_the_run() -> None:
    """The work is cancelled, so vLLM aborts its samples."""
    ended = asyncio.Event()

    async def work() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 1

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    response = await _unless_gone(work(), Request({"type": "http"}, receive))

    assert ended.is_set()
    assert getattr(response, "status_code", None) == 499
