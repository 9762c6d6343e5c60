"""`ChatESamp`, `ESampLLM` and `ttscale_vote`: what is chosen, told, counted and refused."""

from __future__ import annotations

import asyncio
import doctest
import gc
import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.exceptions import ModelError
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.integrations import langchain as module
from ttscale.integrations.langchain import ChatESamp, ESampLLM, ttscale_vote
from ttscale.sampling import Sampler
from ttscale.strategies import BestOfN, ESampSelfConsistency, SelfConsistency, VerifierRerank
from ttscale.testing import (
    Reply,
    ScriptedEngine,
    ScriptedServer,
    ServerRequest,
    ToolCall,
    candidate,
)
from ttscale.types import Message
from ttscale.verifiers import CallableVerifier, SelfJudge

WAIT = 20
VOTES = [r"\boxed{8}", r"So \boxed{7}", r"\boxed{7.0}"]


class Point(BaseModel):
    """A point."""

    x: int
    y: int


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def chat(server: ScriptedServer, **settings: Any) -> ChatESamp:
    """A model at the scripted server, with three samples and quick failures."""
    made = {"n_candidates": 3, "max_retries": 0, **settings}
    return ChatESamp(model="scripted", base_url=server.base_url, **made)


def told(message: Any) -> dict[str, Any]:
    """What ttscale tells of a message."""
    found: dict[str, Any] = message.response_metadata["ttscale"]
    return found


def test_docstring_example_holds() -> None:
    """The example of the module runs and gives what it says."""
    assert doctest.testmod(module) == (0, 4)


def test_the_majority_is_the_answer() -> None:
    """One request draws all samples with ESamp; the vote decides, and everything is told."""
    with ScriptedServer(VOTES) as server:
        message = chat(server).invoke("3 + 4?")

    body = server.posts[-1].body
    assert (body["n"], body["logprobs"]) == (3, True)
    assert body["vllm_xargs"]["esamp_beta"] == 0.25  # type: ignore[index, call-overload]
    assert message.text == r"So \boxed{7}"
    assert told(message)["votes"][0] == {"answer": "7", "count": 2, "weight": 2.0}
    assert [c["text"] for c in told(message)["candidates"]] == VOTES
    assert (told(message)["selected"], told(message)["requested"]) == (1, 3)
    assert json.dumps(told(message))
    assert message.response_metadata["model_name"] == "scripted"
    assert "logprobs" not in message.response_metadata


def test_tokens_are_counted_once() -> None:
    """The usage is that of all samples, on the winner alone, for callbacks too."""
    handler = UsageMetadataCallbackHandler()
    with ScriptedServer(["a b", "c", "d e f"]) as server:
        model = chat(server, return_candidates=True)
        result = model.generate([[HumanMessage("one two")]], callbacks=[handler])

    messages = [generation.message for generation in result.generations[0]]  # type: ignore[union-attr]
    usages = [m.usage_metadata for m in messages if isinstance(m, AIMessage)]
    assert usages[0] is not None
    assert (usages[0]["input_tokens"], usages[0]["output_tokens"]) == (2, 6)
    assert usages[1:] == [None, None]
    assert handler.usage_metadata["scripted"]["total_tokens"] == 8
    assert sorted(told(m)["index"] for m in messages) == [0, 1, 2]
    assert told(messages[0])["index"] == told(messages[0])["selected"]


def test_open_questions_get_the_likeliest_sample() -> None:
    """Where no sample states an answer there is no vote, and that is said."""
    script = [candidate("hello", logprob=-9.0), candidate("hi there", logprob=-2.0)]
    with ScriptedServer(script) as server:
        message = chat(server, n_candidates=2).invoke("Say hello")

    assert message.text == "hi there"
    assert "the likeliest sample is given" in told(message)["reason"]


