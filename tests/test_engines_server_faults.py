"""`ServerEngine` when servers fail, break off, hang, redirect or are gone."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from ttscale.engines import ServerEngine, _retry, draw
from ttscale.errors import EngineError, EngineStopped, InvalidInput
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler, esamp
from ttscale.testing import Reply, ScriptedServer
from ttscale.types import Candidate, Prompt

ASK = Prompt.of("a question")
WAIT = 20  # seconds after which a test that hangs fails
SCRIPT = ["a", "b c d e", "f", "g h i j"]
KEY = "sk-s3cret"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once."""
    monkeypatch.setattr(_retry, "FIRST_PAUSE", 0.001)


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(WAIT):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_tried_again(status: int) -> None:
    """Time-outs, too many requests and server errors go by."""
    first = [Reply(status=status), Reply(status=status, headers={"Retry-After": "0"})]
    with ScriptedServer(["a"], first=first) as server, ServerEngine(server.base_url) as engine:
        assert engine.draw(ASK, 1, Sampler()).candidates[0].text == "a"

    assert len(server.posts) == 3


def test_lasting_trouble_is_an_error() -> None:
    """After its retries the engine gives up with the server's message."""
    first = [Reply(status=503, message="loading")] * 9
    with (
        ScriptedServer(["a"], first=first) as server,
        ServerEngine(server.base_url, retries=1) as engine,
        pytest.raises(EngineError, match="answered 503: loading"),
    ):
        engine.draw(ASK, 1, Sampler())

    assert len(server.posts) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_refusals_are_not_tried_again(status: int) -> None:
    """Other client errors are the caller's, with the server's message."""
    first = [Reply(status=status, message="too long")]
    with (
        ScriptedServer(["a"], first=first) as server,
        ServerEngine(server.base_url) as engine,
        pytest.raises(InvalidInput, match=f"answered {status}: too long"),
    ):
        engine.draw(ASK, 1, Sampler())

    assert len(server.posts) == 1


def test_no_wait_goes_beyond_the_deadline() -> None:
    """When the server asks for more patience than there is time, the error comes at once."""
    first = [Reply(status=429, headers={"Retry-After": "9999"}, message="slow down")]
    with (
        ScriptedServer(["a"], first=first) as server,
        ServerEngine(server.base_url, total_timeout=60) as engine,
        pytest.raises(EngineError, match="slow down"),
    ):
        engine.draw(ASK, 1, Sampler())

    assert len(server.posts) == 1


def test_a_broken_stream_keeps_what_has_finished() -> None:
    """M of N: the finished samples, and a reason for each of the others."""
    with (
        ScriptedServer(SCRIPT, first=[Reply(break_after=2)]) as server,
        ServerEngine(server.base_url) as engine,
    ):
        samples = engine.draw(ASK, 4, Sampler())

    assert [(c.index, c.text) for c in samples.candidates] == [(0, "a"), (2, "f")]
    assert [failure.index for failure in samples.failures] == [1, 3]
    assert all("broke" in failure.reason for failure in samples.failures)
    assert samples.requested == 4
    assert samples.usage.prompt_tokens == 2
    assert len(server.posts) == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_connection_that_breaks_before_any_sample_is_tried_again(stream: bool) -> None:
    """Nothing is lost by asking again."""
    with (
        ScriptedServer(SCRIPT, first=[Reply(break_after=0)]) as server,
        ServerEngine(server.base_url, stream=stream) as engine,
    ):
        samples = engine.draw(ASK, 4, Sampler())

    assert [c.text for c in samples.candidates] == SCRIPT
    assert len(server.posts) == 2


def test_a_server_that_keeps_breaking_off_is_gone() -> None:
    """Without any sample there is nothing to keep."""
    with (
        ScriptedServer(SCRIPT, first=[Reply(break_after=0)] * 9) as server,
        ServerEngine(server.base_url) as engine,
        pytest.raises(EngineStopped, match="broke"),
    ):
        engine.draw(ASK, 4, Sampler())


def test_errors_within_a_stream_keep_what_has_finished() -> None:
    """vLLM tells of errors in the stream itself once it has begun."""
    first = [Reply(status=500, error_after=1, message="engine died")]
    with ScriptedServer(SCRIPT, first=first) as server, ServerEngine(server.base_url) as engine:
        samples = engine.draw(ASK, 4, Sampler())

    assert [c.index for c in samples.candidates] == [0]
    assert all("engine died" in failure.reason for failure in samples.failures)


def test_a_refusal_within_a_stream_is_invalid_input() -> None:
    """vLLM checks some settings only after its answer has begun."""
    first = [Reply(status=400, error_after=0, message="no ESamp on this engine")]
    with (
        ScriptedServer(SCRIPT, first=first) as server,
        ServerEngine(server.base_url) as engine,
        pytest.raises(InvalidInput, match="400: no ESamp on this engine"),
    ):
        engine.draw(ASK, 4, Sampler())

    assert len(server.posts) == 1


