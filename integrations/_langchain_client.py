"""The SDK's clients of one chat model, made from that model's own settings alone."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx
import openai

from ttscale import _sync


def make_clients(
    settings: Mapping[str, Any], http: Any = None, async_http: Any = None
) -> tuple[openai.OpenAI, openai.AsyncOpenAI]:
    """A synchronous and an asynchronous client with the same settings.

    Connections that are made here do not follow redirects, so that the key stays with its host,
    and are closed when the client is no longer used.

    Args:
        settings: Arguments of both clients.
        http: The caller's own connections, if any; so is `async_http`.
    """
    wire: dict[str, Any] = {"verify": certificates(), "follow_redirects": False}
    own = async_http or openai.DefaultAsyncHttpxClient(**wire)
    first = openai.OpenAI(**settings, http_client=http or openai.DefaultHttpxClient(**wire))
    second = openai.AsyncOpenAI(**settings, http_client=own)
    for client in (first, second):
        client.organization = client.project = None  # taken from OPENAI_* otherwise
    if async_http is None:
        closing = weakref.finalize(second, _close_later, own)
        closing.atexit = False
    return first, second


def _close_later(client: Any) -> None:
    """Close the connections of a model that is no longer used."""
    asyncio.run_coroutine_threadsafe(client.aclose(), _sync.background_loop())


@cache
def certificates() -> ssl.SSLContext:
    """The certificates to trust; they take a while to load, so once for all models."""
    return httpx.create_ssl_context()
