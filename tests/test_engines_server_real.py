"""`ServerEngine` against a real vLLM server with the embedded model."""

from __future__ import annotations

import httpx
import pytest

from ttscale import ServerEngine, models
from ttscale.errors import InvalidInput
from ttscale.esamp import ESamp
from ttscale.sampling import Sampler
from ttscale.types import Prompt

pytestmark = pytest.mark.engine
RANGE = r"esamp_beta must be a number in \[0, 4\]"


def test_chat_with_esamp(server_url: str) -> None:
    """Four samples by one request, each with its tokens counted and weighed."""
    sampler = Sampler(max_tokens=6, top_logprobs=3, top_k=50, esamp=ESamp(beta=0.5))
    with ServerEngine(server_url) as engine:
        samples = engine.draw("Name a colour.", 4, sampler)
        plain = engine.draw("Name a colour.", 2, Sampler(max_tokens=3))

    assert engine.model == models.EMBEDDED
    assert len(samples.candidates) == 4
    assert samples.failures == ()
    assert samples.usage.completion_tokens == sum(c.token_count for c in samples.candidates)
    assert samples.usage.prompt_tokens > 10
    assert all(c.logprob is not None and c.logprob < 0 for c in samples.candidates)
    assert all(len(c.top_logprobs) >= 3 for c in samples.candidates)
    assert len(plain.candidates) == 2


@pytest.mark.parametrize("stream", [True, False])
def test_raw_text(server_url: str, stream: bool) -> None:
    """Streamed or not, greedy samples of raw text are the same."""
    sampler = Sampler(temperature=0, max_tokens=5)
    with ServerEngine(server_url, stream=stream) as engine:
        (made,) = engine.draw(Prompt.raw("One, two, three,"), 1, sampler).candidates

    assert (made.token_count, made.finish_reason) == (5, "length")
    assert made.text


@pytest.mark.parametrize("stream", [True, False])
def test_an_illegal_beta_is_refused_with_its_range(server_url: str, stream: bool) -> None:
    """The plugin's own message comes through, also from within a stream."""
    settings = ESamp()
    object.__setattr__(settings, "beta", 9.0)  # past the check of this side
    with (
        ServerEngine(server_url, stream=stream) as engine,
        pytest.raises(InvalidInput, match=RANGE),
    ):
        engine.draw("Hello", 2, Sampler(max_tokens=2, esamp=settings))


def test_a_prompt_that_is_too_long_is_refused(server_url: str) -> None:
    """vLLM's own message comes through."""
    with ServerEngine(server_url) as engine, pytest.raises(InvalidInput, match="answered 400"):
        engine.draw("word " * 3000, 1, Sampler(max_tokens=2))


def test_any_client_is_refused_an_illegal_beta(server_url: str) -> None:
    """The plugin answers 400 to plain HTTP too."""
    body = {"model": models.EMBEDDED, "prompt": "Hi", "vllm_xargs": {"esamp_beta": -1}}
    answer = httpx.post(f"{server_url}/completions", json=body, trust_env=False)

    assert answer.status_code == 400
    assert "esamp_beta must be a number in [0, 4], got -1" in answer.text
