"""Asking vLLM's pooling routes (`/score`, `/classify`, `/pooling`), and reading their answers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from ttscale import _check, _sync
from ttscale.engines import _retry
from ttscale.engines._hosts import COOL_DOWN, Host, Hosts, checked_urls
from ttscale.engines._http import Http, Trouble
from ttscale.engines.server import _secret
from ttscale.errors import EngineStopped, ScoreError
from ttscale.types import Prompt, Usage
from ttscale.verifiers._each import LONGEST

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int | None = 0


class _Row(BaseModel):
    """One entry of `data`; which of the fields is there depends on the route."""

    index: int
    score: float | None = None
    probs: list[float] | None = None
    data: list[list[float]] | list[float] | None = None


class Answer(BaseModel):
    """What a pooling route answers."""

    data: list[_Row]
    usage: _Usage = _Usage()

    @property
    def cost(self) -> Usage:
        """Tokens that were read."""
        return Usage(self.usage.prompt_tokens, self.usage.completion_tokens or 0)


class PoolingClient:
    """Requests to the pooling routes of one or several servers with the same model.

    Args:
        base_url: Address of the server, with or without `/v1`; several share the requests, and one
            that does not answer is passed over for 15 s.
        api_key: Sent as a bearer token to these addresses alone; redirects are not followed.
        timeout: Longest silence of the server, in seconds.
        retries: How often a request is sent again when the connection fails or the server answers
            408, 429 or 5xx.
        trust_env: Whether to use proxies and certificates named by environment variables.

    Raises:
        InvalidInput: An argument is refused.
    """

    def __init__(
        self,
        base_url: str | Sequence[str],
        *,
        api_key: SecretStr | str | None,
        timeout: float,
        retries: int,
        trust_env: bool,
    ) -> None:
        roots = [url.removesuffix("/v1") for url in checked_urls(base_url)]
        self._hosts = Hosts(roots)
        self._retries = _check.integer("retries", retries, 0)
        _check.number("timeout", timeout, 0, LONGEST, open_low=True)
        seconds = httpx.Timeout(timeout, connect=min(10.0, timeout), pool=None)
        self._http = Http(_secret(api_key), seconds, trust_env=trust_env)
        self._closed = False

    @property
    def urls(self) -> list[str]:
        """The addresses."""
        return [host.url for host in self._hosts.all]

    async def ask(self, route: str, body: Mapping[str, Json], count: int) -> Answer:
        """Post `body`; the answer's rows are for the places 0 to `count - 1`, each once, in order.

        Raises:
            InvalidInput: The server refuses the request.
            EngineError: It fails, or cannot be reached.
            ScoreError: Its answer is not of this kind.
        """
        return _checked(await _sync.on_background_loop(self._post(route, body)), route, count)

    async def close(self) -> None:
        """Close all connections."""
        self._closed = True
        await _sync.on_background_loop(self._http.close())

    async def _post(self, route: str, body: Mapping[str, Json]) -> bytes:
        loop, key, tries = asyncio.get_running_loop(), f"{route} {body!r}", 0
        while True:
            if self._closed:
                raise EngineStopped("the reward model's client has been closed; make a new one")
            host = self._hosts.pick(key, loop.time())
            try:
                async with self._http.open(host, route, body) as response:
                    return await response.aread()
            except Trouble as trouble:
                if self._elsewhere(host, trouble, loop.time()):
                    continue
                if tries >= self._retries:
                    raise trouble.error from None
                dice = random.random()  # noqa: S311 - spreads retries, no secret
                pause = _retry.pause(tries, trouble.retry_after, datetime.now(UTC), dice)
            await asyncio.sleep(pause)
            tries += 1

    def _elsewhere(self, host: Host, trouble: Trouble, now: float) -> bool:
        """Whether another address is to be tried at once."""
        if not trouble.down:
            return False
        host.down_until = now + COOL_DOWN
        return self._hosts.some_up(now)


def _checked(payload: bytes, route: str, count: int) -> Answer:
    """The answer, with exactly the rows that were asked for."""
    try:
        answer = Answer.model_validate_json(payload)
    except ValidationError as error:
        raise ScoreError(f"/{route} answered in another format: {error.errors()[0]}") from None
    answer.data.sort(key=lambda row: row.index)
    indexes = [row.index for row in answer.data]
    if indexes != list(range(count)):
        raise ScoreError(f"/{route} answered for the places {indexes}, not for 0 to {count - 1}")
    return answer


def turns(prompt: Prompt, solution: str) -> list[Json]:
    """The conversation with the solution as its last turn; raw text becomes the user's."""
    asked: list[Json] = [{"role": m.role, "content": m.content} for m in prompt.messages]
    if prompt.text is not None:
        asked = [{"role": "user", "content": prompt.text}]
    return [*asked, {"role": "assistant", "content": solution}]
