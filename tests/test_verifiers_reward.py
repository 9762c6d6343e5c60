"""Reward models behind vLLM's pooling routes, on a scripted server with replies of vLLM's shape."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ttscale.errors import EngineStopped, InvalidInput
from ttscale.testing import ScriptedEngine, candidate
from ttscale.types import Candidate, Message, Prompt, Usage
from ttscale.verifiers import CrossEncoder, ProcessReward, RewardModel, Verifier

ENGINE = ScriptedEngine(["unused"])
QUESTION = Prompt.of("What is 1 + 1?")
Body = dict[str, Any]
Answerer = Callable[[str, Body], tuple[int, object]]


class PoolingServer:
    """Answers POST requests by a function of route and body, and writes them down."""

    def __init__(self, answer: Answerer) -> None:
        self.requests: list[tuple[str, Body, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.path, body, headers))
                status, reply = answer(self.path, body)
                payload = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(payload)))
                if status == 302:
                    self.send_header("location", "http://127.0.0.1:1/")
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answerer], PoolingServer]]:
    """Start servers that end with the test."""
    started: list[PoolingServer] = []

    def start(answer: Answerer) -> PoolingServer:
        started.append(PoolingServer(answer))
        return started[-1]

    yield start
    for server in started:
        server.close()


def usage(tokens: int) -> Body:
    """Usage as the pooling routes tell it."""
    return {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}


def classified(*probs: float) -> Body:
    """An answer of /classify."""
    row = {"index": 0, "label": None, "probs": list(probs), "num_classes": len(probs)}
    return {"object": "list", "model": "m", "data": [row], "usage": usage(5)}


def scores_of(values: Sequence[float | None]) -> Body:
    """An answer of /score."""
    rows = [{"index": i, "object": "score", "score": v} for i, v in enumerate(values)]
    return {"object": "list", "model": "m", "data": rows, "usage": usage(7)}


def pooled(rows: object) -> Body:
    """An answer of /pooling."""
    row = {"index": 0, "object": "pooling", "data": rows}
    return {"object": "list", "model": "m", "data": [row], "usage": usage(9)}


def refused(text: str) -> Body:
    """vLLM's way to refuse."""
    return {"error": {"message": text, "type": "BadRequestError", "code": 400}}


def texts(*given: str) -> list[Candidate]:
    """Candidates with these texts."""
    return [candidate(text, index=i) for i, text in enumerate(given)]


async def test_reward_model_reads_the_conversation(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """One request a candidate, with the solution, without its thinking, as the last turn."""
    server = serve(lambda path, body: (200, classified(len(body["messages"][-1]["content"]) / 10)))
    prompt = Prompt.of([Message("system", "Be brief."), Message("user", "What is 1 + 1?")])
    with RewardModel(server.url + "/v1", "rm", use_activation=True) as verifier:
        sheet = await verifier.ascore(prompt, texts("two", "<think>hm</think>2"), ENGINE)

    assert isinstance(verifier, Verifier)
    assert [score.value for score in sheet.scores] == [0.3, 0.1]
    assert sheet.usage == Usage(10, 0)
    path, body, _ = min(server.requests, key=lambda request: str(request[1]))
    assert path == "/classify"
    assert body == {
        "model": "rm",
        "use_activation": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is 1 + 1?"},
            {"role": "assistant", "content": "2"},
        ],
    }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (classified(math.nan), "must be in [0, 1], got nan"),
        (classified(1.5), "must be in [0, 1], got 1.5"),
        (classified(), "no class 0"),
        (classified(0.1, 0.9), "has 2 classes; give label="),
        ({"data": []}, "answered for the places []"),
        ({"data": [{"index": 3, "probs": [0.5]}]}, "answered for the places [3]"),
        ({"detail": "what"}, "another format"),
        ([1], "another format"),
    ],
)
async def test_unusable_answer_is_an_error_of_that_candidate(
    answer: object, error: str, serve: Callable[[Answerer], PoolingServer]
) -> None:
    """No number is made up; the other candidate keeps its score."""
    server = serve(
        lambda path, body: (
            200,
            answer if body["messages"][-1]["content"] == "odd" else classified(0.5),
        )
    )
    with RewardModel(server.url) as verifier:
        sheet = await verifier.ascore(QUESTION, texts("odd", "even"), ENGINE)

    assert error in (sheet.scores[0].error or "")
    assert sheet.scores[1].value == 0.5


