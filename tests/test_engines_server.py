"""`ServerEngine` against a scripted server: what it sends, and what it makes of the answers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from ttscale.engines import Engine, ServerEngine, draw
from ttscale.errors import EngineStopped, InvalidInput
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler, esamp, fire
from ttscale.strategies import SelfConsistency
from ttscale.testing import Reply, ScriptedEngine, ScriptedServer, ServerRequest, candidate
from ttscale.types import Candidate, Message, Prompt, Usage

CHAT = Prompt.of("two words", system="be brief")
TEXT = Prompt.raw("once upon a time")
SCRIPT: list[str | Candidate] = [
    "one two three",
    candidate("four\u2028 five\u0085 six", logprob=-1.5, token_count=3),
    candidate("", token_count=1, logprob=-2.0, finish_reason="length"),
    candidate("s\n\n t", logprob=-4.0, top_logprobs={"s": -0.5, " s": -1.0, "z": -3.0}),
]
ESAMP_KEYS = {
    "esamp_beta": 0.5,
    "esamp_scope": "prompt",
    "esamp_distiller": "ridge",
    "esamp_fusion": "mix",
    "esamp_gate": 1,
    "esamp_hold_eos": 1,
    "esamp_seed": 0,
}


def posted(server: ScriptedServer) -> ServerRequest:
    """The only request for samples that the server got."""
    (request,) = server.posts
    return request


def test_importing_strategies_loads_no_http_client() -> None:
    """Whoever needs no server does not wait for httpx; nobody gets torch or vLLM unasked."""
    code = (
        "import sys, ttscale.strategies; assert 'httpx' not in sys.modules\n"
        "import ttscale.engines.server; assert not {'torch', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_is_an_engine() -> None:
    """It has what strategies ask of an engine, and shows where it asks."""
    with ServerEngine("http://localhost:1", "m") as engine:
        assert isinstance(engine, Engine)
        assert engine.model == "m"
        assert repr(engine) == "ServerEngine(['http://localhost:1/v1'], 'm')"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prompt", [CHAT, TEXT])
def test_gives_what_the_script_says(prompt: Prompt, stream: bool) -> None:
    """Over HTTP the samples are those that a scripted engine gives, on every route."""
    sampler = Sampler(top_logprobs=3)
    expected = draw(ScriptedEngine(SCRIPT), prompt, 5, sampler)

    with ScriptedServer(SCRIPT) as server, ServerEngine(server.base_url, stream=stream) as engine:
        samples = engine.draw(prompt, 5, sampler)

    assert samples == replace(expected, replicas=(server.base_url,))


def test_strategies_run_over_it() -> None:
    """A strategy gets its outcome from a server."""
    with (
        ScriptedServer([r"\boxed{7}", r"\boxed{8}", r"\boxed{7}"]) as server,
        ServerEngine(server.base_url) as engine,
    ):
        outcome = SelfConsistency(n=3).run(engine, "3 + 4?")

    assert outcome.answer == "7"


def test_one_request_draws_all_samples() -> None:
    """A draw of n is one request with n, carrying every turn and setting."""
    sampler = Sampler(temperature=0.5, top_p=0.9, max_tokens=7, stop=("X",), seed=3, top_logprobs=2)
    with ScriptedServer(["a"], esamp=False) as server, ServerEngine(server.base_url) as engine:
        engine.draw(CHAT, 4, sampler)

    request = posted(server)
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "two words"},
        ],
        "n": 4,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "stop": ["X"],
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_raw_text_goes_to_the_text_route() -> None:
    """Raw text is continued, without a chat template."""
    with (
        ScriptedServer(["a"], esamp=False) as server,
        ServerEngine(server.base_url, stream=False, logprobs=False) as engine,
    ):
        engine.draw(TEXT, 1, Sampler())

    request = posted(server)
    assert request.path == "/v1/completions"
    assert request.body == {
        "model": "scripted",
        "prompt": "once upon a time",
        "n": 1,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 512,
    }


def test_fields_beyond_openai_are_sent_when_set() -> None:
    """Servers that may not know them get top_k and min_p only when they matter."""
    with ScriptedServer(["a"], esamp=False) as server, ServerEngine(server.base_url) as engine:
        engine.draw(CHAT, 1, Sampler(top_k=5, min_p=0.1))

    body = posted(server).body
    assert (body["top_k"], body["min_p"]) == (5, 0.1)
    assert "repetition_penalty" not in body


def test_vllm_gets_every_setting() -> None:
    """Left out, vLLM would take them from the model's own settings, unlike the sampler says."""
    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url) as engine:
        engine.draw(CHAT, 1, Sampler())

    body = posted(server).body
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)
    assert "vllm_xargs" not in body


