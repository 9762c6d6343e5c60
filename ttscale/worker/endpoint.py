"""What ttscale adds to vLLM's HTTP server: entry point `vllm.endpoint_plugins`.

The routes are those of `ttscale.serving`; this module gives them vLLM's chat handler, puts `Gate`
in front of all routes, and shows ESamp's counters on `/metrics`. vLLM guards only `/v1` and the
like with its API keys, so the routes here check the key themselves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from pydantic import ValidationError
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send
from vllm import envs
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware
from vllm.exceptions import VLLMError
from vllm.tracing import SpanKind, extract_trace_context, instrument_manual
from vllm.v1.engine.exceptions import EngineDeadError

from ttscale.engines._wire import Json
from ttscale.errors import EngineError, TTScaleError
from ttscale.esamp.settings import ESamp
from ttscale.serving.backend import Facts, Failed, Refused
from ttscale.serving.routes import on_error, router
from ttscale.worker.callers import server_defaults
from ttscale.worker.gate import Gate
from ttscale.worker.metrics import ESampMetrics, register
from ttscale.worker.parallel import fetch
from ttscale.worker.plugin import disabled, why_not
from ttscale.worker.request import group_name

log = logging.getLogger(__name__)

REPORT_SECONDS = 30.0
CLIENT_ERROR, SERVER_ERROR = 400, 500
SPAN = "ttscale.strategy"
SEVERAL_SERVERS = "PROMETHEUS_MULTIPROC_DIR"  # vLLM sets it where several processes serve HTTP


class Endpoint:
    """The plugin, as vLLM's `EndpointPlugin` has it."""

    name = "ttscale"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes and the middleware."""
        app.include_router(router)
        app.add_exception_handler(TTScaleError, on_error)
        app.add_middleware(Gate)

    async def init_state(self, engine_client: Any, state: State, args: Namespace) -> None:
        """Connect the routes to the engine, and make sure that ESamp is there when it should be.

        Raises:
            EngineError: The operator asks for ESamp by default, and this engine cannot run it.
        """
        _log_like_vllm()
        refused = await _why_not(engine_client)
        if refused and server_defaults():
            raise EngineError(f"--esamp-... was given, but ESamp is not available: {refused}")
        if refused:
            log.warning("ESamp is not available on this server: %s", refused)
        else:
            log.info("ESamp is active; defaults: %s", dict(server_defaults()) or "off unless asked")
        server = VLLMServer(engine_client, state, args, refused)
        state.ttscale = server
        state.ttscale_metrics = ESampMetrics(server.report, active=not refused)
        if SEVERAL_SERVERS in os.environ:
            log.warning("/metrics does not show ESamp with several API servers; see /ttscale/v1")
        else:
            register(state.ttscale_metrics, REGISTRY)


class VLLMServer:
    """vLLM's server as `ttscale.serving.backend.Backend`."""

    def __init__(self, engine: Any, state: State, args: Namespace, refused: str) -> None:
        self._engine = engine
        self._state = state
        self._guard = _guard(args)
        config = engine.vllm_config.model_config
        self._facts = Facts(
            models=tuple(model.name for model in state.openai_serving_models.base_model_paths),
            max_tokens=config.max_model_len,
            sampling=config.get_diff_sampling_param(),
            esamp_defaults=dict(server_defaults()),
            esamp_refused=refused,
        )

    @property
    def facts(self) -> Facts:
        """What does not change."""
        return self._facts

    def authorised(self, request: Request) -> bool:
        """Whether the request carries one of the server's keys, if it has any."""
        return self._guard is None or bool(self._guard.verify_token(request.headers))

    def check(self, body: Mapping[str, Json]) -> None:
        """Check a body by vLLM's own model of the chat route; see `Backend.check`."""
        _asked(body)

    async def complete(self, body: Mapping[str, Json], request: Request) -> bytes:
        """Answer one body through vLLM's own chat handler; see `Backend.complete`."""
        handler = self._state.openai_serving_chat
        if handler is None:
            raise Refused("this model has no chat route", 404)
        asked = _asked(body)
        try:
            answer = await handler.create_chat_completion(asked, request)
        except EngineDeadError:
            raise Failed("vLLM's engine process has died; the server has to be restarted") from None
        except Exception as error:  # vLLM's own table says what each one means
            raise _meaning(create_error_response(error)) from error
        if isinstance(answer, ErrorResponse):
            raise _meaning(answer)
        if not isinstance(answer, ChatCompletionResponse):
            raise Failed(f"vLLM answered with {type(answer).__name__}, which is no completion")
        payload: str = answer.model_dump_json()
        return payload.encode()

    async def report(self, group: str | None = None) -> Mapping[str, Any]:
        """What the workers report, of all engine cores together."""
        name = None if group is None else group_name(ESamp(group=group))
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                told = await fetch(self._engine, [] if name is None else [name])
        except Exception as error:  # of many kinds, for an engine that is busy, failing or dead
            why = str(error) or type(error).__name__
            raise Failed(f"the engine does not answer: {why}") from error
        return {**told, "groups": {} if name is None else {group: told["groups"].get(name)}}

    def trace(self, request: Request, started: int, about: Mapping[str, Json]) -> None:
        """Record a run by vLLM's tracer, which drops it without --otlp-traces-endpoint."""
        named = {f"ttscale.{name}": value for name, value in about.items()}
        caller = extract_trace_context(request.headers)
        instrument_manual(SPAN, started, time.time_ns(), named, caller, SpanKind.INTERNAL)


async def _why_not(engine: Any) -> str:
    """Why the engine cannot run ESamp; empty when it can."""
    if disabled():
        return "TTSCALE_DISABLE switches it off"
    reason = why_not(engine.vllm_config)
    if reason is not None:
        return reason
    try:
        reports = await engine.collective_rpc("esamp_report", args=([],))
    except Exception:
        log.exception("vLLM's workers did not load the ttscale plugin")
        return "vLLM's workers did not load the plugin; add 'ttscale' to VLLM_PLUGINS"
    return "" if reports[0]["total"] is not None else "the model was loaded without the plugin"


def _guard(args: Namespace) -> Any:
    """What checks API keys, exactly as vLLM checks them; None when the server has none."""
    keys = [key for key in (args.api_key or [envs.VLLM_API_KEY]) if key]
    return AuthenticationMiddleware(_no_app, keys) if keys else None


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands where a middleware wants an application."""


def _asked(body: Mapping[str, Json]) -> ChatCompletionRequest:
    """The body as vLLM reads it.

    Raises:
        Refused: A field is illegal.
    """
    try:
        return ChatCompletionRequest.model_validate(dict(body))
    except ValidationError as error:
        raise Refused(_in_short(error)) from None
    except VLLMError as error:  # of its validators
        raise _meaning(create_error_response(error)) from None
    except (AttributeError, TypeError) as error:  # of those that do not look at a field's type
        raise Refused(f"a field of the body has the wrong type: {error}") from None


def _meaning(answer: ErrorResponse) -> Refused | Failed:
    told = answer.error
    if CLIENT_ERROR <= told.code < SERVER_ERROR:
        return Refused(told.message, told.code, told.param)
    return Failed(told.message, told.code)


def _in_short(error: ValidationError) -> str:
    """The first things that are wrong with a body."""
    told = error.errors(include_input=False, include_url=False, include_context=False)[:3]
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in told)


def _log_like_vllm() -> None:
    """Let our lines go where vLLM's go, in its format."""
    ours, theirs = logging.getLogger("ttscale"), logging.getLogger("vllm")
    ours.handlers, ours.propagate = theirs.handlers, theirs.propagate
    ours.setLevel(theirs.level)
