"""`ScriptedServer`: an OpenAI-compatible server that answers from a script, on this machine."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TypeAlias

from ttscale._scripted_wire import Json, ToolCall, Turn, Writer
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp
from ttscale.types import Candidate

ServerSample: TypeAlias = str | Candidate | ToolCall | Sequence[ToolCall]
"""One scripted sample: its text, the whole candidate, or calls of tools."""

POLL_SECONDS = 0.02
ROUTES = {"/v1/chat/completions": True, "/v1/completions": False}


@dataclass(slots=True)
class ServerRequest:
    """One request that the server got.

    Attributes:
        method: `GET` or `POST`.
        path: Its path, such as `/v1/chat/completions`.
        headers: Its headers, their names in lower case.
        body: What it sent; empty without a body.
        disconnected: Set when the client left before its answer was complete.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: Mapping[str, Json]
    disconnected: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is answered, when that is not simply by the script.

    Attributes:
        status: 200 answers by the script; any other is an error with `message`.
        headers: Further headers, such as `Retry-After`.
        message: What the error says.
        break_after: The connection breaks once so many samples have finished; None never. Without
            streaming it breaks before anything has come.
        hold_after: Nothing more comes, once so many samples have finished, until the client
            leaves or `release` is set; None never.
        release: Ends the hold.
        error_after: Once so many samples have finished the stream tells of the error `message`,
            with `status` as its code.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "scripted error"
    break_after: int | None = None
    hold_after: int | None = None
    release: threading.Event = field(default_factory=threading.Event)
    error_after: int | None = None


ServerScript = Sequence[ServerSample] | Callable[[ServerRequest, int], ServerSample]


class ScriptedServer:
    """An OpenAI-compatible server on 127.0.0.1 that answers from a script, as a context manager.

    It has the routes `models`, `chat/completions` and `completions` below `base_url`, streams when
    asked, and keeps connections open. A sequence is dealt from its start for every request, over
    again when it is shorter than `n`; a function is asked for each sample with the request and the
    sample's index.

    Args:
        script: The samples, or the function that makes them.
        first: How the first POST requests are answered, in turn; the others follow the script.
        models: Names of the model; answers give the name that was asked for.
        esamp: Whether it has ESamp: then it refuses illegal `esamp_*` keys, and is vLLM; without
            it ignores them.
        api_key: The key that it wants; None wants none.

    Attributes:
        requests: Every request so far.
        first: The replies that are still to be given; more may be appended.

    Raises:
        InvalidInput: The script is empty, or a single text.
    """

    def __init__(
        self,
        script: ServerScript,
        *,
        first: Sequence[Reply] = (),
        models: Sequence[str] = ("scripted",),
        esamp: bool = True,
        api_key: str | None = None,
    ) -> None:
        if isinstance(script, str) or (not callable(script) and not script):
            raise InvalidInput(f"script must be a list of samples or a function, got {script!r}")
        self.requests: list[ServerRequest] = []
        self._script = script
        self.first = list(first)
        self._models = tuple(models)
        self._esamp = esamp
        self._api_key = api_key
        self._lock = threading.Lock()
        self._http = _HttpServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(POLL_SECONDS,))

    @property
    def base_url(self) -> str:
        """Its address, up to and with `/v1`."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def posts(self) -> list[ServerRequest]:
        """The requests for samples."""
        return [request for request in self.requests if request.method == "POST"]

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and cut every connection; a second call does nothing."""
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.cut()
        self._http.server_close()

    def note(self, request: ServerRequest) -> Reply:
        """Write down a request, and say how it is answered."""
        with self._lock:
            self.requests.append(request)
            if request.method == "POST" and self.first:
                return self.first.pop(0)
        return Reply()

    def refusal(self, request: ServerRequest) -> tuple[int, str] | None:
        """Status and message when the request is illegal."""
        wanted = f"Bearer {self._api_key}"
        if self._api_key is not None and request.headers.get("authorization") != wanted:
            return 401, f"wrong key: {request.headers.get('authorization')}"
        model = request.body.get("model")
        if model is not None and model not in self._models:
            return 404, f"The model `{model}` does not exist."
        extra = request.body.get("vllm_xargs")
        if self._esamp and isinstance(extra, dict):
            try:
                ESamp.from_keys(extra)
            except InvalidInput as error:
                return 400, str(error)
        return None

    def models(self) -> dict[str, Json]:
        """The answer of the route `models`."""
        owner = "vllm" if self._esamp else "scripted"
        rows: list[Json] = [{"id": m, "object": "model", "owned_by": owner} for m in self._models]
        return {"object": "list", "data": rows}

    def writer(self, request: ServerRequest, *, chat: bool) -> Writer:
        """What writes the answer to a request."""
        n, model = request.body.get("n"), request.body.get("model")
        count = n if isinstance(n, int) else 1
        turns = [_turn(self._sample(request, index), index) for index in range(count)]
        name = model if isinstance(model, str) else next(iter(self._models), "scripted")
        words = _words(request.body.get("messages" if chat else "prompt"))
        return Writer(turns, request.body, chat=chat, model=name, prompt_tokens=words)

    def _sample(self, request: ServerRequest, index: int) -> ServerSample:
        if callable(self._script):
            return self._script(request, index)
        return self._script[index % len(self._script)]


