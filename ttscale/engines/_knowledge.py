"""What an engine finds out about its servers before it asks them for samples."""

from __future__ import annotations

import logging

from ttscale.engines import _wire
from ttscale.engines._hosts import Facts, Host, Hosts
from ttscale.engines._http import Http, Trouble
from ttscale.errors import EngineError, InvalidInput
from ttscale.esamp.settings import BETA_RANGE
from ttscale.types import ESampReport

log = logging.getLogger(__name__)

PROBE_BETA = BETA_RANGE[0] - 1
STATUS, REPORT = "../ttscale/v1/models", "../ttscale/v1/esamp"  # beside OpenAI's routes
PROBE_ANSWER = "esamp_beta must be"  # only a server with ESamp has an opinion on that key


class Knowledge:
    """Asks each server once, and again after its connection broke.

    Args:
        http: What the servers are asked through.
        esamp: `auto` asks a server whether it has ESamp; `yes` and `no` say so.
    """

    def __init__(self, http: Http, esamp: str) -> None:
        self._http = http
        self._esamp = esamp

    async def facts(self, host: Host) -> Facts:
        """What the server tells of itself; nothing when it has no such route, or refuses it.

        A router passes the question on to a replica of its choice, which may be the one that has
        just died: what was known before holds then.
        """
        async with host.lock:
            if host.facts is None:
                try:
                    host.facts = await self._learn(host)
                except InvalidInput:
                    host.facts = Facts()
                except Trouble as trouble:
                    if trouble.broke or host.before is None:
                        raise
                    return host.before
            return host.facts

    async def first_model(self, hosts: Hosts) -> str:
        """The first model that a server names.

        Raises:
            InvalidInput: None of the servers names one, or the first refuses to.
            EngineError: The first server cannot be reached or fails, and no other one names any.
        """
        errors: list[Exception] = []
        for host in hosts.all:
            try:
                host.facts = await self._learn(host)
            except Trouble as trouble:
                errors.append(trouble.error)
                continue
            except (EngineError, InvalidInput) as error:
                errors.append(error)
                continue
            if host.facts.models:
                return host.facts.models[0]
        if errors:
            raise errors[0]
        urls = ", ".join(host.url for host in hosts.all)
        raise InvalidInput(f"model must be given: {urls} names none")

    async def require_esamp(self, host: Host, model: str, session: str | None = None) -> None:
        """Raise InvalidInput unless the server has ESamp.

        Behind a router the replica of the `session` is asked.
        """
        if self._esamp == "yes":
            return
        told = "esamp='no' was given"
        if self._esamp == "auto":
            async with host.lock:
                if host.esamp is None and not await self._told(host, session):
                    await self._probe(host, model, session)
                if host.esamp:
                    return
                told = host.esamp_told
        raise InvalidInput(
            f"the sampler asks for ESamp or FIRE, and {host.url} has neither ({told}); "
            "start it with the ttscale plugin, or sample plainly"
        )

    async def esamp_report(self, host: Host, group: str, session: str) -> ESampReport | None:
        """What ESamp did in our group of that name; None when the server does not tell.

        The `session` is that of the draw, so that a router asks the replica that has the group.
        """
        try:
            path = f"{REPORT}/{group}"
            async with self._http.open(host, path, session=session) as response:
                return _wire.esamp_of_group(await response.aread(), group)
        except (Trouble, EngineError, InvalidInput):
            return None  # the samples are there; they are not lost with the report

    async def _told(self, host: Host, session: str | None) -> bool:
        """Ask for what only `ttscale serve` tells: whether it has ESamp. False if it tells none."""
        try:
            async with self._http.open(host, STATUS, session=session) as response:
                status = _wire.esamp_status(await response.aread())
        except InvalidInput:
            return False
        if status is None:
            return False
        host.esamp, reason = status
        host.esamp_told, host.reports = f"it says: {reason}", True
        return True

    async def _learn(self, host: Host) -> Facts:
        async with self._http.open(host, "models") as response:
            return _wire.facts(await response.aread())

    async def _probe(self, host: Host, model: str, session: str | None) -> None:
        """Ask for one token with a beta that is illegal: a server with ESamp refuses just that.

        Others either ignore the key or refuse it without naming its range.
        """
        body: dict[str, _wire.Json] = {
            "model": model,
            "prompt": "Hi",
            "max_tokens": 1,
            "vllm_xargs": {"esamp_beta": PROBE_BETA},
        }
        try:
            async with self._http.open(host, _wire.TEXT, body, session=session) as response:
                await response.aread()
            told = f"it ignores esamp_beta={PROBE_BETA:g}"
        except InvalidInput as error:
            told = str(error)
        host.esamp, host.esamp_told = PROBE_ANSWER in told, told
        if host.esamp:
            log.info("%s has ESamp, but %s is not there to tell what it did", host.url, STATUS)