def test_the_deadline_keeps_what_has_finished() -> None:
    """When the time is up the server is left, and finished samples are kept."""
    with ScriptedServer(SCRIPT, first=[Reply(hold_after=1)]) as server:
        with ServerEngine(server.base_url, total_timeout=0.3) as engine:
            samples = engine.draw(ASK, 4, Sampler())
        assert server.posts[0].disconnected.wait(WAIT)

    assert [c.index for c in samples.candidates] == [0]
    assert {f.reason for f in samples.failures} == {"not finished within total_timeout=0.3 s"}


def test_a_deadline_without_samples_gives_failures() -> None:
    """A draw of which nothing came back in time is that many failures."""
    with (
        ScriptedServer(SCRIPT, first=[Reply(hold_after=0)]) as server,
        ServerEngine(server.base_url, total_timeout=0.2) as engine,
    ):
        samples = engine.draw(ASK, 4, Sampler())

    assert samples.candidates == ()
    assert len(samples.failures) == 4


def test_a_silent_server_is_left() -> None:
    """After `read_timeout` without a byte, what has finished is kept; else it is an error."""
    first = [Reply(hold_after=0), Reply(hold_after=3)]
    with (
        ScriptedServer(SCRIPT, first=first) as server,
        ServerEngine(server.base_url, read_timeout=0.2) as engine,
    ):
        with pytest.raises(EngineError, match=r"nothing for read_timeout=0\.2 s"):
            engine.draw(ASK, 4, Sampler())
        samples = engine.draw(ASK, 4, Sampler())

    assert len(samples.candidates) == 3
    assert "read_timeout" in samples.failures[0].reason


async def test_cancelling_closes_the_connection() -> None:
    """The server sees that nobody waits any more, and the place is free for the next draw."""
    with ScriptedServer(["a"], first=[Reply(hold_after=0)]) as server:
        async with ServerEngine(server.base_url, concurrency=1) as engine:
            task = asyncio.create_task(engine.adraw(ASK, 1, Sampler()))
            await until(lambda: len(server.posts) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.posts[0].disconnected.wait, WAIT)
            async with asyncio.timeout(WAIT):
                assert (await engine.adraw(ASK, 1, Sampler())).candidates


async def test_places_come_back_from_cancelled_waiters() -> None:
    """A draw that is cancelled while it waits for its place takes none with it."""
    release = threading.Event()
    with ScriptedServer(["a"], first=[Reply(hold_after=0, release=release)]) as server:
        async with ServerEngine(server.base_url, concurrency=1) as engine:
            running = asyncio.create_task(engine.adraw(ASK, 1, Sampler()))
            await until(lambda: len(server.posts) == 1)
            waiting = [asyncio.create_task(engine.adraw(ASK, 1, Sampler())) for _ in range(5)]
            await asyncio.sleep(0.02)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            release.set()
            async with asyncio.timeout(WAIT):
                assert (await running).candidates
                assert (await engine.adraw(ASK, 1, Sampler())).candidates

    assert len(server.posts) == 2


async def test_no_more_draws_at_once_than_allowed() -> None:
    """The others wait until one has finished."""
    release = threading.Event()
    holds = [Reply(hold_after=0, release=release)] * 2
    with ScriptedServer(["a"], first=holds) as server:
        async with (
            ServerEngine(server.base_url, concurrency=2) as engine,
            ServerEngine(server.base_url, stream=False) as other,
        ):
            draws = [asyncio.create_task(engine.adraw(ASK, 1, Sampler())) for _ in range(5)]
            await until(lambda: len(server.posts) == 2)
            await other.adraw(ASK, 1, Sampler())  # time enough for a third, were there any
            assert len([r for r in server.posts if "stream" in r.body]) == 2
            release.set()
            async with asyncio.timeout(WAIT):
                await asyncio.gather(*draws)

    assert len(server.posts) == 6


def test_several_event_loops_share_one_engine() -> None:
    """Callers on loops and threads of their own get their samples from one engine."""
    texts: list[str] = []

    def ask() -> None:
        samples = asyncio.run(engine.adraw(ASK, 1, Sampler()))
        texts.append(samples.candidates[0].text)

    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url, concurrency=2) as engine:
        threads = [threading.Thread(target=ask) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)

    assert texts == ["a"] * 6


def test_a_server_that_is_gone_stops_the_engine(dead_url: str) -> None:
    """Nobody listens, after every retry."""
    with (
        ServerEngine(dead_url, "m", connect_timeout=2) as engine,
        pytest.raises(EngineStopped, match="cannot be reached"),
    ):
        engine.draw(ASK, 1, Sampler())


