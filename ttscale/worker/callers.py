"""Whose request it is, and what the operator has set for requests that say nothing.

Over HTTP a group belongs to the caller who names it: its unique name holds a keyed hash of the
caller's API key, so that two callers never meet in a group, and nobody can name another's. The hash
is put into a context variable by `gate.Gate` and read at admission, which runs in
the same task. Inside a Python program there are no callers, and groups are what they are named.

The operator's settings travel in environment variables, which every front-end process inherits.
(vLLM's `--additional-config` would reach them too, but it enters the key of vLLM's compile cache:
each new default would compile the model anew.)
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from ttscale.errors import InvalidInput
from ttscale.esamp.defaults import BETA, fill
from ttscale.esamp.settings import KEY_PREFIX, ESamp

DEFAULTS = "TTSCALE_ESAMP_DEFAULTS"  # JSON of flat request keys
SHARE_GROUPS = "TTSCALE_ESAMP_SHARE_GROUPS"
SECRET = "TTSCALE_SERVER_SECRET"  # noqa: S105 - the name of the variable

REPLICA = "TTSCALE_REPLICA_NAME"

LOCAL = ""
"""The caller of requests that were made inside this program."""

caller: ContextVar[str | None] = ContextVar("ttscale_caller", default=None)
"""A caller's hash, LOCAL, or None when nobody has said."""

_HTTP_SERVER = "vllm.entrypoints.launchers.app"  # vLLM loads it where it serves HTTP


def identify(authorization: str | None) -> str:
    """The caller's hash, from the request's `Authorization` header.

    All callers without one are the same caller.
    """
    key = (authorization or "").partition(" ")[2].strip()
    return hmac.new(_secret(), key.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def owned(name: str) -> str:
    """The unique name of the group that the present caller calls `name`.

    Raises:
        InvalidInput: It came over HTTP, and nothing tells whose it is.
    """
    who = caller.get()
    if who == LOCAL or shares_groups():
        return name
    if who is not None:
        return f"{who}/{name}"
    if _HTTP_SERVER in sys.modules:
        raise InvalidInput(
            "this server cannot tell its callers apart, so requests cannot share a distiller; "
            "start it with `ttscale serve`, or with 'ttscale' in VLLM_PLUGINS"
        )
    return name


def replica_name() -> str:
    """The server's name, new with every start: who has another name has other distillers."""
    return os.environ.get(REPLICA) or _own_name()


@functools.cache
def _own_name() -> str:
    return secrets.token_hex(4)


def shares_groups() -> bool:
    """Whether the operator lets callers meet in groups."""
    return os.environ.get(SHARE_GROUPS, "").lower() not in ("", "0", "false")


def with_defaults(extra_args: Mapping[str, Any] | None) -> dict[str, Any]:
    """A request's keys, completed by the operator's defaults; its own keys win.

    Defaults without a beta complete only requests that ask for ESamp. A request that says nothing
    but `esamp_beta: 0` asks to be left alone, and samples plainly.
    """
    args = dict(extra_args or {})
    defaults = server_defaults()
    if not defaults or caller.get() == LOCAL:
        return args
    own = {key for key in args if key.startswith(KEY_PREFIX)}
    if own == {BETA} and args[BETA] == 0:
        del args[BETA]
        return args
    return fill(args, defaults) if own or BETA in defaults else args


def server_defaults() -> Mapping[str, Any]:
    """The operator's defaults, checked.

    Raises:
        InvalidInput: The environment variable holds no legal settings.
    """
    return _read_defaults(os.environ.get(DEFAULTS, ""))


@functools.lru_cache(maxsize=8)
def _read_defaults(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        keys = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"{DEFAULTS} must be a JSON object of esamp_* keys: {error}") from None
    if not isinstance(keys, dict) or not all(key.startswith(KEY_PREFIX) for key in keys):
        raise InvalidInput(f"{DEFAULTS} must be a JSON object of esamp_* keys, got {text!r}")
    ESamp.from_keys(keys)
    return keys


@functools.cache
def _own_secret() -> str:
    return secrets.token_hex(32)


def _secret() -> bytes:
    """The server's secret; one of this process alone when the operator gives none."""
    return (os.environ.get(SECRET) or _own_secret()).encode()