def test_esamp_and_fire_travel_as_flat_keys() -> None:
    """The keys are those that the plugin reads."""
    sampler = Sampler(esamp=ESamp(beta=0.5), fire_temperature=20.0)
    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url) as engine:
        samples = engine.draw(CHAT, 2, sampler)

    assert server.posts[-1].body["vllm_xargs"] == {**ESAMP_KEYS, "fire_temperature": 20.0}
    assert samples.esamp is None


def test_a_server_is_asked_once_whether_it_has_esamp() -> None:
    """One request for one token with an illegal beta finds out, for all draws."""
    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url) as engine:
        for _ in range(2):
            engine.draw(CHAT, 1, esamp())

    probe, *draws = server.posts
    assert probe.body["vllm_xargs"] == {"esamp_beta": -1.0}
    assert probe.body["max_tokens"] == 1
    assert [request.path for request in draws] == ["/v1/chat/completions"] * 2


@pytest.mark.parametrize("sampler", [esamp(), fire()])
def test_esamp_is_refused_where_the_server_has_none(sampler: Sampler) -> None:
    """A server that ignores the keys would sample plainly; so the draw is refused, every time."""
    with ScriptedServer(["a"], esamp=False) as server, ServerEngine(server.base_url) as engine:
        for _ in range(2):
            with pytest.raises(InvalidInput, match=r"has neither \(it ignores esamp_beta=-1"):
                engine.draw(CHAT, 1, sampler)
        assert engine.draw(CHAT, 1, Sampler()).candidates

    assert len(server.posts) == 2


def test_other_refusals_do_not_pass_for_esamp() -> None:
    """A server that refuses the probe for a reason of its own has no ESamp."""
    strict = Reply(status=400, message="unknown field vllm_xargs: {'esamp_beta': -1}")
    with (
        ScriptedServer(["a"], first=[strict], esamp=False) as server,
        ServerEngine(server.base_url) as engine,
        pytest.raises(InvalidInput, match="unknown field vllm_xargs"),
    ):
        engine.draw(CHAT, 1, esamp())


def test_the_caller_may_say_whether_there_is_esamp() -> None:
    """With `yes` nothing is asked; with `no` nothing is sent."""
    with ScriptedServer(["a"], esamp=False) as server:
        with ServerEngine(server.base_url, esamp="yes") as engine:
            engine.draw(CHAT, 1, esamp(0.5))
        with (
            ServerEngine(server.base_url, esamp="no") as engine,
            pytest.raises(InvalidInput, match="esamp='no' was given"),
        ):
            engine.draw(CHAT, 1, esamp())

    assert posted(server).body["vllm_xargs"] == ESAMP_KEYS


async def test_a_sampler_can_be_checked_beforehand() -> None:
    """Whether every server has ESamp is found out without a draw."""
    with ScriptedServer(["a"]) as has, ScriptedServer(["a"], esamp=False) as lacks:
        async with ServerEngine([has.base_url, lacks.base_url]) as both:
            await both.acheck(Sampler())
            with pytest.raises(InvalidInput, match=lacks.base_url):
                await both.acheck(esamp())
        async with ServerEngine(has.base_url) as one:
            await one.acheck(esamp())
        async with ServerEngine("http://127.0.0.1:9", "m") as gone:
            with pytest.raises(EngineStopped, match="cannot be reached"):
                await gone.acheck(esamp())

    assert all(request.body["max_tokens"] == 1 for request in has.posts + lacks.posts)


