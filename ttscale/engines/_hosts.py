"""The addresses behind one engine: which of them gets a prompt, and what is known of each."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from ttscale.errors import InvalidInput
from ttscale.sampling import Sampler
from ttscale.types import Prompt

COOL_DOWN = 15.0
"""Seconds for which an address that did not answer is passed over."""
SESSION_DIGITS = 32
"""Length of a session, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What `GET models` tells: the names served, and whether the server is vLLM."""

    models: tuple[str, ...] = ()
    vllm: bool = False


@dataclass(slots=True)
class Host:
    """One address.

    Attributes:
        url: What comes before `/chat/completions`.
        down_until: Loop time until which it is passed over.
        skipped: How often it was passed over.
        facts: What it told of itself; None until asked.
        before: What it told before its connection broke.
        esamp: Whether it has ESamp; None until found out.
        esamp_told: How it showed that.
        reports: Whether it tells what ESamp did for a group.
        lock: Held while it is being asked about itself.
    """

    url: str
    down_until: float = 0.0
    skipped: int = 0
    facts: Facts | None = None
    before: Facts | None = None
    esamp: bool | None = None
    esamp_told: str = ""
    reports: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def forget(self) -> None:
        """The connection broke: whoever answers there next may be another server."""
        self.before = self.facts or self.before
        self.facts = self.esamp = None
        self.reports = False


class Hosts:
    """All addresses of an engine.

    A key leads to the same address as long as that answers; when one fails, its keys alone are
    spread over the others (rendezvous hashing).
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.all = [Host(url) for url in urls]

    def pick(self, key: str, now: float) -> Host:
        """The address for `key`; the one that has been down longest when all are."""
        ranked = sorted(self.all, key=lambda host: _lot(key, host.url))
        for place, host in enumerate(ranked):
            if host.down_until <= now:
                for passed in ranked[:place]:
                    passed.skipped += 1
                return host
        return min(ranked, key=lambda host: host.down_until)

    def some_up(self, now: float) -> bool:
        """Whether any address is not passed over at present."""
        return any(host.down_until <= now for host in self.all)


def key_of(prompt: Prompt, sampler: Sampler) -> str:
    """What must go to one address together: a named group, else the samples of a prompt."""
    if sampler.esamp is not None and sampler.esamp.group is not None:
        return f"group {sampler.esamp.group}"
    if prompt.text is not None:
        return f"text {prompt.text}"
    return f"chat {[(turn.role, turn.content) for turn in prompt.messages]!r}"


def session_of(key: str) -> str:
    """The session that a router sees for `key`: a hash, so that no prompt shows in headers.

    Every engine makes the same session of the same key, so that what belongs together meets also
    when it comes from several processes.
    """
    return _hash(f"session\0{key}")[:SESSION_DIGITS]


def _lot(key: str, url: str) -> str:
    return _hash(f"{url}\0{key}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def checked_urls(base_urls: str | Sequence[str]) -> tuple[str, ...]:
    """The addresses, each ending before `/chat/completions`.

    Raises:
        InvalidInput: There is none, one is given twice, or one is no plain http(s) address.
    """
    several = isinstance(base_urls, Sequence) and not isinstance(base_urls, str)
    given: list[object] = list(base_urls) if several else [base_urls]
    urls = tuple(_checked_url(url) for url in given)
    if not urls or len(set(urls)) < len(urls):
        raise InvalidInput(f"base_url must be one or several different addresses, got {urls!r}")
    return urls


def _checked_url(given: object) -> str:
    wanted = "base_url must be an address like 'http://localhost:8000/v1'"
    if not isinstance(given, str):
        raise InvalidInput(f"{wanted}, got {given!r}")
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise InvalidInput(f"{wanted}: {error}") from error
    if url.userinfo or url.query or url.fragment:  # not shown: it may hold a secret
        raise InvalidInput(f"{wanted}, without user, password or query; give a key as api_key")
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(f"{wanted}, got {given!r}")
    path = url.path.rstrip("/") or "/v1"
    return str(url.copy_with(path=path))