async def test_class_that_counts_can_be_named(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """Of several classes one is the score; logits have a range of their own."""
    server = serve(lambda path, body: (200, classified(-3.0, 4.0)))
    with RewardModel(server.url, label=1, low=-10, high=10, use_activation=False) as verifier:
        sheet = await verifier.ascore(QUESTION, texts("a"), ENGINE)

    assert sheet.scores[0].value == 4.0
    assert (verifier.low, verifier.high) == (-10, 10)


async def test_cross_encoder_scores_all_in_one_request(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """Question and solutions as pairs; rows may come in any order."""

    def answer(path: str, body: Body) -> tuple[int, object]:
        made = scores_of([len(text) / 10 for text in body["text_2"]])
        made["data"].reverse()
        return 200, made

    server = serve(answer)
    with CrossEncoder(server.url, "ce") as verifier:
        sheet = await verifier.ascore(QUESTION, texts("a", "bbb"), ENGINE)

    assert [score.value for score in sheet.scores] == [0.1, 0.3]
    assert sheet.usage == Usage(7, 0)
    assert [(path, body) for path, body, _ in server.requests] == [
        ("/score", {"model": "ce", "text_1": "What is 1 + 1?", "text_2": ["a", "bbb"]})
    ]


async def test_pair_that_is_refused_loses_no_other(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """When a request for all is refused each is sent alone; also missing and NaN scores."""

    def answer(path: str, body: Body) -> tuple[int, object]:
        if any(len(text) > 5 for text in body["text_2"]):
            return 400, refused("longer than the maximum model length")
        return 200, scores_of([{"nan": math.nan, "none": None}.get(t, 0.5) for t in body["text_2"]])

    server = serve(answer)
    with CrossEncoder(server.url) as verifier:
        sheet = await verifier.ascore(QUESTION, texts("ok", "too long", "nan", "none"), ENGINE)
        together = await verifier.ascore(QUESTION, texts("nan", "none", "ok"), ENGINE)

    errors = [score.error or "" for score in sheet.scores]
    assert sheet.scores[0].value == 0.5
    assert "longer than the maximum" in errors[1]
    assert "got nan" in errors[2]
    assert "without a score" in errors[3]
    assert [score.value for score in together.scores] == [None, None, 0.5]


@pytest.mark.parametrize(
    ("aggregate", "score"), [("min", 0.5), ("prod", 0.36), ("last", 0.9), ("mean", 2.2 / 3)]
)
async def test_process_reward_scores_steps(
    aggregate: str, score: float, serve: Callable[[Answerer], PoolingServer]
) -> None:
    """A tag behind every step, one row for each, and one score made of them."""
    server = serve(lambda path, body: (200, pooled([[0.2, 0.8], [0.5, 0.5], [0.1, 0.9]])))
    with ProcessReward(server.url, aggregate=aggregate) as verifier:
        sheet = await verifier.ascore(QUESTION, texts("one\n\ntwo<extra_0>\n\n\n\nthree"), ENGINE)
        steps, used = await verifier.asteps(QUESTION, "one\n\ntwo\n\nthree")

    assert sheet.scores[0].value == pytest.approx(score)
    assert steps == (0.8, 0.5, 0.9)
    assert used == Usage(9, 0)
    path, body, _ = server.requests[0]
    assert (path, body["task"]) == ("/pooling", "token_classify")
    assert body["messages"][-1]["content"] == "one<extra_0>two<extra_0>three<extra_0>"


@pytest.mark.parametrize(
    ("text", "rows", "error"),
    [
        ("one\n\ntwo", [[0.5]], "1 rows for 2 steps"),
        ("one", [[0.5], [0.5]], "2 rows for 1 steps"),
        ("one", [[]], "no class -1"),
        ("one", [[math.nan]], "finite number, got nan"),
        ("  ", [[0.5]], "no step to score"),
    ],
)
async def test_steps_without_a_row_each_are_an_error(
    text: str, rows: object, error: str, serve: Callable[[Answerer], PoolingServer]
) -> None:
    """A server that pools in another way is found out, not averaged over."""
    server = serve(lambda path, body: (200, pooled(rows)))
    with ProcessReward(server.url) as verifier:
        sheet = await verifier.ascore(QUESTION, texts(text), ENGINE)

    assert error in (sheet.scores[0].error or "")


async def test_tag_may_be_the_separator(serve: Callable[[Answerer], PoolingServer]) -> None:
    """Some models are trained with a blank line behind every step."""
    server = serve(lambda path, body: (200, pooled([[0.5], [0.25]])))
    with ProcessReward(server.url, step_tag="\n\n") as verifier:
        steps, _ = await verifier.asteps(QUESTION, "one\n\ntwo")

    assert steps == (0.5, 0.25)
    assert server.requests[0][1]["messages"][-1]["content"] == "one\n\ntwo\n\n"


async def test_key_goes_to_its_host_alone_and_is_not_shown(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """Redirects are not followed; an error that repeats the key hides it."""
    server = serve(lambda path, body: (302, {}))
    echo = serve(lambda path, body: (400, refused("bad key secret-key")))
    errors = []
    for url in (server.url, echo.url):
        with RewardModel(url, api_key="secret-key") as verifier:
            sheet = await verifier.ascore(QUESTION, texts("a"), ENGINE)
            errors.append(sheet.scores[0].error or "")

    assert server.requests[0][2]["authorization"] == "Bearer secret-key"
    assert "redirects to" in errors[0]
    assert "bad key ***" in errors[1]
    assert "secret-key" not in repr(verifier) + "".join(errors)


async def test_request_is_sent_again_when_the_server_is_busy(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """As often as `retries` says; then it is an error of that candidate."""
    replies = iter([(503, refused("busy")), (200, classified(0.5)), (503, refused("busy"))])
    server = serve(lambda path, body: next(replies))
    with RewardModel(server.url, retries=1) as verifier:
        again = await verifier.ascore(QUESTION, texts("a"), ENGINE)
    with RewardModel(server.url, retries=0) as verifier:
        given_up = await verifier.ascore(QUESTION, texts("a"), ENGINE)

    assert again.scores[0].value == 0.5
    assert "answered 503: busy" in (given_up.scores[0].error or "")


async def test_other_address_takes_over(serve: Callable[[Answerer], PoolingServer]) -> None:
    """One address that nobody listens on, and one that answers."""
    server = serve(lambda path, body: (200, classified(0.5)))
    with RewardModel(["http://127.0.0.1:9", server.url], retries=0) as verifier:
        sheet = await verifier.ascore(QUESTION, texts("a", "b", "c"), ENGINE)

    assert [score.value for score in sheet.scores] == [0.5] * 3


async def test_silent_server_costs_the_time_given(
    serve: Callable[[Answerer], PoolingServer],
) -> None:
    """Per candidate, and for all of a cross-encoder's."""
    done = threading.Event()

    def hold(path: str, body: Body) -> tuple[int, object]:
        done.wait(20)
        return 200, classified(0.5)

    server = serve(hold)
    with RewardModel(server.url, timeout=0.3) as model:
        one = await model.ascore(QUESTION, texts("a"), ENGINE)
    with CrossEncoder(server.url, total_timeout=0.3) as pairs:
        all_late = await pairs.ascore(QUESTION, texts("a", "b"), ENGINE)
    done.set()

    assert one.scores[0].value is None
    assert [score.error for score in all_late.scores] == [
        "no score before total_timeout=0.3 s for all was up"
    ] * 2


async def test_closed_client_says_so() -> None:
    """Closing twice does nothing; scoring afterwards is an error."""
    verifier = CrossEncoder("http://127.0.0.1:9")
    verifier.close()
    verifier.close()

    with pytest.raises(EngineStopped, match="closed"):
        await verifier.ascore(QUESTION, texts("a"), ENGINE)


async def test_nothing_to_score() -> None:
    """Without candidates nothing is sent."""
    with CrossEncoder("http://127.0.0.1:9") as verifier:
        assert (await verifier.ascore(QUESTION, [], ENGINE)).scores == ()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"low": 1, "high": 0}, "low < high"),
        ({"timeout": 0}, "timeout must be"),
        ({"retries": -1}, "retries must be"),
        ({"aggregate": "max"}, "aggregate must be one of last, mean, min, prod"),
        ({"step_tag": ""}, "must not be empty"),
        ({"temperature": 1}, "settings must be among low, high"),
        ({"api_key": "a b"}, "api_key must be"),
        ({"base_url": "ftp://x"}, "base_url must be"),
    ],
)
def test_bad_settings_are_refused(settings: Body, match: str) -> None:
    """At construction."""
    with pytest.raises(InvalidInput, match=match):
        ProcessReward(**{"base_url": "http://127.0.0.1:9", **settings})
