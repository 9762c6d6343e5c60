"""What engines tell beyond a sample's text: where it goes on from, and how sure the model was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ttscale import LocalEngine, ServerEngine
from ttscale.engines.protocol import check_prefix
from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.testing import ScriptedEngine, ScriptedServer, candidate
from ttscale.types import Candidate, Message, Prompt, confidence

QUESTION = Prompt.of("What is 3 + 4?")
BEGUN = replace(QUESTION, prefix="The sum is")
SURE = candidate("a b", token_count=2, logprob=-3.0, token_logprobs=(-1, -2), confidences=(4, 5))


class OldEngine:
    """An engine that does not know prefixes."""

    model = "old"


def test_a_prefix_begins_an_answer_once() -> None:
    """A prefix after an assistant's turn would be two beginnings, and is refused."""
    with pytest.raises(InvalidInput, match="put that turn's text in front of the prefix"):
        Prompt(messages=(Message("user", "q"), Message("assistant", "a")), prefix="b")


def test_engines_without_prefixes_are_refused() -> None:
    """An engine that would ignore a prefix is refused it; a prompt without one passes."""
    with pytest.raises(InvalidInput, match="OldEngine cannot go on from the beginning"):
        check_prefix(OldEngine(), BEGUN)  # type: ignore[arg-type]

    check_prefix(OldEngine(), QUESTION)  # type: ignore[arg-type]
    check_prefix(ScriptedEngine(["a"]), BEGUN)


def test_confidence_looks_at_the_likeliest() -> None:
    """Minus the mean of the largest log-probabilities, of as many as are asked for."""
    assert confidence([-3.0, -1.0, -2.0], 2) == 1.5
    assert confidence([-3.0], 5) == 3.0


@pytest.mark.parametrize("count", [-1, 21, 1.5])
def test_an_illegal_count_is_refused(count: int) -> None:
    """Servers tell of twenty tokens at most."""
    with pytest.raises(InvalidInput, match="token_logprobs must be a whole number"):
        Sampler(token_logprobs=count)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("prompt", [QUESTION, Prompt.raw("Once")])
def test_log_probabilities_come_over_http(prompt: Prompt, stream: bool) -> None:
    """By both routes, streamed or not, each token's log-probability and confidence arrive."""
    with ScriptedServer([SURE]) as server, ServerEngine(server.base_url, stream=stream) as engine:
        (asked,) = engine.draw(prompt, 1, Sampler(token_logprobs=3)).candidates
        (plain,) = engine.draw(prompt, 1, Sampler()).candidates

    assert asked.token_logprobs == (-1.0, -2.0)
    assert asked.confidences == pytest.approx((4.0, 5.0))
    assert asked.top_logprobs == {}
    assert (plain.token_logprobs, plain.confidences) == ((), ())


def test_a_prefix_is_an_open_turn_on_vllm() -> None:
    """A vLLM server is sent the beginning as a last turn, and told to go on from it."""
    with ScriptedServer(["7."], esamp=True) as server, ServerEngine(server.base_url) as engine:
        engine.draw(BEGUN, 1, Sampler(include_stop=True))
        engine.draw(replace(Prompt.raw("Once"), prefix=" upon"), 1, Sampler())
        chat, text = server.posts[-2].body, server.posts[-1].body

    assert chat["messages"] == [
        {"role": "user", "content": "What is 3 + 4?"},
        {"role": "assistant", "content": "The sum is"},
    ]
    assert (chat["add_generation_prompt"], chat["continue_final_message"]) == (False, True)
    assert chat["include_stop_str_in_output"] is True
    assert text["prompt"] == "Once upon"


def test_other_servers_are_refused_a_prefix() -> None:
    """A server that would answer the open turn anew is not asked."""
    with ScriptedServer(["7."], esamp=False) as server, ServerEngine(server.base_url) as engine:
        with pytest.raises(InvalidInput, match="only vLLM goes on"):
            engine.draw(BEGUN, 1, Sampler())
        with pytest.raises(InvalidInput, match="include_stop needs a vLLM server"):
            engine.draw(QUESTION, 1, Sampler(include_stop=True))
        assert server.posts == []


def checked(found: Candidate) -> None:
    """A real candidate whose per-token figures fit together."""
    assert len(found.token_logprobs) == len(found.confidences) == found.token_count
    assert sum(found.token_logprobs) == pytest.approx(found.logprob, abs=1e-3)
    assert all(value > 0 for value in found.confidences)


@pytest.mark.engine
def test_the_engine_goes_on_from_a_prefix(engine: LocalEngine) -> None:
    """Greedily, what follows the first words of a sample is the rest of that sample."""
    greedy = Sampler(temperature=0, max_tokens=12, token_logprobs=4)
    (whole,) = engine.draw(QUESTION, 1, greedy).candidates
    (start,) = engine.draw(QUESTION, 1, replace(greedy, max_tokens=4)).candidates
    begun = replace(QUESTION, prefix=start.text)
    (rest,) = engine.draw(begun, 1, replace(greedy, max_tokens=8)).candidates

    assert start.text + rest.text == whole.text
    checked(whole)


@pytest.mark.engine
def test_a_stop_text_is_kept_when_asked(engine: LocalEngine) -> None:
    """The sample ends with the text at which it stopped."""
    raw = Prompt.raw("1, 2, 3, 4, 5,")
    kept = Sampler(temperature=0, max_tokens=30, stop=(" 7",), include_stop=True)
    (found,) = engine.draw(raw, 1, kept).candidates
    (bare,) = engine.draw(raw, 1, replace(kept, include_stop=False)).candidates

    assert found.text == bare.text + " 7"


@pytest.mark.engine
def test_a_server_goes_on_from_a_prefix(server_url: str) -> None:
    """By the chat route too, the rest of a greedy sample follows its first words."""
    greedy = Sampler(temperature=0, max_tokens=12, token_logprobs=4)
    with ServerEngine(server_url) as engine:
        (whole,) = engine.draw(QUESTION, 1, greedy).candidates
        (start,) = engine.draw(QUESTION, 1, replace(greedy, max_tokens=4)).candidates
        begun = replace(QUESTION, prefix=start.text)
        (rest,) = engine.draw(begun, 1, replace(greedy, max_tokens=8)).candidates

    assert start.text + rest.text == whole.text
    checked(whole)
