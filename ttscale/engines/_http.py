"""The HTTP side of `ServerEngine`: one client, and errors told apart by what they mean."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache

import httpx
from pydantic import SecretStr

from ttscale.engines import _retry, _wire
from ttscale.engines._hosts import Host
from ttscale.engines._sse import Events
from ttscale.errors import EngineError, EngineStopped, InvalidInput, TTScaleError

DRAIN_SECONDS = 1.0
MAX_ERROR_BYTES = 65_536
DONE = b"[DONE]"
SESSION = "X-Session-ID"
"""Header by which routers keep requests together; vllm-router looks at it before all others."""
REPLICA = "x-ttscale-replica"
"""Header in which `ttscale serve` names itself, also through a router."""


class Trouble(Exception):
    """An attempt failed in a way that the next one may not.

    Attributes:
        error: What to raise when there is no next one.
        retry_after: The server's header of that name.
        broke: Whether the connection failed, rather than the server telling of an error.
        down: Whether there was no connection at all.
    """

    def __init__(
        self,
        error: TTScaleError,
        *,
        retry_after: str | None = None,
        broke: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after
        self.broke = broke or down
        self.down = down


class Http:
    """Requests to the hosts of one engine, the key in their headers alone."""

    def __init__(self, key: SecretStr | None, timeout: httpx.Timeout, *, trust_env: bool) -> None:
        self._key = key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=timeout,
            limits=httpx.Limits(),  # the engine's own permits bound the connections
            follow_redirects=False,
            trust_env=trust_env,
            verify=_certificates(trust_env),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    @asynccontextmanager
    async def open(
        self,
        host: Host,
        path: str,
        body: Mapping[str, _wire.Json] | None = None,
        *,
        session: str | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """The answer to a POST of `body`, or a GET without one, its own body still to be read.

        Routers send what has one `session` to one replica.

        Raises:
            Trouble: Another attempt may succeed.
            InvalidInput: The server refuses the request.
            EngineError: The server fell silent, or does not speak HTTP as it should.
        """
        url = f"{host.url}/{path}"
        method = "GET" if body is None else "POST"
        try:
            headers = {SESSION: session} if session else None
            async with self._client.stream(method, url, json=body, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    raise self._refused(host, response, await _beginning(response))
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            gone = EngineStopped(f"{host.url} cannot be reached: {_told(error)}")
            raise Trouble(gone, down=True) from None
        except httpx.ReadTimeout:
            seconds = self._client.timeout.read
            raise EngineError(f"{host.url} sent nothing for read_timeout={seconds:g} s") from None
        except httpx.TransportError as error:
            gone = EngineStopped(f"the connection to {host.url} broke: {_told(error)}")
            raise Trouble(gone, broke=True) from None
        except httpx.HTTPError as error:
            raise EngineError(f"{host.url} sent a broken answer: {_told(error)}") from None

    def _refused(self, host: Host, response: httpx.Response, payload: bytes) -> Exception:
        """What to raise for an answer other than 200."""
        status = response.status_code
        if 300 <= status < 400:
            return InvalidInput(
                f"{host.url} redirects to {response.headers.get('location', 'nowhere')}, which is "
                "not followed; give the final address as base_url"
            )
        told = _wire.error_text(payload)
        return self.meaning(host, told, status, response.headers.get("retry-after"))

    def meaning(
        self, host: Host, told: str, status: int, retry_after: str | None = None
    ) -> Exception:
        """What to raise when a server tells of an error with a status of 400 or more."""
        if self._key is not None:  # some servers repeat what they refuse
            told = told.replace(self._key.get_secret_value(), "***")
        text = f"{host.url} answered {status}: {told}"
        if _retry.worth_retrying(status):
            return Trouble(EngineError(text), retry_after=retry_after)
        if 400 <= status < 500:
            return InvalidInput(text)
        return EngineError(text)


@cache
def _certificates(trust_env: bool) -> ssl.SSLContext:
    """The certificates to trust; they take a while to load, so once for all engines."""
    return httpx.create_ssl_context(trust_env=trust_env)


async def events(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The data of each server-sent event up to `[DONE]`, or to the end of the answer."""
    chunks, parser = response.aiter_bytes(), Events()
    async for chunk in chunks:
        for data in parser.feed(chunk):
            if data == DONE:
                await _drain(chunks)
                return
            yield data


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end, which follows at once, so that the connection can be used again."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass
    except (TimeoutError, httpx.TransportError):
        return  # everything that was asked for has come


async def _beginning(response: httpx.Response) -> bytes:
    """An error's body, as far as it is worth reading."""
    payload = b""
    async for chunk in response.aiter_bytes():
        payload += chunk
        if len(payload) > MAX_ERROR_BYTES:
            break
    return payload


def _told(error: Exception) -> str:
    return str(error) or type(error).__name__
