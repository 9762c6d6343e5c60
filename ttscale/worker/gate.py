"""What every HTTP request passes: who is calling, and whether its ESamp keys are legal.

vLLM checks the keys when a request reaches the engine. A streamed one has its status 200 by then,
so bad keys are found here, where they can still be answered with 400. And some bodies of the wrong
type (`"structured_outputs": 3`) make vLLM 0.32's own checks fail with an AttributeError, which it
answers with 500: those get their 400 here, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from ttscale.engines._http import REPLICA
from ttscale.errors import InvalidInput, TTScaleError
from ttscale.serving.backend import Refused
from ttscale.serving.routes import error_body
from ttscale.worker.callers import caller, identify, replica_name
from ttscale.worker.request import read_keys

METRICS = "/metrics"
GUARDED = "/v1/"
NAMED = ("/v1/", "/ttscale/v1/")
KEYS = b'"vllm_xargs"'
MODELS: Mapping[str, Any] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
}


class Gate:
    """Middleware of the server; inside vLLM's own, so the caller's key has been checked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path, headers = scope["path"].removeprefix(scope.get("root_path", "")), Headers(scope=scope)
        state = scope["app"].state
        if path.startswith(METRICS):
            await state.ttscale_metrics.refresh()
        if path.startswith(NAMED):
            send = _named(send)
        body = b""
        if path.startswith(GUARDED) and "json" in headers.get("content-type", ""):
            body, receive = await _read(receive)
            error = _refusal(body, state.ttscale.facts.esamp_refused)
            if error is not None:
                await _answer(error)(scope, receive, send)
                return
        token = caller.set(identify(headers.get("authorization")))
        try:
            await self._app(scope, receive, send)
        except AttributeError:
            if (unreadable := _unreadable(path, body)) is None:
                raise
            await _answer(unreadable)(scope, receive, send)
        finally:
            caller.reset(token)


def _named(send: Send) -> Send:
    """A `send` that puts the server's name into the answer's headers, also behind a router."""

    async def named(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)[REPLICA] = replica_name()
        await send(message)

    return named


def _answer(error: TTScaleError) -> JSONResponse:
    status, content = error_body(error)
    return JSONResponse(content, status)


async def _read(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and a `receive` that gives it once more."""
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)  # a client that has gone sends no more either
    body = b"".join(parts)
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return body, again


def _refusal(body: bytes, unavailable: str) -> InvalidInput | None:
    """Why the request's ESamp keys are refused; None when they are not."""
    keys = _keys(body) if KEYS in body else None
    if keys is None:
        return None
    try:
        asked = read_keys(keys)
    except InvalidInput as error:
        return error
    if asked is not None and unavailable:
        return InvalidInput(f"ESamp is not available on this server: {unavailable}")
    return None


def _unreadable(path: str, body: bytes) -> Refused | None:
    """The refusal of a body that vLLM's own checks fail on; None when they do not.

    What fails there has not been answered yet: the checks come before everything else.
    """
    model = MODELS.get(path)
    if model is None:
        return None
    try:
        model.model_validate(json.loads(body))
    except AttributeError as error:
        return Refused(f"a field of the body has the wrong type: {error}")
    except ValueError:
        return None
    return None


def _keys(body: bytes) -> Mapping[str, Any] | None:
    """The request's `vllm_xargs`; None when the body is none that vLLM would take."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    keys = content.get("vllm_xargs") if isinstance(content, dict) else None
    return keys if isinstance(keys, dict) else None