def test_strategies_by_object_and_by_name() -> None:
    """A strategy is used as it is; a name takes its settings from the model's."""

    def longest(_: str, text: str) -> float:
        return len(text) / 10

    with ScriptedServer(["abc", "abcdef", "a"]) as server:
        by_object = BestOfN(2, Sampler(max_tokens=9), CallableVerifier(longest))
        answers = [
            chat(server, strategy=by_object, n_candidates=None).invoke("?"),
            chat(server, strategy="best-of-n", verifier=longest, esamp=False).invoke("?"),
        ]

    assert [m.text for m in answers] == ["abcdef", "abcdef"]
    assert [r.body["n"] for r in server.posts] == [2, 3]
    assert "vllm_xargs" not in server.posts[1].body
    assert told(answers[1])["candidates"][2]["score"] == 0.1


def test_the_models_own_settings_win_over_the_samplers() -> None:
    """What the model or the call says of temperature and the like is what is sent."""
    strategy = SelfConsistency(2, Sampler(temperature=0.3, top_p=0.8, max_tokens=5, seed=1))
    with ScriptedServer(["a"]) as server:
        model = chat(server, strategy=strategy, n_candidates=None, temperature=0.9, seed=4)
        model.invoke("?", stop=["X"], max_tokens=6)

    body = server.posts[0].body
    sent = {name: body[name] for name in ("temperature", "top_p", "max_tokens", "seed", "stop")}
    expected = {"temperature": 0.9, "top_p": 0.8, "max_tokens": 6, "seed": 4, "stop": ["X"]}
    assert sent == expected


def test_at_temperature_0_one_sample_is_drawn() -> None:
    """All samples would be equal."""
    with ScriptedServer(["a"]) as server:
        message = chat(server, temperature=0, esamp=False).invoke("?")

    assert server.posts[0].body["n"] == 1
    assert told(message)["returned"] == 1


def test_settings_of_one_call() -> None:
    """By keyword, by `bind`, and by a configurable field."""
    with ScriptedServer(["a"]) as server:
        model = chat(server, esamp=False)
        model.invoke("?", n_candidates=2)
        model.bind(n_candidates=4, esamp=0.5).invoke("?")
        field = ConfigurableField(id="n")
        model.configurable_fields(n_candidates=field).invoke("?", {"configurable": {"n": 5}})
        with pytest.raises(ModelError, match="n must be"):
            model.invoke("?", n_candidates=0)

    draws = [r.body for r in server.posts if r.path.endswith("chat/completions")]
    assert [body["n"] for body in draws] == [2, 4, 5]
    assert draws[1]["vllm_xargs"]["esamp_beta"] == 0.5  # type: ignore[index, call-overload]


def test_votes_on_calls_of_tools() -> None:
    """Calls agree by name and arguments; invalid ones, unknown tools and missing ones lose."""
    script = [
        ToolCall("weather", "{broken"),
        ToolCall("weather", "[1, 2]"),
        ToolCall("weather", {}),
        ToolCall("storm", {"city": "Rome"}),
        ToolCall("weather", {"city": "Rome"}),
        ToolCall("weather", {"city": "Oslo"}),
        ToolCall("weather", '{ "city" : "Oslo" }'),
    ]
    with ScriptedServer(script) as server:
        message = chat(server, n_candidates=7).bind_tools([weather]).invoke("Oslo?")

    assert [(c["name"], c["args"]) for c in message.tool_calls] == [("weather", {"city": "Oslo"})]
    assert told(message)["selected"] == 5
    assert told(message)["votes"][0]["count"] == 2


