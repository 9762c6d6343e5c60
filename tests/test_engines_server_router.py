"""What `ServerEngine` does for a router in front of its servers: sessions, and who answered."""

from __future__ import annotations

import re

import pytest

from ttscale.engines import ServerEngine, _retry
from ttscale.errors import MissingDependency
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler, esamp
from ttscale.serving import running
from ttscale.testing import Reply, ScriptedServer, ServerRequest
from ttscale.types import Prompt

SESSION, REPLICA = "x-session-id", "x-ttscale-replica"
SECRET_WORDS = "the merger with Initech is on Friday"  # noqa: S105 - a prompt


def sessions(server: ScriptedServer) -> list[str | None]:
    """The session of each request for samples."""
    return [request.headers.get(SESSION) for request in draws(server)]


def draws(server: ScriptedServer) -> list[ServerRequest]:
    """The requests for samples, without probes."""
    return [request for request in server.posts if request.body.get("n") is not None]


def test_samples_of_a_prompt_have_one_session() -> None:
    """Whatever the sampler, the seed and the process; another prompt has another."""
    with ScriptedServer(["a"]) as server:
        for settings in (Sampler(seed=1), Sampler(temperature=0.5), esamp()):
            with ServerEngine(server.base_url) as engine:
                engine.draw("What is 3 + 4?", 1, settings)
                engine.draw("What is 3 + 5?", 1, settings)

    assert len(set(sessions(server)[::2])) == len(set(sessions(server)[1::2])) == 1
    assert len(set(sessions(server))) == 2


def test_a_named_group_has_one_session() -> None:
    """Its requests share a distiller, so they must meet, whatever they ask."""
    named = Sampler(esamp=ESamp(group="ours"))
    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url) as engine:
        engine.draw("one question", 1, named)
        engine.draw("another one", 1, named)

    assert len(set(sessions(server))) == 1


@pytest.mark.parametrize("prompt", [Prompt.of(SECRET_WORDS), Prompt.raw(SECRET_WORDS)])
def test_no_word_of_a_prompt_shows_in_a_header(prompt: Prompt) -> None:
    """Headers are logged where bodies are not; the API key is in its own header alone."""
    with (
        ScriptedServer(["a"], api_key="sk-s3cret") as server,
        ServerEngine(server.base_url, api_key="sk-s3cret") as engine,
    ):
        engine.draw(prompt, 1, esamp())

    (request,) = draws(server)
    assert re.fullmatch("[0-9a-f]{32}", request.headers[SESSION])
    others = {k: v for k, v in request.headers.items() if k != "authorization"}
    assert not any(word in str(others) for word in (*SECRET_WORDS.split()[1:2], "s3cret"))


def test_samples_tell_who_drew_them() -> None:
    """The server's own name, which a router passes on; else its address."""
    named = Reply(headers={REPLICA: "a1"})
    with (
        ScriptedServer(["a"], first=[named]) as server,
        ServerEngine(server.base_url, stream=False) as engine,
    ):
        told = [engine.draw("hello", 1, Sampler()).replicas for _ in range(2)]

    assert told == [("a1",), (server.base_url,)]


def test_samples_that_were_begun_again_tell_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever counts lost distillers can."""
    monkeypatch.setattr(_retry, "FIRST_PAUSE", 0.001)
    with (
        ScriptedServer(["a", "b"], first=[Reply(break_after=0)]) as server,
        ServerEngine(server.base_url) as engine,
    ):
        samples = engine.draw("hello", 2, Sampler())

    assert len(samples.candidates) == 2
    assert samples.replicas == (server.base_url, server.base_url)


def test_a_router_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingDependency, match=r"ttscale\[router\]"):
        running.running_router(["http://127.0.0.1:1"])


class Forgetful(ScriptedServer):
    """A router whose first replica has died: GETs fail from the second on."""

    def models(self) -> dict[str, object]:  # type: ignore[override]
        """What the live replica would tell."""
        return dict(super().models())

    def refusal(self, request: ServerRequest) -> tuple[int, str] | None:
        """500 for the list of models, once it has been given."""
        lists = [r for r in self.requests if r.path.endswith("/models")]
        if request.path.endswith("/models") and len(lists) > 1:
            return 500, "Request failed: error sending request"
        return super().refusal(request)


def test_a_router_that_asks_the_dead_replica_holds_up_no_draw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was known before the connection broke holds until the models can be listed again."""
    monkeypatch.setattr(_retry, "FIRST_PAUSE", 0.001)
    with (
        Forgetful(["a"], first=[Reply(break_after=0)]) as server,
        ServerEngine(server.base_url, retries=1) as engine,
    ):
        samples = engine.draw("hello", 1, Sampler(top_k=5))

    assert len(samples.candidates) == 1
    assert all("min_p" in request.body for request in draws(server))  # it is still known as vLLM
