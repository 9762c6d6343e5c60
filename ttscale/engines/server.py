"""`ServerEngine`: any OpenAI-compatible server as an engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType

import httpx
from pydantic import SecretStr

from ttscale import _check, _sync
from ttscale.engines import _retry, _wire
from ttscale.engines._hosts import COOL_DOWN, Host, Hosts, checked_urls, key_of, session_of
from ttscale.engines._http import REPLICA, Http, Trouble, events
from ttscale.engines._knowledge import Knowledge
from ttscale.engines.protocol import CandidateHook, draw
from ttscale.errors import EngineError, EngineStopped, InvalidInput, TTScaleError
from ttscale.sampling import Sampler, in_own_group
from ttscale.types import Prompt, Samples

ESAMP_CHOICES = ("auto", "yes", "no")
LONGEST_TIMEOUT = 1e6  # seconds; as good as none


class ServerEngine:
    """Draws samples from OpenAI-compatible servers, over kept-alive connections.

    All samples of a draw are one request. Conversations go to `/chat/completions`, raw text to
    `/completions`. The answer is streamed, so samples that have finished are kept when the
    connection breaks or the time is up. Cancelling a draw closes its connection, which makes vLLM
    abort the request. The engine may be used from any thread and event loop. A prefix is gone on
    from by `continue_final_message`, which vLLM alone has; raw text needs nothing of the kind.

    With ESamp or FIRE in the sampler the server must have the ttscale plugin: it is asked once,
    with a request that only the plugin refuses, and a draw is refused when it has none. What ESamp
    did is in `Samples.esamp` if the server is a `ttscale serve` and the samples share with no
    others; otherwise that is None.

    Behind a router (docs/scaling.md) all samples of a prompt, and all of a named group, reach one
    replica: they carry one `X-Session-ID`, a hash of what must go together. `Samples.replicas`
    tells who answered.

    Without log-probabilities (`logprobs=False`, or a server that leaves them out) `token_count`
    counts the pieces of the stream, or is estimated from the server's total.

    Args:
        base_url: What comes before `/chat/completions`; `/v1` is added to a bare host. Of several
            addresses each prompt has its own; one that does not answer is passed over for 15 s.
        model: Name of the model; None takes the first that the server names.
        api_key: Sent as a bearer token to these addresses alone; redirects are not followed.
        concurrency: Draws that run at the same time; more wait.
        connect_timeout: Seconds to connect.
        read_timeout: Longest silence of the server, in seconds.
        total_timeout: Seconds for one draw with its retries, not counting its wait for a free
            place; None for no limit.
        retries: How often a request is sent again when the connection fails or the server answers
            408, 429 or 5xx, before any sample has come. `Retry-After` is honoured.
        esamp: `auto` asks the server whether it has ESamp; `yes` and `no` say so.
        logprobs: Whether to ask for log-probabilities; some servers refuse them.
        stream: Whether to stream; without it the samples of a request come all or none.
        trust_env: Whether to use proxies and certificates named by environment variables.

    Raises:
        InvalidInput: An argument is refused.
        EngineStopped: `model` is None, and no server answers.
    """

    continues_prefix = True  # a server that is not vLLM refuses it for conversations

    def __init__(
        self,
        base_url: str | Sequence[str],
        model: str | None = None,
        *,
        api_key: SecretStr | str | None = None,
        concurrency: int = 32,
        connect_timeout: float = 10.0,
        read_timeout: float = 300.0,
        total_timeout: float | None = 1800.0,
        retries: int = 2,
        esamp: str = "auto",
        logprobs: bool = True,
        stream: bool = True,
        trust_env: bool = False,
    ) -> None:
        self._hosts = Hosts(checked_urls(base_url))
        self._permits = asyncio.Semaphore(_check.integer("concurrency", concurrency, 1))
        self._total = None if total_timeout is None else _seconds("total_timeout", total_timeout)
        self._retries = _check.integer("retries", retries, 0)
        self._logprobs, self._stream = logprobs, stream
        self._closed = False
        self._running: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        timeout = httpx.Timeout(
            _seconds("read_timeout", read_timeout),
            connect=_seconds("connect_timeout", connect_timeout),
            pool=None,
        )
        self._http = Http(_secret(api_key), timeout, trust_env=trust_env)
        self._known = Knowledge(self._http, _check.choice("esamp", esamp, ESAMP_CHOICES))
        self._model = model or _sync.run(self._first_model())

    def __repr__(self) -> str:
        return f"ServerEngine({[host.url for host in self._hosts.all]}, {self._model!r})"

    @property
    def model(self) -> str:
        """Name of the model that answers."""
        return self._model

    @property
    def skipped(self) -> dict[str, int]:
        """How often each address was passed over because it had not answered."""
        return {host.url: host.skipped for host in self._hosts.all}

    async def adraw(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        *,
        on_candidate: CandidateHook | None = None,
    ) -> Samples:
        """Draw `n` samples of `prompt` with one request; see `Engine.adraw`.

        Raises:
            InvalidInput: The server refused the request, or has no ESamp and it was asked for.
            EngineStopped: The engine is closed, or no server answers.
            EngineError: The server keeps failing, or its answer is not in OpenAI's format.
        """
        sampler.check_count(n)
        return await _sync.on_background_loop(self._draw(prompt, n, sampler, on_candidate))

    def draw(self, prompt: Prompt | str, n: int, sampler: Sampler) -> Samples:
        """`adraw` for callers that are not asynchronous; a text is a question."""
        return draw(self, Prompt.of(prompt), n, sampler)

    async def acheck(self, sampler: Sampler) -> None:
        """Find out whether every server has what `sampler` asks for.

        Raises:
            InvalidInput: One has no ESamp, and it is asked for.
            EngineError: One cannot be asked.
        """
        await _sync.on_background_loop(self._check(sampler))

    def close(self) -> None:
        """Break off what runs and close all connections; a second call does nothing."""
        _sync.run(self._close())

    async def aclose(self) -> None:
        """`close` for asynchronous callers."""
        await _sync.on_background_loop(self._close())

    def __enter__(self) -> ServerEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> ServerEngine:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _first_model(self) -> str:
        try:
            return await self._known.first_model(self._hosts)
        except TTScaleError:
            await self._http.close()
            raise

    async def _check(self, sampler: Sampler) -> None:
        try:
            for host in self._hosts.all if _wire.needs_plugin(sampler) else ():
                await self._known.require_esamp(host, self._model)
        except Trouble as trouble:
            raise trouble.error from None

    async def _close(self) -> None:
        self._closed = True
        for deadline in self._running:
            deadline.reschedule(0)  # long past: what runs ends now, and keeps what is finished
        await self._idle.wait()
        await self._http.close()

    async def _draw(
        self, prompt: Prompt, n: int, sampler: Sampler, on_candidate: CandidateHook | None
    ) -> Samples:
        assembly = _wire.Assembly(n, sampler, on_candidate)
        async with self._permits:
            if self._closed:
                raise EngineStopped("the engine has been closed; make a new ServerEngine")
            deadline = asyncio.timeout(self._total)
            try:
                async with deadline:
                    self._begin(deadline)
                    reason = await self._attempts(prompt, n, sampler, assembly, deadline)
            except TimeoutError:
                if not deadline.expired():
                    raise
                reason = self._why_stopped(assembly)
            finally:
                self._end(deadline)
        return assembly.samples(reason)

    def _begin(self, deadline: asyncio.Timeout) -> None:
        self._running.add(deadline)
        self._idle.clear()

    def _end(self, deadline: asyncio.Timeout) -> None:
        self._running.discard(deadline)
        if not self._running:
            self._idle.set()

    def _why_stopped(self, assembly: _wire.Assembly) -> str:
        if not self._closed:
            return f"not finished within total_timeout={self._total:g} s"
        if not assembly.done:
            raise EngineStopped("the engine was closed before any sample came back")
        return "the engine was closed"

    async def _attempts(
        self,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        assembly: _wire.Assembly,
        deadline: asyncio.Timeout,
    ) -> str:
        """Ask until an attempt succeeds; why samples are missing, if any are."""
        loop, key, tries = asyncio.get_running_loop(), key_of(prompt, sampler), 0
        while True:
            host = self._hosts.pick(key, loop.time())
            assembly.restart()
            try:
                await self._ask(host, session_of(key), prompt, n, sampler, assembly)
                return ""
            except (Trouble, EngineError, InvalidInput) as error:
                if assembly.done:
                    return str(error)
                if not isinstance(error, Trouble):
                    raise
                if self._elsewhere(host, error, loop.time()):
                    continue
                await self._pause(error, tries, deadline)
                tries += 1

    def _elsewhere(self, host: Host, trouble: Trouble, now: float) -> bool:
        """Note what the trouble tells of the host; whether to turn to another one at once."""
        if trouble.broke:
            host.forget()
        if trouble.down:
            host.down_until = now + COOL_DOWN
        return trouble.down and self._hosts.some_up(now)

    async def _pause(self, trouble: Trouble, tries: int, deadline: asyncio.Timeout) -> None:
        """Wait before the next attempt; raise the error if there is none."""
        dice = random.random()  # noqa: S311 - spreads retries, no secret
        wait = _retry.pause(tries, trouble.retry_after, datetime.now(UTC), dice)
        end, now = deadline.when(), asyncio.get_running_loop().time()
        if tries >= self._retries or (end is not None and now + wait >= end):
            raise trouble.error from None
        await asyncio.sleep(wait)

    async def _ask(
        self,
        host: Host,
        session: str,
        prompt: Prompt,
        n: int,
        sampler: Sampler,
        assembly: _wire.Assembly,
    ) -> None:
        """One attempt: send the request, and put together what comes."""
        facts = await self._known.facts(host)
        group = None
        if _wire.needs_plugin(sampler):
            await self._known.require_esamp(host, self._model, session)
            if host.reports:
                sampler, group = in_own_group(sampler)
        logprobs, stream = self._logprobs, self._stream
        body = _wire.body(prompt, n, sampler, self._model, facts, logprobs=logprobs, stream=stream)
        route = _wire.route(prompt)
        async with self._http.open(host, route, body, session=session) as response:
            assembly.replicas.append(response.headers.get(REPLICA, host.url))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                assembly.add(await response.aread(), whole=True)
                return
            async with aclosing(events(response)) as stream_events:
                async for data in stream_events:
                    self._refuse_error(host, data)
                    assembly.add(data)
        if not assembly.complete:
            early = EngineStopped(f"{host.url} ended its answer before all samples had finished")
            raise Trouble(early, broke=True)
        if group is not None:
            assembly.esamp = await self._known.esamp_report(host, group, session)

    def _refuse_error(self, host: Host, data: bytes) -> None:
        """Raise what an event of a stream tells, if it tells of an error."""
        told = _wire.refusal(data, 500) if b'"error"' in data else None
        if told is not None:
            raise self._http.meaning(host, told.message, told.status)


def _secret(key: SecretStr | str | None) -> SecretStr | None:
    """The key, which is never shown; an illegal one is not shown either."""
    if key is None:
        return None
    secret = key if isinstance(key, SecretStr) else SecretStr(key)
    text = secret.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput("api_key must be printable ASCII without spaces, or None for no key")
    return secret


def _seconds(name: str, value: float) -> float:
    return _check.number(name, value, 0, LONGEST_TIMEOUT, open_low=True)