def test_text_may_win_where_tools_may_be_called() -> None:
    """When most samples answer in text, the strategy chooses among these."""
    call = ToolCall("weather", {"city": "Oslo"})
    with ScriptedServer([call, *VOTES]) as server:
        model = chat(server, n_candidates=4).bind_tools([weather])
        free, forced = model.invoke("?"), model.bind(tool_choice="required").invoke("?")

    assert (free.text, free.tool_calls) == (r"So \boxed{7}", [])
    assert forced.tool_calls[0]["args"] == {"city": "Oslo"}


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_loses_what_does_not_parse(method: Any) -> None:
    """Broken or unfitting JSON cannot win, and costs the others nothing."""
    texts = ['{"x": 1', '{"x": 1}', '{"y": 2, "x": 1}', '{"x": 1, "y": 2}', '{"x": 5, "y": 5}']
    calls = [ToolCall("Point", text) for text in texts]
    script: list[Any] = calls if method == "function_calling" else list(texts)
    with ScriptedServer(script) as server:
        model = chat(server, n_candidates=5)
        found = model.with_structured_output(Point, method=method).invoke("Where?")

    assert found == Point(x=1, y=2)


def test_when_no_sample_is_valid_the_caller_sees_it() -> None:
    """An invalid call is given as such, with the reason."""
    with ScriptedServer([ToolCall("weather", "{")]) as server:
        message = chat(server).bind_tools([weather]).invoke("?")

    assert message.invalid_tool_calls[0]["name"] == "weather"
    assert "no sample has valid calls" in told(message)["reason"]


def test_verifiers_weigh_calls_of_tools() -> None:
    """A verifier reads calls as JSON; best-of-n and the weighted vote follow it."""
    script = [ToolCall("weather", {"city": c}) for c in ("Rome", "Rome", "Oslo")]

    def north(_: str, text: str) -> float:
        return 0.9 if "Oslo" in text else 0.2

    with ScriptedServer(script) as server:
        for strategy in ("best-of-n", "verifier-rerank"):
            model = chat(server, strategy=strategy, verifier=north).bind_tools([weather])
            assert model.invoke("?").tool_calls[0]["args"] == {"city": "Oslo"}


def test_the_model_may_be_its_own_verifier() -> None:
    """The judge's draws go to the same model, without tools, and their tokens count."""
    yes = candidate("Yes", token_count=1, logprob=-0.1, top_logprobs={"Yes": -0.1, "No": -3.0})

    def script(request: ServerRequest, _: int) -> Any:
        return yes if "Proposed solution" in str(request.body) else candidate("a", logprob=-1.0)

    with ScriptedServer(script) as server:
        model = chat(server, strategy=VerifierRerank(SelfJudge(), 2), n_candidates=None)
        message = model.bind_tools([weather]).invoke("?")

    judged = [r.body for r in server.posts if r.body["n"] == 1]
    assert len(judged) == 2
    assert all("tools" not in body and body["temperature"] == 0 for body in judged)
    assert told(message)["candidates"][0]["score"] == pytest.approx(0.948, abs=0.01)
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 2 + 2


def test_streams_tell_progress_and_then_the_answer() -> None:
    """Chunks add up to the message of `invoke`, with its usage and calls."""
    with ScriptedServer(VOTES) as server:
        model = chat(server)
        chunks = list(model.stream("?"))
        whole = sum(chunks[1:], chunks[0])
        asked = [r.body["stream"] for r in server.posts[1:]]

    assert [chunk.text for chunk in chunks[:2]] == ["", r"So \boxed{7}"]
    progress = {"strategy": "self-consistency", "requested": 3}
    assert chunks[0].response_metadata["ttscale_progress"] == progress
    assert whole.text == r"So \boxed{7}"
    assert whole.usage_metadata is not None
    assert told(whole)["selected"] == 1
    assert asked == [False]


async def test_events_and_asynchronous_calls() -> None:
    """`ainvoke`, `abatch` and `astream_events` give the same answer."""
    with ScriptedServer(VOTES) as server:
        chain = ChatPromptTemplate.from_template("{q}") | chat(server) | StrOutputParser()
        one = await chain.ainvoke({"q": "3 + 4?"})
        several = await chain.abatch([{"q": "a"}, {"q": "b"}], {"max_concurrency": 2})
        kinds = [event["event"] async for event in chain.astream_events({"q": "?"}, version="v2")]

    assert [one, *several] == [r"So \boxed{7}"] * 3
    assert {"on_chat_model_start", "on_chat_model_stream", "on_chat_model_end"} <= set(kinds)
    assert kinds.count("on_chat_model_start") == 1


