"""Bad bodies and a dead engine: what `ttscale serve` answers.

    python benchmarks/serve_faults.py               # 200 malformed requests, then a kill

The malformed bodies come from the server's own OpenAPI schema: a valid body in which one field has
a value that its schema does not allow, a required field is missing, or the whole is no JSON object.
The server must answer each with 4xx, and the next good request with 200. Then the engine's process
is killed in mid-batch, under a draw through `ServerEngine`, a strategy and a plain request.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from jsonschema import Draft202012Validator

from ttscale import Sampler, ServerEngine
from ttscale.bench.tiny import random_llama
from ttscale.errors import TTScaleError
from ttscale.serving.running import RunningServer
from ttscale.types import Candidate, Prompt, Samples

WIDTH_AND_LAYERS = (128, 2)
SERVER = (
    *("--max-num-seqs", "64", "--max-model-len", "1024"),
    *("--dtype", "float32", "--load-format", "dummy"),
)
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1"}
TURNS = [{"role": "user", "content": "Hi"}]
GOOD: Mapping[str, dict[str, Any]] = {
    "/ttscale/v1/chat/completions": {"messages": TURNS, "max_tokens": 2, "ttscale": {"n": 2}},
    "/v1/chat/completions": {"messages": TURNS, "max_tokens": 2},
    "/v1/completions": {"prompt": "Hi", "max_tokens": 2},
}
JUNK: tuple[Any, ...] = ("junk", -7, 3.5, True, [], ["junk"], {}, {"junk": 1}, [[[]]], 10**30)
# vLLM reads "1", 1.0 and 1 alike, and takes what its schema does not mention
LENIENT = (bool, int, float, str)
BROKEN = (b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 5000, b'{"messages": ')


@dataclass(frozen=True, slots=True)
class Bad:
    """One malformed request."""

    route: str
    content: bytes
    about: str


def malformed(openapi: Mapping[str, Any], count: int, seed: int = 0) -> list[Bad]:
    """`count` different malformed requests, drawn from all that the schema gives."""
    every = [bad for route in GOOD for bad in _all_bad(openapi, route)]
    dice = random.Random(seed)  # noqa: S311 - a choice of cases, no secret
    return dice.sample(every, min(count, len(every)))


def _all_bad(openapi: Mapping[str, Any], route: str) -> Iterator[Bad]:
    schema = _schema(openapi, route)
    for content in BROKEN:
        yield Bad(route, content, f"body {content[:20]!r}")
    for name in schema.get("required", ()):
        left = {key: value for key, value in GOOD[route].items() if key != name}
        yield Bad(route, json.dumps(left).encode(), f"no {name}")
    for name in schema["properties"]:
        yield from _bad_fields(openapi, route, name, schema["properties"][name], ())
    inner = _find(openapi, {"$ref": "#/components/schemas/Options"})
    if route.startswith("/ttscale"):
        for name, field in inner["properties"].items():
            yield from _bad_fields(openapi, route, name, field, ("ttscale",))


def _bad_fields(
    openapi: Mapping[str, Any], route: str, name: str, field: Any, inside: tuple[str, ...]
) -> Iterator[Bad]:
    """Bodies in which one field has a value that neither schema nor lenient reading allows."""
    validator = Draft202012Validator({**field, "components": openapi["components"]})
    plain = _plain_types(openapi, field)
    for junk in JUNK:
        if validator.is_valid(junk) or (isinstance(junk, LENIENT) and plain & _readable(junk)):
            continue
        body = json.loads(json.dumps(GOOD[route]))
        target = body
        for key in inside:
            target = target[key]
        target[name] = junk
        yield Bad(route, json.dumps(body).encode(), f"{'.'.join((*inside, name))} = {junk!r}")


def _readable(junk: object) -> set[str]:
    """The types of a schema as which a value might be read after all."""
    if junk == "junk":
        return {"string"}
    if isinstance(junk, str):
        return {"string", "integer", "number", "boolean"}
    return {"integer", "number", "boolean"}


def _plain_types(openapi: Mapping[str, Any], field: Any) -> set[str]:
    """All simple types in a field's schema."""
    found = _find(openapi, field)
    kinds = {found["type"]} if isinstance(found.get("type"), str) else set()
    for branch in (*found.get("anyOf", ()), *found.get("oneOf", ())):
        kinds |= _plain_types(openapi, branch)
    return kinds


def _schema(openapi: Mapping[str, Any], route: str) -> dict[str, Any]:
    body = openapi["paths"][route]["post"]["requestBody"]["content"]["application/json"]
    return _find(openapi, body["schema"])


