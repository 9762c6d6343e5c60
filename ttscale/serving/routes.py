"""The routes `/ttscale/v1/...`: authorisation, errors in OpenAI's shape, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from ttscale import __version__
from ttscale.errors import InvalidInput, MissingDependency, TTScaleError
from ttscale.esamp.settings import ESamp
from ttscale.serving import answer
from ttscale.serving.backend import Backend, Failed, Refused
from ttscale.serving.body import ChatBody, Job, fields_of, read
from ttscale.serving.choice import choose
from ttscale.serving.engine import ChatEngine
from ttscale.serving.strategy import VERIFIERS
from ttscale.strategies import NAMES, Outcome, arun
from ttscale.types import Candidate, Usage

log = logging.getLogger(__name__)

BEFORE_STREAM = 0.5
"""Seconds in which a streamed request may still be refused with a status of its own."""

TIMED_OUT = 504

T = TypeVar("T")
router = APIRouter(prefix="/ttscale/v1", tags=["ttscale"])


def backend_of(request: Request) -> Backend:
    """The server's backend.

    Raises:
        Refused: The request carries no key that the server takes.
    """
    backend: Backend = request.app.state.ttscale
    if not backend.authorised(request):
        raise Refused("the API key is missing or wrong", 401)
    return backend


Server = Annotated[Backend, Depends(backend_of)]
FAILURES = {
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
    TIMED_OUT: "GatewayTimeoutError",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "A field is refused; the message says what is allowed."},
    401: {"description": "The API key is missing or wrong."},
}


@router.get("/models", responses=ERRORS)
async def models(server: Server) -> JSONResponse:
    """The models, the strategies, and whether ESamp is active."""
    facts = server.facts
    rows = [
        {"id": name, "object": "model", "created": 0, "owned_by": "vllm"} for name in facts.models
    ]
    esamp = {
        "active": not facts.esamp_refused,
        "reason": facts.esamp_refused,
        "defaults": dict(facts.esamp_defaults),
    }
    about = {
        "version": __version__,
        "esamp": esamp,
        "strategies": list(NAMES),
        "verifiers": list(VERIFIERS),
    }
    return JSONResponse({"object": "list", "data": rows, "ttscale": about})


@router.get("/esamp/{name}", responses=ERRORS)
async def esamp_of_group(server: Server, name: str) -> JSONResponse:
    """The same as `/esamp?group=`; routers drop what follows the question mark."""
    return await esamp(server, name)


@router.get("/esamp", responses=ERRORS)
async def esamp(
    server: Server,
    group: Annotated[str | None, Query(description="One of the caller's own groups.")] = None,
) -> JSONResponse:
    """What ESamp has done since the server started, and in one of the caller's groups."""
    if group is not None:
        ESamp(group=group)  # refuses what cannot be a name
    return JSONResponse(dict(await server.report(group)))


@router.post("/chat/completions", responses=ERRORS)
async def chat(body: ChatBody, server: Server, request: Request) -> Response:
    """Answer a chat request with the message that a strategy chooses."""
    server.check(fields_of(body))
    run = _Run(server, read(body, server.facts), request)
    if not run.job.streams:
        return await _unless_gone(run.whole(), request)
    task = asyncio.create_task(run.result())
    await asyncio.wait([task], timeout=BEFORE_STREAM)
    if task.done():
        task.result()  # raises what it was refused with
    return StreamingResponse(run.chunks(task), media_type="text/event-stream")