def _turn(sample: ServerSample, index: int) -> Turn:
    if isinstance(sample, Candidate):
        return Turn(sample)
    calls: tuple[ToolCall, ...] = ()
    text = sample if isinstance(sample, str) else ""
    if isinstance(sample, ToolCall):
        calls = (sample,)
    elif not isinstance(sample, str):
        calls = tuple(sample)
    return Turn(Candidate(index, text, max(1, len(text.split())), "stop"), calls)


def _words(prompt: Json) -> int:
    """Length of a prompt in words, which stand for its tokens."""
    if isinstance(prompt, str):
        return len(prompt.split())
    if isinstance(prompt, list):
        return sum(_words(part) for part in prompt)
    if isinstance(prompt, dict):
        return _words(prompt.get("content") or prompt.get("text") or "")
    return 0


class _HttpServer(ThreadingHTTPServer):
    """One thread a connection; `cut` ends them all."""

    daemon_threads = False

    def __init__(self, script: ScriptedServer) -> None:
        self.script = script
        self._open: set[socket.socket] = set()
        self._cut = False
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: object, client_address: object) -> None:
        """Serve one connection."""
        connection: socket.socket = request  # type: ignore[assignment]
        self._open.add(connection)
        try:
            if not self._cut:
                super().finish_request(connection, client_address)
        finally:
            self._open.discard(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Show what went wrong, for instance in a scripted function; a client may always leave."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def cut(self) -> None:
        """End every connection, those too that are just being accepted."""
        self._cut = True
        for connection in list(self._open):
            cut(connection)


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HttpServer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged; `ScriptedServer.requests` has it all."""

    def do_GET(self) -> None:
        """Tell the models."""
        request = self._request({})
        script = self.server.script
        script.note(request)
        refused = script.refusal(request)
        if refused:
            self._error(*refused, {})
        elif self.path == "/v1/models":
            self._json(200, script.models(), {})
        else:
            self._error(404, f"no route {self.path}", {})

    def do_POST(self) -> None:
        """Give samples."""
        payload = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = self._request(json.loads(payload))
        reply = self.server.script.note(request)
        refused = self.server.script.refusal(request)
        if refused:
            self._error(*refused, {})
        elif self.path not in ROUTES:
            self._error(404, f"no route {self.path}", {})
        elif reply.status != 200 and reply.error_after is None:
            self._error(reply.status, reply.message, reply.headers)
        else:
            writer = self.server.script.writer(request, chat=ROUTES[self.path])
            answer = self._stream if request.body.get("stream") else self._whole
            answer(request, reply, writer)

    def _request(self, body: Mapping[str, Json]) -> ServerRequest:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return ServerRequest(self.command, self.path, headers, body)

    def _whole(self, request: ServerRequest, reply: Reply, writer: Writer) -> None:
        if reply.hold_after is not None and not self._held(request, reply):
            return
        if reply.break_after is not None:
            self._break()
            return
        self._json(200, writer.whole(), reply.headers)

    def _stream(self, request: ServerRequest, reply: Reply, writer: Writer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        finished = 0
        for event, ends in writer.events():
            if not self._goes_on(request, reply, finished):
                return
            self._chunk(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
            finished += ends
        if self._goes_on(request, reply, finished):
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")

    def _goes_on(self, request: ServerRequest, reply: Reply, finished: int) -> bool:
        """Whether the stream goes on; does what the reply says of this point."""
        if reply.hold_after is not None and finished >= reply.hold_after:
            return self._held(request, reply)
        if reply.error_after is not None and finished >= reply.error_after:
            error = {"error": {"message": reply.message, "code": reply.status}}
            self._chunk(b"data: " + json.dumps(error).encode() + b"\n\ndata: [DONE]\n\n")
            self._chunk(b"")
            return False
        if reply.break_after is not None and finished >= reply.break_after:
            self._break()
            return False
        return True

    def _held(self, request: ServerRequest, reply: Reply) -> bool:
        """Wait for the release; False when the client leaves first."""
        while not reply.release.wait(POLL_SECONDS):
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                request.disconnected.set()
                self.close_connection = True
                return False
        return True

    def _break(self) -> None:
        cut(self.connection)
        self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def _error(self, status: int, message: str, headers: Mapping[str, str]) -> None:
        content: dict[str, Json] = {"message": message, "type": "scripted", "code": status}
        self._json(status, {"error": content}, headers)

    def _json(self, status: int, content: Json, headers: Mapping[str, str]) -> None:
        payload = json.dumps(content, ensure_ascii=False).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def cut(connection: socket.socket) -> None:
    """End a connection in both directions."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended already