def _find(openapi: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """A schema, or the one that it refers to."""
    if isinstance(schema, dict) and "$ref" in schema:
        return dict(openapi["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    return schema if isinstance(schema, dict) else {}


def send(client: httpx.Client, count: int) -> tuple[Counter[int], list[str]]:
    """Send malformed requests, a good one after every tenth; statuses, and what went wrong."""
    openapi = client.get("/openapi.json").raise_for_status().json()
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    for place, bad in enumerate(malformed(openapi, count)):
        answer = client.post(
            bad.route, content=bad.content, headers={"content-type": "application/json"}
        )
        statuses[answer.status_code] += 1
        if not 400 <= answer.status_code < 500:
            wrong.append(f"{bad.route}: {bad.about}: {answer.status_code} {answer.text[:200]}")
        if place % 10 == 9 or place == count - 1:
            wrong += _good(client)
    return statuses, wrong


def _good(client: httpx.Client) -> list[str]:
    """What is wrong with the answers to good requests, of every route."""
    answers = {route: client.post(route, json=body) for route, body in GOOD.items()}
    return [
        f"{route}: {a.status_code} {a.text[:200]}" for route, a in answers.items() if a.is_error
    ]


@dataclass(frozen=True, slots=True)
class Killed:
    """What three clients got when the engine's process was killed under them.

    Attributes:
        samples: Of a draw through `ServerEngine`: what had finished, and the reasons for the rest.
        strategy: Body and status of a strategy's answer.
        plain: Status and text of a plain request; status 0 stands for a broken connection.
    """

    samples: Samples | str
    strategy: tuple[int, str]
    plain: tuple[int, str]


def kill_in_mid_batch(server: RunningServer, key: str | None = None) -> Killed:
    """Kill the engine's process once samples of both draws have finished."""
    ready = [threading.Event(), threading.Event()]
    found: dict[str, Any] = {}
    jobs = [
        threading.Thread(target=lambda: found.update(samples=_draw(server.url, key, ready[0]))),
        threading.Thread(target=lambda: found.update(strategy=_choose(server.url, key, ready[1]))),
        threading.Thread(target=lambda: found.update(plain=_plain(server.url, key))),
    ]
    for job in jobs:
        job.start()
    for event in ready:
        event.wait(120)
    engine_process(server.process.pid).kill()
    for job in jobs:
        job.join(120)
    if any(job.is_alive() for job in jobs):
        raise RuntimeError("a client still waits two minutes after the engine has died")
    return Killed(**found)


def engine_process(server: int) -> psutil.Process:
    """vLLM's engine process below the HTTP server."""
    below = psutil.Process(server).children(recursive=True)
    named = [p for p in below if "EngineCore" in p.name() or "EngineCore" in " ".join(p.cmdline())]
    return (named or below)[0]


# about one token in a hundred holds a q, so samples end at very different lengths
def _draw(url: str, key: str | None, ready: threading.Event) -> Samples | str:
    sampler = Sampler(max_tokens=900, stop=("q",), seed=1)

    def first(_: Candidate) -> None:
        ready.set()

    from ttscale import _sync

    try:
        with ServerEngine(f"{url}/v1", api_key=key, retries=0) as engine:
            drawing = engine.adraw(Prompt.raw("Once"), 16, sampler, on_candidate=first)
            return _sync.run(drawing)
    except TTScaleError as error:
        return str(error)


def _choose(url: str, key: str | None, ready: threading.Event) -> tuple[int, str]:
    body = {"messages": TURNS, "max_tokens": 900, "stop": "q", "seed": 1, "stream": True}
    body |= {"ttscale": {"n": 16}}
    lines: list[str] = []
    try:
        with (
            httpx.Client(
                base_url=url, headers=_headers(key), timeout=120, trust_env=False
            ) as client,
            client.stream("POST", "/ttscale/v1/chat/completions", json=body) as answer,
        ):
            for line in answer.iter_lines():
                lines.append(line)
                if line.startswith(": ttscale"):
                    ready.set()
            return answer.status_code, "\n".join(lines)
    except httpx.HTTPError as error:
        return 0, f"{type(error).__name__} after {len(lines)} lines"


def _plain(url: str, key: str | None) -> tuple[int, str]:
    body = {"messages": TURNS, "max_tokens": 900, "ignore_eos": True}
    try:
        answer = httpx.post(
            f"{url}/v1/chat/completions",
            json=body,
            headers=_headers(key),
            timeout=120,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        return 0, type(error).__name__
    return answer.status_code, answer.text


def _headers(key: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def main() -> None:
    """Start a server with a tiny model, send it nonsense, kill its engine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = random_llama(Path(folder), *WIDTH_AND_LAYERS)
        with RunningServer([model, *SERVER], environment=ENVIRONMENT) as server:
            with httpx.Client(base_url=server.url, timeout=120, trust_env=False) as client:
                statuses, wrong = send(client, args.count)
            print(f"malformed: {dict(statuses)}")
            print("\n".join(wrong) or "every one 4xx; every good request after them 200")
            killed = kill_in_mid_batch(server)
    print(_about_samples(killed.samples))
    print(f"strategy: {killed.strategy[0]}\n{killed.strategy[1][-1500:]}")
    print(f"plain: {killed.plain[0]} {killed.plain[1][:300]}")


def _about_samples(samples: Samples | str) -> str:
    if isinstance(samples, str):
        return f"ServerEngine: {samples}"
    reasons = Counter(failure.reason for failure in samples.failures)
    return f"ServerEngine: {len(samples.candidates)} of {samples.requested} kept; {dict(reasons)}"


if __name__ == "__main__":
    main()