def test_a_prompt_has_one_server() -> None:
    """Draws of the same prompt share a server, and prompts are spread over all."""
    with (
        ScriptedServer(["a"]) as one,
        ScriptedServer(["a"]) as two,
        ServerEngine([one.base_url, two.base_url]) as engine,
    ):
        for _ in range(2):
            for place in range(16):
                engine.draw(f"question {place}", 1, Sampler())

    asked = [{str(r.body["messages"]) for r in server.posts} for server in (one, two)]
    assert not asked[0] & asked[1]
    assert all(asked)
    assert len(asked[0] | asked[1]) == 16


def test_a_named_group_has_one_server() -> None:
    """Requests that share a distiller must meet, whatever their prompts."""
    sampler = esamp(esamp=ESamp(group="g"))
    with (
        ScriptedServer(["a"]) as one,
        ScriptedServer(["a"]) as two,
        ServerEngine([one.base_url, two.base_url]) as engine,
    ):
        for place in range(8):
            engine.draw(f"question {place}", 1, sampler)

    draws = [sum("chat" in r.path for r in server.posts) for server in (one, two)]
    assert sorted(draws) == [0, 8]


def test_a_dead_server_is_passed_over(dead_url: str) -> None:
    """Its prompts go to the other one, without a retry's pause, and it is counted."""
    with (
        ScriptedServer(["a"]) as server,
        ServerEngine([server.base_url, dead_url], "scripted", retries=0) as engine,
    ):
        for place in range(16):
            assert engine.draw(f"question {place}", 1, Sampler()).candidates
        skipped = engine.skipped

    assert len(server.posts) == 16
    assert skipped[server.base_url] == 0
    assert skipped[dead_url] > 0


def test_what_is_known_of_a_server_is_forgotten_when_its_connection_breaks() -> None:
    """Another server may have taken its place, so it is asked again."""
    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url) as engine:
        engine.draw(ASK, 1, esamp())
        server.first.append(Reply(break_after=0))
        engine.draw(ASK, 1, esamp())

    probes = [r for r in server.posts if r.body["max_tokens"] == 1]
    assert len(probes) == 2


def test_closing_breaks_off_what_runs() -> None:
    """Running draws end, finished samples are kept, and later draws are refused."""
    seen = threading.Event()
    outcome: list[object] = []

    def run(hook: Callable[[Candidate], None] | None) -> None:
        try:
            outcome.append(draw(engine, ASK, 4, Sampler(), on_candidate=hook))
        except EngineStopped as error:
            outcome.append(error)

    with ScriptedServer(SCRIPT, first=[Reply(hold_after=1)]) as server:
        engine = ServerEngine(server.base_url)
        thread = threading.Thread(target=run, args=(lambda _: seen.set(),))
        thread.start()
        assert seen.wait(WAIT)
        engine.close()
        engine.close()
        thread.join(WAIT)
        run(None)

    kept, refused = outcome
    assert [f.reason for f in kept.failures] == ["the engine was closed"] * 3  # type: ignore[attr-defined]
    assert "has been closed" in str(refused)


def test_the_key_is_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """It is in the header, and not in reprs, logs or errors, even when the server repeats it."""
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(["a"], api_key=KEY) as server:
        with ServerEngine(server.base_url, "scripted", api_key=SecretStr(KEY)) as engine:
            assert engine.draw(ASK, 1, Sampler()).candidates
            shown = repr(engine) + str(vars(engine))
        with (
            ServerEngine(server.base_url, "scripted", api_key=KEY + "x") as engine,
            pytest.raises(InvalidInput, match=r"wrong key: Bearer \*\*\*") as caught,
        ):
            engine.draw(ASK, 1, Sampler())

    assert server.posts[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in shown + str(caught.value) + caplog.text
    assert caught.value.__cause__ is None


def test_redirects_are_not_followed() -> None:
    """Neither the prompt nor the key goes to a host that was not configured."""
    with ScriptedServer(["b"]) as other:
        away = Reply(status=307, headers={"Location": f"{other.base_url}/chat/completions"})
        with (
            ScriptedServer(["a"], first=[away]) as server,
            ServerEngine(server.base_url, api_key=KEY) as engine,
            pytest.raises(InvalidInput, match=r"redirects to http.*not followed"),
        ):
            engine.draw(ASK, 1, Sampler())

    assert other.requests == []


def test_proxies_of_the_environment_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would see prompts and key; it is used only when that is asked for."""
    with ScriptedServer(["a"]) as server, ScriptedServer(["b"]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with ServerEngine(server.base_url, api_key=KEY) as engine:
            engine.draw(ASK, 1, Sampler())
        direct = len(proxy.requests)
        with (
            ServerEngine(server.base_url, "scripted", trust_env=True, retries=0) as engine,
            pytest.raises(InvalidInput, match="no route"),
        ):
            engine.draw(ASK, 1, Sampler())

    assert direct == 0
    assert proxy.requests