def test_each_candidate_is_told_as_it_finishes() -> None:
    """The hook sees short samples before long ones, and the same candidates as the caller."""
    seen: list[Candidate] = []
    with ScriptedServer(["a b c", "d"]) as server, ServerEngine(server.base_url) as engine:
        samples = draw(engine, CHAT, 2, Sampler(), on_candidate=seen.append)

    assert [c.index for c in seen] == [1, 0]
    assert sorted(seen, key=lambda c: c.index) == list(samples.candidates)


def test_an_error_of_the_hook_is_the_callers() -> None:
    """What the hook raises comes out, and the engine works on."""

    def fail(_: Candidate) -> None:
        raise KeyError("mine")

    with ScriptedServer(["a"]) as server, ServerEngine(server.base_url, concurrency=1) as engine:
        with pytest.raises(KeyError, match="mine"):
            draw(engine, CHAT, 1, Sampler(), on_candidate=fail)
        assert engine.draw(CHAT, 1, Sampler()).candidates


def test_the_first_model_of_the_server_is_the_default() -> None:
    """Without a name the server's first one is asked for."""
    with ScriptedServer(["a"], models=["big", "small"]) as server:
        with ServerEngine(server.base_url) as engine:
            assert engine.model == "big"
        with ServerEngine(server.base_url, "small") as engine:
            engine.draw(CHAT, 1, Sampler())

    assert posted(server).body["model"] == "small"


def test_without_a_model_somebody_must_name_one() -> None:
    """No server, a refusing server, and a server without models are told apart."""
    with pytest.raises(EngineStopped, match="cannot be reached"):
        ServerEngine("http://127.0.0.1:9", connect_timeout=1)
    with (
        ScriptedServer(["a"], api_key="k") as server,
        pytest.raises(InvalidInput, match="401"),
    ):
        ServerEngine(server.base_url)
    with (
        ScriptedServer(["a"], models=[]) as server,
        pytest.raises(InvalidInput, match="model must be given"),
    ):
        ServerEngine(server.base_url)


def test_an_unknown_model_is_invalid_input() -> None:
    """The server's own message comes out."""
    with (
        ScriptedServer(["a"]) as server,
        ServerEngine(server.base_url, "other") as engine,
        pytest.raises(InvalidInput, match="404: The model `other` does not exist"),
    ):
        engine.draw(CHAT, 1, Sampler())


def test_illegal_draws_are_refused_at_the_door() -> None:
    """The sampler's own rule about n holds, and nothing is sent."""
    with (
        ScriptedServer(["a"]) as server,
        ServerEngine(server.base_url) as engine,
        pytest.raises(InvalidInput, match="n must be 1 at temperature 0"),
    ):
        engine.draw(CHAT, 2, Sampler(temperature=0))

    assert not server.posts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": []}, "one or several"),
        ({"base_url": ["http://a", "http://a/v1/"]}, "one or several different"),
        ({"base_url": "localhost:8000"}, "must be an address"),
        ({"base_url": "http://"}, "must be an address"),
        ({"base_url": "http://a\x00"}, "must be an address"),
        ({"base_url": 5}, "must be an address"),
        ({"base_url": "http://user:s3cret@a"}, "without user, password"),
        ({"api_key": ""}, "api_key must be"),
        ({"api_key": "s3cret\n"}, "api_key must be"),
        ({"concurrency": 0}, "concurrency"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"read_timeout": -1}, "read_timeout"),
        ({"total_timeout": float("nan")}, "total_timeout"),
        ({"retries": -1}, "retries"),
        ({"esamp": "maybe"}, "esamp must be one of auto, no, yes"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    """Each setting has its legal range; secrets are not repeated in the message."""
    with pytest.raises(InvalidInput, match=message) as caught:
        ServerEngine(**{"base_url": "http://a", "model": "m", **settings})  # type: ignore[arg-type]

    assert "s3cret" not in str(caught.value)


def test_messages_of_every_role_travel() -> None:
    """Conversations arrive turn by turn."""
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    with ScriptedServer(["x"]) as server, ServerEngine(server.base_url) as engine:
        samples = engine.draw(Prompt(turns), 1, Sampler())

    sent = [{"role": turn.role, "content": turn.content} for turn in turns]
    assert posted(server).body["messages"] == sent
    assert samples.usage == Usage(3, 1)
