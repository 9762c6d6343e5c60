"""What LangChain's users may rely on of `ChatESamp`, promise by promise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel

from ttscale.errors import EngineStopped
from ttscale.integrations._langchain_draw import to_drawn
from ttscale.integrations.langchain import ChatESamp
from ttscale.sampling import Sampler
from ttscale.strategies import ESampSelfConsistency, SelfConsistency, VerifierRerank
from ttscale.strategies.adaptive import AdaptiveSelfConsistency
from ttscale.strategies.beam_search import BeamSearch
from ttscale.strategies.budget_forcing import BudgetForcing
from ttscale.strategies.refine import Refine
from ttscale.testing import Reply, ScriptedEngine, ScriptedServer, ToolCall, candidate
from ttscale.types import ESampReport, Prompt
from ttscale.verifiers import CallableVerifier

WAIT = 20
VOTES = [r"\boxed{8}", r"So \boxed{7}", r"\boxed{7.0}"]


class Closed(ScriptedEngine):
    """A scripted engine that cannot go on from the beginning of an answer."""

    continues_prefix = False


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def chat(server: ScriptedServer, **settings: Any) -> ChatESamp:
    """A model at the scripted server, with three plain samples and quick failures."""
    made = {"n_candidates": 3, "max_retries": 0, "esamp": False, **settings}
    return ChatESamp(model="scripted", base_url=server.base_url, **made)


def told(message: BaseMessage) -> dict[str, Any]:
    """What ttscale tells of a message."""
    found: dict[str, Any] = message.response_metadata["ttscale"]
    return found


def by_length(_: str, text: str) -> float:
    """A score that prefers long texts."""
    return min(1.0, len(text) / 100)


# strategies


async def test_an_adaptive_vote_stops_the_engine_early() -> None:
    """Samples pass on as they finish, so what is not needed is not drawn; what finished counts."""
    finished: list[int] = []

    async def gate(prompt: Prompt, index: int) -> None:
        if index >= 3:
            await asyncio.sleep(WAIT * 10)
        finished.append(index)

    engine = ScriptedEngine([r"\boxed{7}"], gate=gate)
    strategy = AdaptiveSelfConsistency(5, alpha=None)
    async with asyncio.timeout(WAIT):
        message = await ChatESamp(engine=engine, strategy=strategy).ainvoke("3 + 4?")

    assert finished == [0, 1, 2]
    assert (told(message)["requested"], told(message)["returned"]) == (5, 3)
    assert message.text == r"\boxed{7}"


def test_batches_of_one_vote_have_different_seeds() -> None:
    """The model's seed decides all draws, and no two of them draw the same."""
    with ScriptedServer(VOTES) as server:
        strategy = AdaptiveSelfConsistency(4, Sampler(seed=9), batch=1, alpha=None)
        chat(server, strategy=strategy, n_candidates=None, esamp=None, seed=4).invoke("?")
        seeds = [request.body["seed"] for request in server.posts]
        chat(server, strategy=strategy, n_candidates=None, esamp=None, seed=4).invoke("?")

    assert len(seeds) == len(set(seeds)) > 1
    assert [request.body["seed"] for request in server.posts][len(seeds) :] == seeds


def test_follow_up_questions_of_a_strategy_are_asked_and_counted() -> None:
    """Refining sends the attempt back with feedback; the best of all attempts is the answer."""
    strategy = Refine(CallableVerifier(by_length), 2, threshold=0.5)
    with ScriptedServer(["short", "much longer than that"]) as server:
        made = chat(server, strategy=strategy, n_candidates=None, esamp=None)
        server.first.append(Reply())
        message = made.bind_tools([weather]).invoke("?")

    first, second = (request.body for request in server.posts)
    assert "tools" in first
    assert "tools" not in second
    assert len(second["messages"]) > len(first["messages"])  # type: ignore[arg-type]
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 2
    assert told(message)["returned"] == 2