async def test_cancelling_reaches_the_server() -> None:
    """The connection is closed, so that the server stops sampling."""
    with ScriptedServer(["a"], first=[Reply(hold_after=0)]) as server:
        task = asyncio.create_task(chat(server, esamp=False).ainvoke("?"))
        async with asyncio.timeout(WAIT):
            while not server.posts:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.posts[0].disconnected.wait, WAIT)


def test_esamp_is_refused_where_the_server_has_none() -> None:
    """A server that would ignore it is told apart, before anything is drawn."""
    with ScriptedServer(["a"], esamp=False) as server:
        with pytest.raises(ModelError, match="has neither") as caught:
            chat(server).invoke("?")
        assert chat(server, esamp=False).invoke("?").text == "a"

    assert isinstance(caught.value, InvalidInput)
    assert not caught.value.is_retryable


def test_a_server_is_asked_once_for_esamp() -> None:
    """The following calls know."""
    with ScriptedServer(["a"]) as server:
        model = chat(server)
        for _ in range(3):
            model.invoke("?")

    assert [r.body["max_tokens"] for r in server.posts].count(1) == 1


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (401, False), (429, True), (503, True)]
)
def test_errors_are_langchains_own(status: int, retryable: bool) -> None:
    """They say whether to try again."""
    with (
        ScriptedServer(["a"], first=[Reply(status=status)]) as server,
        pytest.raises(ModelError) as caught,
    ):
        chat(server, esamp=False).invoke("?")

    assert caught.value.is_retryable is retryable


def test_retries_and_fallbacks_of_langchain() -> None:
    """`with_retry` asks again; `with_fallbacks` asks another model."""
    trouble = [Reply(status=503)] * 2
    with ScriptedServer(["a"], first=list(trouble)) as server:
        patient = chat(server, esamp=False).with_retry(wait_exponential_jitter=False)
        assert patient.invoke("?").text == "a"
    with ScriptedServer(["a"], first=trouble) as server, ScriptedServer(["b"]) as other:
        model = chat(server, esamp=False).with_fallbacks([chat(other, esamp=False)])
        assert model.invoke("?").text == "b"


