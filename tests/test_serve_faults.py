"""Load, nonsense and a dead engine, on a server of its own with a tiny random Llama.

Small versions of benchmarks/serve_load.py and benchmarks/serve_faults.py. The server has two keys
and a default of ESamp, which the embedded model's server has not. The last test kills its engine.
"""

from __future__ import annotations

import asyncio
import runpy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from ttscale.bench.tiny import random_llama
from ttscale.serving.running import RunningServer
from ttscale.types import Samples

pytestmark = [pytest.mark.engine, pytest.mark.own_engine]
BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
LOAD = runpy.run_path(str(BENCHMARKS / "serve_load.py"))
FAULTS = runpy.run_path(str(BENCHMARKS / "serve_faults.py"))
KEYS = ("first-key", "second-key")
AUTH = {"authorization": f"Bearer {KEYS[0]}"}
SHORT = {"prompt": "Once", "max_tokens": 6, "ignore_eos": True}


# gRPC is the exporters' default; several exports a second, so that no test waits for one
TRACING = {
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    "OTEL_BSP_SCHEDULE_DELAY": "200",
}


@dataclass
class Collector:
    """The spans that came in; `url` is where they are sent."""

    url: str
    spans: list[Any] = field(default_factory=list)

    def named(self, name: str, trace: str, seconds: float = 20.0) -> list[Any]:
        """Spans of that name in that trace (32 hexadecimal digits); waits until there is one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := [s for s in self.spans if (s.name, s.trace_id.hex()) == (name, trace)]:
                return found
            time.sleep(0.1)
        return []


@contextmanager
def collecting() -> Iterator[Collector]:
    """Take spans in for as long as the block lasts."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """One export."""
            body = self.rfile.read(int(self.headers["content-length"]))
            sent = ExportTraceServiceRequest.FromString(body)
            for resource in sent.resource_spans:
                for scope in resource.scope_spans:
                    kept.spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Takes in the server's spans."""
    with collecting() as started:
        yield started


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[RunningServer]:
    """A server with keys, and ESamp for every request that says nothing."""
    folder = tmp_path_factory.mktemp("tiny")
    model = random_llama(folder / "model", *FAULTS["WIDTH_AND_LAYERS"])
    args = [
        model,
        *FAULTS["SERVER"],
        "--esamp-beta",
        "0.5",
        "--no-esamp-gate",
        "--api-key",
        *KEYS,
        "--otlp-traces-endpoint",
        collector.url,
    ]
    environment = {**FAULTS["ENVIRONMENT"], **TRACING}
    with RunningServer(args, environment=environment, log=folder / "log") as started:
        yield started


@pytest.fixture
def client(server: RunningServer) -> Iterator[httpx.Client]:
    """A client with the first key."""
    with httpx.Client(base_url=server.url, headers=AUTH, timeout=120, trust_env=False) as made:
        yield made


def rows(client: httpx.Client) -> int:
    """Rows mixed so far."""
    told = client.get("/ttscale/v1/esamp").raise_for_status().json()
    return int(told["total"]["rows_mixed"])


@pytest.mark.parametrize("route", ["models", "esamp"])
def test_our_routes_are_closed_without_a_key(server: RunningServer, route: str) -> None:
    """vLLM guards only its own; a wrong key is as good as none."""
    url = f"{server.url}/ttscale/v1/{route}"
    wrong = {"authorization": "Bearer first"}

    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, headers=wrong, trust_env=False).status_code == 401
    assert httpx.get(url, headers=AUTH, trust_env=False).status_code == 200


def test_the_chat_route_is_closed_without_a_key(server: RunningServer) -> None:
    """Before anything is drawn, with OpenAI's error."""
    body = FAULTS["GOOD"]["/ttscale/v1/chat/completions"]
    answer = httpx.post(f"{server.url}/ttscale/v1/chat/completions", json=body, trust_env=False)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)


def test_defaults_apply_to_requests_that_say_nothing(client: httpx.Client) -> None:
    """Beta 0 switches them off, and is no request to train."""
    before = rows(client)
    client.post("/v1/completions", json=SHORT).raise_for_status()
    between = rows(client)
    off = {**SHORT, "vllm_xargs": {"esamp_beta": 0}}
    client.post("/v1/completions", json=off).raise_for_status()

    assert between == before + 5
    assert rows(client) == between
    told = client.get("/ttscale/v1/models").json()["ttscale"]["esamp"]
    assert told["defaults"] == {"esamp_beta": 0.5, "esamp_gate": False}


def test_two_keys_of_the_server_never_share(client: httpx.Client) -> None:
    """The group of one name has what its own caller did."""
    named = {**SHORT, "vllm_xargs": {"esamp_group": "ours"}}
    told = {}
    for key, times in zip(KEYS, (2, 1), strict=True):
        auth = {"authorization": f"Bearer {key}"}
        for _ in range(times):
            client.post("/v1/completions", json=named, headers=auth).raise_for_status()
        answer = client.get("/ttscale/v1/esamp", params={"group": "ours"}, headers=auth)
        told[key] = answer.json()["groups"]["ours"]["rows_mixed"]

    assert told == {KEYS[0]: 10, KEYS[1]: 5}


def test_a_strategys_run_is_a_span_of_the_callers_trace(
    client: httpx.Client, collector: Collector
) -> None:
    """Beside vLLM's own spans of its samples."""
    trace = "0123456789abcdef0123456789abcdef"
    body = FAULTS["GOOD"]["/ttscale/v1/chat/completions"]
    headers = {"traceparent": f"00-{trace}-0123456789abcdef-01"}
    client.post("/ttscale/v1/chat/completions", json=body, headers=headers).raise_for_status()

    [span] = collector.named("ttscale.strategy", trace)
    told = {attribute.key: attribute.value for attribute in span.attributes}
    assert told["ttscale.strategy"].string_value == "self-consistency"
    assert told["ttscale.samples"].int_value == told["ttscale.requested"].int_value > 1
    assert span.end_time_unix_nano > span.start_time_unix_nano
    assert collector.named("llm_request", trace)


def test_a_load_fails_no_request_and_leaves_nothing(server: RunningServer) -> None:
    """Sixty requests of all lengths, half ESamp, some cancelled; greedy texts stay the same."""
    result = asyncio.run(LOAD["load"](server.url, 60, 16, AUTH))

    assert set(result.outcomes) == {"done", "cancelled"}
    assert sum(result.outcomes.values()) == 60
    assert result.changed == 0
    assert result.compared > 20
    assert result.work["rows_mixed"] > 500
    assert result.work["fallbacks"] == {}
    assert (result.after.live, result.after.held, result.after.running) == (0, 0, 0)


def test_malformed_requests_are_refused_and_the_next_good_one_answered(
    client: httpx.Client,
) -> None:
    """Forty bodies that the server's own OpenAPI schema does not allow."""
    statuses, wrong = FAULTS["send"](client, 40)

    assert wrong == []
    assert sum(statuses.values()) == 40


def test_killing_the_engine_loses_no_finished_sample_and_hangs_nobody(
    server: RunningServer,
) -> None:
    """Both draws keep what had finished and say why the rest is missing."""
    killed = FAULTS["kill_in_mid_batch"](server, KEYS[0])
    samples: Any = killed.samples

    assert isinstance(samples, Samples), samples
    assert 1 <= len(samples.candidates) < 16
    assert all(failure.reason for failure in samples.failures)
    status, text = killed.strategy
    assert status == 200
    assert '"failures": ["' in text
    assert "data: [DONE]" in text
    assert killed.plain[0] in (0, 500, 503)