def test_answers_that_a_strategy_writes_in_pieces() -> None:
    """Forced to go on, the model continues its own text; the answer is the whole."""
    script = {"": "It is 8.", "It is 8.\nWait,": r" no, \boxed{7}."}
    engine = ScriptedEngine(lambda prompt, index: script[prompt.prefix])
    strategy = BudgetForcing(1, max_forced=1)
    message = ChatESamp(engine=engine, strategy=strategy).invoke("3 + 4?")

    assert message.text == "It is 8.\nWait, no, \\boxed{7}."
    assert told(message)["answer"] == "7"


def test_servers_go_on_from_the_beginning_of_an_answer() -> None:
    """The beginning travels as a last turn that is not closed."""
    with ScriptedServer([r"a \boxed{7}"]) as server:
        strategy = BudgetForcing(1, max_forced=1)
        chat(server, strategy=strategy, n_candidates=None, esamp=None).invoke("?")

    body = server.posts[1].body
    assert body["messages"][-1]["role"] == "assistant"  # type: ignore[index, call-overload]
    assert body["messages"][-1]["content"].endswith("Wait,")  # type: ignore[index, call-overload, union-attr]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False


def test_steps_of_a_search_keep_their_own_stops() -> None:
    """The caller's length and stops go to the strategy, which makes its steps of them."""
    engine = ScriptedEngine([candidate("\\boxed{7}", finish_reason="stop")])
    strategy = BeamSearch(CallableVerifier(by_length), 1, expand=1, step_tokens=5)
    model = ChatESamp(engine=engine, strategy=strategy, max_tokens=50)
    message = model.invoke("?", stop=["END"])

    sampler = engine.calls[0].sampler
    assert (sampler.max_tokens, sampler.stop[0], len(sampler.stop)) == (5, "END", 2)
    assert sampler.include_stop
    assert message.text == r"\boxed{7}"


def test_an_engine_that_cannot_go_on_is_refused() -> None:
    """With LangChain's error for a wrong request."""
    strategy = BudgetForcing(1, max_forced=1)
    with pytest.raises(ModelError, match="cannot go on from the beginning") as caught:
        ChatESamp(engine=Closed(["a"]), strategy=strategy).invoke("?")

    assert not caught.value.is_retryable


def test_a_servers_log_probabilities_become_confidences() -> None:
    """Strategies that weigh samples by them work over HTTP."""
    tops = [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -3.0}]
    tokens = [{"token": "a", "logprob": -1.0, "top_logprobs": tops}] * 2
    info = {"logprobs": {"content": tokens}}
    generation = ChatGeneration(message=AIMessage("aa"), generation_info=info)

    found = to_drawn(0, generation, Sampler(token_logprobs=2)).candidate
    assert (found.confidences, found.token_logprobs) == ((2.0, 2.0), (-1.0, -1.0))
    assert to_drawn(0, generation, Sampler()).candidate.confidences == ()


# settings of one call


def test_every_setting_can_be_configured() -> None:
    """Strategy, number, ESamp and verifier, by `configurable_fields`, `bind` and keywords."""
    names = ("strategy", "n_candidates", "esamp", "verifier")
    fields: dict[str, Any] = {name: ConfigurableField(id=name) for name in names}
    engine = ScriptedEngine(["a", "bb"])
    model = ChatESamp(engine=engine, n_candidates=2)
    chosen: dict[str, Any] = {
        "strategy": "best-of-n",
        "n_candidates": 4,
        "esamp": 0.5,
        "verifier": by_length,
    }
    messages = [
        model.configurable_fields(**fields).invoke("?", {"configurable": chosen}),
        model.bind(**chosen).invoke("?"),
        model.invoke("?", **chosen),
        model.batch(["?"], **chosen)[0],
        list(model.stream("?", **chosen))[-1],
    ]

    assert {told(m)["strategy"] for m in messages} == {"best-of-n"}
    assert {m.text for m in messages} == {"bb"}
    assert {call.n for call in engine.calls} == {4}
    betas = {call.sampler.esamp.beta for call in engine.calls if call.sampler.esamp}
    assert betas == {0.5}


