"""The parts of `ServerEngine` that need no server: events, pauses, addresses, wire format."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale.engines import _sse
from ttscale.engines._hosts import Facts, Hosts, checked_urls
from ttscale.engines._retry import LONGEST_PAUSE, pause, seconds_asked, worth_retrying
from ttscale.engines._sse import Events
from ttscale.engines._wire import Assembly, Json, error_text, facts, refusal
from ttscale.errors import EngineError
from ttscale.sampling import Sampler
from ttscale.types import Usage

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URLS = [f"http://host{i}/v1" for i in range(5)]


@given(st.lists(st.text(min_size=1)), st.lists(st.integers(0, 200)), st.booleans())
def test_events_do_not_depend_on_where_the_bytes_are_cut(
    texts: list[str], cuts: list[int], crlf: bool
) -> None:
    """Every text comes back as it was sent, whatever characters it holds."""
    end = b"\r\n" if crlf else b"\n"
    payloads = [json.dumps(text, ensure_ascii=False).encode("utf-8", "replace") for text in texts]
    stream = b": hello" + end + end + b"".join(b"data: " + p + end + end for p in payloads)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    parser = Events()

    found = [event for start, stop in pairwise(places) for event in parser.feed(stream[start:stop])]

    assert found == payloads


def test_an_event_may_have_several_lines() -> None:
    """Lines of data are joined; other fields are passed over."""
    assert Events().feed(b"event: x\nid: 1\ndata:a\ndata: b\n\n") == [b"a\nb"]


def test_endless_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot fill the memory with an event that never ends."""
    monkeypatch.setattr(_sse, "MAX_EVENT_BYTES", 10)
    parser = Events()

    parser.feed(b"data: 12345\n")
    with pytest.raises(EngineError, match="more than 10 bytes"):
        parser.feed(b"data: 678901")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("7", 7),
        (" 0 ", 0),
        ("soon", 0),
        ("-3", 0),
        ("", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float) -> None:
    """Dates in the past and what cannot be read ask for nothing."""
    assert seconds_asked(header, NOW) == seconds


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(0, 100))
def test_pauses_are_bounded_and_honour_the_server(attempt: int, dice: float, asked: int) -> None:
    """Never shorter than the server asks, never longer than the longest unless it asks."""
    assert asked <= pause(attempt, str(asked), NOW, dice) <= max(asked, LONGEST_PAUSE)
    assert pause(attempt, None, NOW, dice) > 0


def test_pauses_grow() -> None:
    """The next pause is twice as long, up to the longest."""
    pauses = [pause(attempt, None, NOW, 1.0) for attempt in range(7)]

    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]
    assert pause(2, None, NOW, 0.0) == 1.0


def test_which_answers_are_worth_a_retry() -> None:
    """Time-outs, too many requests and server errors, and nothing else."""
    assert [s for s in range(100, 600) if worth_retrying(s)] == [408, 429, *range(500, 600)]


def test_addresses_end_before_the_route() -> None:
    """A bare host gets /v1; a path stays."""
    given = ["http://a", "https://b:1/", "http://c/v1/", "http://d/api/v3"]

    assert checked_urls(given) == (
        "http://a/v1",
        "https://b:1/v1",
        "http://c/v1",
        "http://d/api/v3",
    )


@given(st.text(), st.integers(0, 4))
def test_only_the_keys_of_a_dead_address_move(key: str, dead: int) -> None:
    """A key stays where it was unless that address is the one that is down."""
    before = Hosts(URLS).pick(key, 0).url
    hosts = Hosts(URLS)
    hosts.all[dead].down_until = 10.0

    now, later = hosts.pick(key, 5).url, hosts.pick(key, 10).url

    assert later == before
    assert (now == before) == (before != URLS[dead])
    assert hosts.all[dead].skipped == (before == URLS[dead])


def test_when_all_are_down_the_longest_down_is_tried() -> None:
    """A draw never fails merely because all addresses failed a moment ago."""
    hosts = Hosts(URLS)
    for place, host in enumerate(hosts.all):
        host.down_until = 10.0 + (place - 2) ** 2

    assert hosts.pick("key", 5).url == URLS[2]
    assert not hosts.some_up(5)


def chunk(**choice: Json) -> bytes:
    """One event with one sample in it."""
    return json.dumps({"choices": [choice]}).encode()


def test_tokens_without_log_probabilities_make_the_sum_unknown() -> None:
    """One token without a number, and the sample has none; it is counted all the same."""
    assembly = Assembly(1, Sampler(), None)
    tokens: list[Json] = [{"token": "a", "logprob": -1.0}, {"token": "b"}]
    told: Json = {"content": tokens}

    assembly.add(chunk(index=0, delta={"content": "ab"}, logprobs=told))
    assembly.add(chunk(index=0, delta={"content": None}, finish_reason="stop"))
    (made,) = assembly.samples("").candidates

    assert (made.text, made.token_count, made.logprob) == ("ab", 2, None)


def test_counts_are_estimated_from_a_whole_answer_without_log_probabilities() -> None:
    """The server's total is shared out by length of text."""
    assembly = Assembly(2, Sampler(), None)
    answer = {
        "choices": [
            {"index": 0, "message": {"content": "abc"}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": "d"}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 40},
    }

    assembly.add(json.dumps(answer).encode(), whole=True)
    samples = assembly.samples("")

    assert [c.token_count for c in samples.candidates] == [30, 10]
    assert samples.usage == Usage(3, 40)


def test_what_comes_after_the_end_of_a_sample_is_passed_over() -> None:
    """A sample ends once."""
    assembly = Assembly(1, Sampler(), None)

    assembly.add(chunk(index=0, delta={"content": "a"}, finish_reason="stop"))
    assembly.add(chunk(index=0, delta={"content": "b"}, finish_reason="stop"))

    assert [c.text for c in assembly.samples("").candidates] == ["a"]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"choices": 3}',
        b'{"choices": [{"index": "x"}]}',
        b'{"choices": [{"index": 2}]}',
        b'{"choices": [{"index": -1}]}',
        b'{"choices": [{"index": 0, "logprobs": {"content": [{"token": 1}]}}]}',
    ],
)
def test_answers_in_another_format_are_errors(payload: bytes) -> None:
    """What is not OpenAI's format is told as such."""
    with pytest.raises(EngineError, match="the server's answer is"):
        Assembly(2, Sampler(), None).add(payload)


def test_errors_are_read_in_any_of_the_usual_shapes() -> None:
    """OpenAI's object, a bare text, and what is no JSON at all."""
    told = refusal(b'{"error": {"message": "no", "code": 400}}', 500)
    bare = refusal(b'{"error": "no"}', 503)

    assert told is not None
    assert (told.message, told.status) == ("no", 400)
    assert bare is not None
    assert (bare.message, bare.status) == ("no", 503)
    assert refusal(b'{"choices": []}', 500) is None
    assert refusal(b"not json", 500) is None
    assert error_text(b"<h1>Bad gateway</h1>") == "<h1>Bad gateway</h1>"
    assert error_text(b"x" * 9999) == "x" * 500
    assert error_text(b"") == "no message"


def test_what_servers_tell_of_themselves() -> None:
    """Names in their order, whether it is vLLM, and nothing from other formats."""
    told = {"data": [{"id": "a", "owned_by": "vllm"}, {"id": "b"}]}

    assert facts(json.dumps(told).encode()) == Facts(("a", "b"), vllm=True)
    for other in (b"", b"[]", b'{"data": 3}', b'{"data": [3]}', b'{"data": [{}]}'):
        assert facts(other) == Facts()