def test_nothing_of_openai_leaks_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither keys nor addresses nor organisations meant for OpenAI reach the server."""
    for name in ("API_KEY", "ORG_ID", "ORGANIZATION", "PROJECT_ID", "ADMIN_KEY"):
        monkeypatch.setenv(f"OPENAI_{name}", "leaked")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/leaked")
    monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/leaked")
    monkeypatch.setenv("OPENAI_PROXY", "http://127.0.0.1:9/leaked")
    with ScriptedServer(["a"]) as server:
        monkeypatch.setenv("TTSCALE_API_BASE", server.base_url)
        ChatESamp(model="scripted").invoke("?")
        monkeypatch.setenv("TTSCALE_API_KEY", "own")
        model = ChatESamp(model="scripted")
        model.invoke("?")

    assert "leaked" not in str([r.headers for r in server.requests])
    assert server.posts[-1].headers["authorization"] == "Bearer own"
    assert "own" not in repr(model)


def test_caches_tell_strategies_and_verifiers_apart() -> None:
    """The same question is asked again when anything that matters differs."""
    with ScriptedServer(["a"]) as server:
        settings: list[dict[str, Any]] = [
            {"n_candidates": 2},
            {"n_candidates": 3},
            {"n_candidates": 3, "strategy": "best-of-n"},
            {"n_candidates": 3, "strategy": "best-of-n", "verifier": lambda q, t: 0.5},
            {"n_candidates": 3},
        ]
        cache = InMemoryCache()
        for given in settings:
            chat(server, esamp=False, cache=cache, **given).invoke("?")

    assert len(server.posts) == 4


def test_tracing_knows_who_answers() -> None:
    """LangSmith's parameters name ttscale, the model and its version."""
    model = ChatESamp(model="m", temperature=0.5)
    params = model._get_ls_params()

    assert (params["ls_provider"], params["ls_model_name"]) == ("ttscale", "m")
    assert params["ls_temperature"] == 0.5
    assert "ttscale" in (model.metadata or {})["lc_versions"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "http://there/v1"}, "model must be given"),
        ({"model": "m", "strategy": "guess"}, "strategy must be one of"),
        ({"model": "m", "strategy": 5}, "strategy must be a strategy or one of"),
        ({"model": "m", "n_candidates": 0}, "n must be"),
        ({"model": "m", "esamp": 9}, "esamp_beta must be"),
        ({"model": "m", "verifier": max}, "uses no verifier"),
        ({"model": "m", "strategy": "verifier-rerank"}, "needs a verifier"),
        ({"model": "m", "strategy": SelfConsistency(), "verifier": max}, "no setting 'verifier'"),
    ],
)
def test_bad_settings_are_refused_when_the_model_is_made(
    settings: dict[str, Any], message: str
) -> None:
    """Not only when it is first asked."""
    with pytest.raises(ValueError, match=message):
        ChatESamp(**settings)


def test_an_engine_in_this_process() -> None:
    """No server and no key; settings reach the engine's sampler."""
    engine = ScriptedEngine(VOTES)
    model = ChatESamp(engine=engine, temperature=0.7, strategy=ESampSelfConsistency(3))
    message = model.invoke([("system", "be brief"), ("user", "3 + 4?")], stop=["X"], max_tokens=7)

    (call,) = engine.calls
    sampler = call.sampler
    assert message.text == r"So \boxed{7}"
    assert call.prompt.messages[0] == Message("system", "be brief")
    assert (sampler.temperature, sampler.max_tokens, sampler.stop) == (0.7, 7, ("X",))
    assert sampler.esamp is not None
    assert message.response_metadata["model_name"] == "scripted"
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 4


@pytest.mark.parametrize(
    ("error", "retryable"), [(EngineStopped("gone"), True), (InvalidInput("no"), False)]
)
def test_errors_of_engines_are_langchains_own(error: Exception, retryable: bool) -> None:
    """They keep ttscale's class, and say whether to try again."""

    class Broken(ScriptedEngine):
        async def adraw(self, *args: Any, **kwargs: Any) -> Any:
            raise error

    with pytest.raises(ModelError, match=str(error)) as caught:
        ChatESamp(engine=Broken(["a"])).invoke("?")

    assert caught.value.is_retryable is retryable
    assert isinstance(caught.value, type(error))


def test_samples_that_all_fail_are_an_error() -> None:
    """Nothing is made up in their place."""
    with pytest.raises(ModelError, match="none of the 8 samples came back: lost") as caught:
        ChatESamp(engine=ScriptedEngine([ValueError("lost")])).invoke("?")

    assert isinstance(caught.value, EngineError)