class _Run:
    """One request's run."""

    def __init__(self, server: Backend, job: Job, request: Request) -> None:
        self.job = job
        self._server, self._request = server, request
        self._engine = ChatEngine(server, job, request)
        self._head = answer.Head(job.model)
        self._finished = 0
        self._progress = asyncio.Event()

    async def whole(self) -> JSONResponse:
        """The answer in one piece."""
        choice, usage, block = await self.result()
        return JSONResponse(answer.whole(self._head, choice, usage, block))

    async def result(self) -> tuple[Any, Usage, answer.Json]:
        """The winner, the tokens of everything, and the block `ttscale`.

        Raises:
            Failed: No sample came back.
        """
        started = time.time_ns()
        outcome = await arun(
            self.job.strategy,
            self._engine,
            self.job.prompt,
            seed=self.job.seed,
            budget=self.job.budget,
            on_candidate=self._count,
        )
        drawn = self._engine.drawn
        if not drawn:
            raise self._engine.trouble or _nothing(outcome)
        choice = await asyncio.to_thread(choose, self.job, outcome, drawn)
        self._tell(outcome, choice.tie, started)
        return choice, outcome.usage, answer.block_of(self.job, outcome, drawn, choice)

    def _tell(self, outcome: Outcome, tie: bool, started: int) -> None:
        """One line of the log, and one span, of a run that has ended."""
        about: answer.Json = {
            "strategy": outcome.strategy,
            "samples": outcome.returned,
            "requested": outcome.requested,
            "tokens": outcome.usage.completion_tokens,
            "tie": tie,
        }
        seconds = (time.time_ns() - started) / 1e9
        told = " ".join(f"{name}={value}" for name, value in about.items())
        log.info("%s seconds=%.3f", told, seconds)
        self._server.trace(self._request, started, about)

    def _count(self, _: Candidate) -> None:
        self._finished += 1
        self._progress.set()

    async def chunks(
        self, task: asyncio.Task[tuple[Any, Usage, answer.Json]]
    ) -> AsyncIterator[bytes]:
        """The answer in chunks; ends the run when the client has gone."""
        try:
            yield answer.first_chunk(self._head)
            async for comment in self._comments(task):
                yield comment
            choice, usage, block = task.result()
            tells = self.job.tells_usage
            for chunk in answer.last_chunks(self._head, choice, usage, block, tells_usage=tells):
                yield chunk
        except TTScaleError as error:
            yield answer.error_event(error_body(error)[1])
            yield answer.DONE
        finally:
            await _end(task)

    async def _comments(self, task: asyncio.Task[Any]) -> AsyncIterator[bytes]:
        """How many samples have finished, each time that some have."""
        while not task.done():
            news = asyncio.create_task(self._progress.wait())
            try:
                await asyncio.wait([task, news], return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
            if self._progress.is_set():
                self._progress.clear()
                yield answer.progress(self._finished, self.job.options.n)


def _nothing(outcome: Outcome) -> Failed:
    """Why there is nothing to answer with."""
    status = TIMED_OUT if outcome.stopped else 500
    return Failed(outcome.stopped or outcome.reason or "no sample came back", status)


async def _unless_gone(work: Coroutine[Any, Any, T], request: Request) -> T | Response:
    """Do the work; when the client goes away, end it, and with it the samples."""
    task, gone = asyncio.create_task(work), asyncio.create_task(_gone(request))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else Response(status_code=499)  # nobody reads it
    finally:
        await _end(gone)
        await _end(task)


async def _gone(request: Request) -> None:
    """Wait until the client has closed the connection; the body has been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for it; what it raised has been seen, or nobody cares."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, TTScaleError):
        await task


def error_body(error: TTScaleError) -> tuple[int, answer.Json]:
    """HTTP status and body of an error, in OpenAI's shape."""
    status, kind, parameter = 500, "InternalServerError", None
    if isinstance(error, InvalidInput):
        status, kind = 400, "BadRequestError"
    if isinstance(error, Refused):
        status, parameter = error.status, error.parameter
        kind = {401: "AuthenticationError", 404: "NotFoundError"}.get(status, kind)
    if isinstance(error, MissingDependency):
        status, kind = 501, FAILURES[501]
    if isinstance(error, Failed):
        status = error.status
        kind = FAILURES.get(status, kind)
    told = {"message": str(error), "type": kind, "param": parameter, "code": status}
    return status, {"error": told}


async def on_error(_: Request, error: Exception) -> JSONResponse:
    """The exception handler of every ttscale error that leaves a route."""
    if not isinstance(error, TTScaleError):
        raise error
    status, content = error_body(error)
    return JSONResponse(content, status_code=status)