async def test_all_ways_of_calling_give_the_same_answer() -> None:
    """`invoke`, `ainvoke`, `batch`, `abatch`, `stream`, `astream` and `astream_events`."""
    with ScriptedServer(VOTES) as server:
        model = chat(server)
        answers = [
            model.invoke("?").text,
            (await model.ainvoke("?")).text,
            *(m.text for m in model.batch(["?", "??"], {"max_concurrency": 1})),
            *(m.text for m in await model.abatch(["?", "??"])),
            "".join(chunk.text for chunk in model.stream("?")),
            "".join([chunk.text async for chunk in model.astream("?")]),
        ]
        events = [event async for event in model.astream_events("?", version="v2")]

    end = events[-1]["data"]["output"]
    assert {*answers, end.text} == {r"So \boxed{7}"}


def test_chunks_of_a_stream_are_valid() -> None:
    """Each is a chunk of its own, tokens are told once, and only the last is marked as last."""
    call = ToolCall("weather", {"city": "Oslo"})
    with ScriptedServer([call]) as server:
        chunks = list(chat(server).bind_tools([weather]).stream("?"))

    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    assert sum(chunk.usage_metadata is not None for chunk in chunks) == 1
    marked = [getattr(c, "chunk_position", None) == "last" for c in chunks if c.response_metadata]
    assert marked == [False, True]
    whole = sum(chunks[1:], chunks[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.tool_calls[0]["args"] == {"city": "Oslo"}


# what is told and kept apart


class Watcher(BaseCallbackHandler):
    """Writes down what tracing is told at the start of a call."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Keep the parameters and metadata."""
        self.seen.append({**kwargs["invocation_params"], **(kwargs.get("metadata") or {})})


def test_tracing_is_told_the_strategy_and_once() -> None:
    """Also with a model that judges its own samples, there is one call for tracing."""
    watcher = Watcher()
    with ScriptedServer(VOTES) as server:
        model = chat(server, strategy=VerifierRerank(CallableVerifier(by_length), 2))
        model.invoke("?", {"callbacks": [watcher]})

    (seen,) = watcher.seen
    assert (seen["ls_provider"], seen["ls_model_name"]) == ("ttscale", "scripted")
    assert "VerifierRerank" in seen["strategy"]


def test_streams_count_tokens_once() -> None:
    """The usage of all samples, once, for callbacks too."""
    handler = UsageMetadataCallbackHandler()
    with ScriptedServer(["a b", "c", "d e f"]) as server:
        list(chat(server).stream("one two", {"callbacks": [handler]}))

    assert handler.usage_metadata["scripted"]["output_tokens"] == 6
    assert handler.usage_metadata["scripted"]["input_tokens"] == 2


def test_caches_tell_samplers_and_forms_apart() -> None:
    """Settings inside a strategy, bound tools and the number of samples are part of the key."""
    cache = InMemoryCache()
    strategies: Sequence[Any] = (
        SelfConsistency(2),
        SelfConsistency(2, Sampler(top_k=5)),
        ESampSelfConsistency(2),
        ESampSelfConsistency(2, beta=0.5),
        SelfConsistency(2),
    )
    engine = ScriptedEngine(["a"])
    for strategy in strategies:
        ChatESamp(engine=engine, strategy=strategy, cache=cache).invoke("?")
    model = ChatESamp(engine=engine, strategy=SelfConsistency(2), cache=cache)
    model.invoke("?", n_candidates=3)

    assert len(engine.calls) == 5


def test_what_esamp_did_and_what_failed_is_told() -> None:
    """M of N samples, the reasons for the rest, and the counts of the group."""
    report = ESampReport(rows_mixed=12, steps_trained=3)
    engine = ScriptedEngine([r"\boxed{7}", ValueError("lost")], esamp=report)
    message = ChatESamp(engine=engine, n_candidates=2).invoke("?")

    assert (told(message)["requested"], told(message)["returned"]) == (2, 1)
    assert told(message)["failures"] == ["lost"]
    assert told(message)["esamp"]["rows_mixed"] == 12


# faults


async def test_leaving_a_stream_reaches_the_server() -> None:
    """A cancelled `astream` closes the connection, as `ainvoke` does."""
    with ScriptedServer(["a"], first=[Reply(hold_after=0)]) as server:

        async def read() -> None:
            async for _ in chat(server).astream("?"):
                pass

        task = asyncio.create_task(read())
        async with asyncio.timeout(WAIT):
            while not server.posts:
                await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.posts[0].disconnected.wait, WAIT)


async def test_cancelling_reaches_the_engine() -> None:
    """The engine's own task is cancelled, so that it stops sampling."""
    reached, cancelled = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def gate(prompt: Prompt, index: int) -> None:
        loop.call_soon_threadsafe(reached.set)
        try:
            await asyncio.sleep(WAIT * 10)
        except asyncio.CancelledError:
            loop.call_soon_threadsafe(cancelled.set)
            raise

    model = ChatESamp(engine=ScriptedEngine(["a"], gate=gate))
    async with asyncio.timeout(WAIT):
        task = asyncio.create_task(model.ainvoke("?"))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await cancelled.wait()


def test_a_dead_server_is_retryable_and_has_a_fallback() -> None:
    """Nobody listens at the address: that is told as LangChain tells it, and another answers."""
    server = ScriptedServer(["a"])
    server.close()
    dead = chat(server)
    with pytest.raises(ModelError) as caught:
        dead.invoke("?")

    assert caught.value.is_retryable
    with ScriptedServer(["b"]) as other:
        assert dead.with_fallbacks([chat(other)]).invoke("?").text == "b"


def test_retries_help_an_engine_that_comes_back() -> None:
    """`with_retry` may be limited to the errors that may pass."""
    trouble = [EngineStopped("restarting")]

    class Recovering(ScriptedEngine):
        async def adraw(self, *args: Any, **kwargs: Any) -> Any:
            """Fail once."""
            if trouble:
                raise trouble.pop()
            return await super().adraw(*args, **kwargs)

    model = ChatESamp(engine=Recovering(["a"]))
    patient = model.with_retry(
        retry_if_exception_type=(EngineStopped,), wait_exponential_jitter=False
    )

    assert patient.invoke("?").text == "a"


def test_invalid_calls_lose_even_as_the_majority() -> None:
    """Wrong types of arguments are told from right ones, since the schema is known."""

    class Trip(BaseModel):
        """A trip."""

        days: int

    script = [ToolCall("Trip", {"days": "many"}), ToolCall("Trip", {"days": 2})]
    with ScriptedServer([script[0], script[0], script[1]]) as server:
        message = chat(server).bind_tools([Trip]).invoke([HumanMessage("?")])

    assert message.tool_calls[0]["args"] == {"days": 2}
    assert told(message)["votes"][0]["count"] == 1


@pytest.mark.parametrize(("choice", "strict"), [("any", True), ("weather", True), ("auto", None)])
def test_forced_calls_are_sent_as_strict_to_vllm(choice: str, strict: bool | None) -> None:
    """vLLM holds arguments to their schema only then; what the caller says of it stays."""
    with ScriptedServer([ToolCall("weather", {"city": "Oslo"})]) as server:
        model = chat(server, esamp=0.25)
        model.bind_tools([weather], tool_choice=choice).invoke("?")
        loose = model.bind_tools([weather], tool_choice=choice, strict=False)
        loose.invoke("?")

    sent: list[Any] = [r.body["tools"] for r in server.posts if "tools" in r.body]
    assert [tools[0]["function"].get("strict") for tools in sent] == [strict, False]


def test_equal_samples_of_a_strategy_keep_their_own_places() -> None:
    """All candidates come back as generations when asked for, each once."""
    engine = ScriptedEngine(["well", "well", r"\boxed{7}"])
    model = ChatESamp(engine=engine, n_candidates=3, return_candidates=True)
    generations = model.generate([[HumanMessage("?")]]).generations[0]

    assert [g.text for g in generations] == [r"\boxed{7}", "well", "well"]
    indexes = [told(g.message)["index"] for g in generations]  # type: ignore[union-attr]
    assert indexes == [2, 0, 1]