def test_agents_call_tools_and_answer_in_a_form() -> None:
    """`create_agent` works with tools, and with a response format by either way."""

    def script(request: ServerRequest, _: int) -> Any:
        messages: Any = request.body["messages"]
        names = [t["function"]["name"] for t in request.body.get("tools") or []]  # type: ignore[index, call-overload, union-attr]
        if "response_format" in request.body:
            return '{"x": 1, "y": 2}'
        if messages[-1]["role"] != "tool" and "weather" in names:
            return ToolCall("weather", {"city": "Oslo"})
        return ToolCall("Point", {"x": 1, "y": 2}) if "Point" in names else r"\boxed{sunny}"

    with ScriptedServer(script) as server:
        plain = create_agent(chat(server), tools=[weather])
        forms = [
            create_agent(chat(server, profile=profile), tools=[], response_format=Point)
            for profile in ({}, {"structured_output": True, "tool_calling": True})
        ]
        answer = plain.invoke({"messages": [HumanMessage("Weather in Oslo?")]})
        points = [form.invoke({"messages": [HumanMessage("Where?")]}) for form in forms]

    assert [m.type for m in answer["messages"]] == ["human", "ai", "tool", "ai"]
    assert answer["messages"][-2].content == "sunny in Oslo"
    assert [point["structured_response"] for point in points] == [Point(x=1, y=2)] * 2


def test_a_graph_with_parallel_branches_shares_an_engine() -> None:
    """Nodes of LangGraph that run at the same time use one engine."""
    model = ChatESamp(engine=ScriptedEngine(VOTES))
    graph = StateGraph(MessagesState)
    for name in ("left", "right"):
        graph.add_node(name, lambda state: {"messages": [model.invoke(state["messages"])]})
        graph.add_edge(START, name)
        graph.add_edge(name, END)

    state = graph.compile().invoke({"messages": [HumanMessage("3 + 4?")]})

    assert [m.text for m in state["messages"][1:]] == [r"So \boxed{7}"] * 2


async def test_plain_text_models() -> None:
    """`prompt | llm | parser`, synchronous or not, as a chat or as raw text."""
    engine = ScriptedEngine([*VOTES, "x STOP y"])
    prompt = PromptTemplate.from_template("{a} + {b}?")
    chain = prompt | ESampLLM(engine=engine, n_candidates=3) | StrOutputParser()
    raw = ESampLLM(engine=engine, n_candidates=1, raw=True, esamp=False)

    assert chain.invoke({"a": 3, "b": 4}) == r"So \boxed{7}"
    assert await chain.ainvoke({"a": 3, "b": 4}) == r"So \boxed{7}"
    assert raw.invoke("Once upon", stop=["}"]) == r"\boxed{8"
    assert [c.prompt.text for c in engine.calls] == [None, None, "Once upon"]
    assert engine.calls[0].sampler.esamp is not None
    with pytest.raises(ValueError, match="strategy must be one of"):
        ESampLLM(engine=engine, strategy="guess")


async def test_any_chat_model_may_vote() -> None:
    """Samples of a model that knows nothing of ttscale; tools are compared by their calls."""
    model = FakeListChatModel(responses=VOTES)
    voting = ttscale_vote(model, 3)
    chain = ChatPromptTemplate.from_template("{q}") | voting | StrOutputParser()

    assert chain.invoke({"q": "?"}) == r"So \boxed{7}"
    assert (await voting.ainvoke("?")).text == r"So \boxed{7}"
    assert told(voting.invoke([HumanMessage("?")]))["votes"][0]["count"] == 2


def test_any_chat_model_may_vote_on_calls() -> None:
    """Bound tools tell that samples are calls."""
    script = iter([ToolCall("weather", {"city": c}) for c in ("Rome", "Oslo", "Oslo")])
    with ScriptedServer(lambda *_: next(script)) as server:
        model = chat(server, n_candidates=1, esamp=False).bind_tools([weather])
        message = ttscale_vote(model, 3, concurrency=1).invoke("?")

    assert isinstance(message, AIMessage)
    assert message.tool_calls[0]["args"] == {"city": "Oslo"}


def test_connections_of_dropped_models_are_closed() -> None:
    """A model that is no longer used leaves no open connection behind."""
    with ScriptedServer(["a"]) as server:
        model = chat(server, esamp=False)
        model.invoke("?")
        http = model.root_async_client._client
        del model
        gc.collect()
        for _ in range(WAIT * 100):
            if http.is_closed:
                break
            asyncio.run(asyncio.sleep(0.01))

    assert http.is_closed
