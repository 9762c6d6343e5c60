"""How an operator's defaults complete the keys of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttscale.esamp.settings import KEY_PREFIX

BETA = KEY_PREFIX + "beta"
SHARING = {KEY_PREFIX + "scope", KEY_PREFIX + "group"}


def fill(own: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`own` keys, completed by `defaults`.

    A request that says itself with whom it shares (scope or group) takes neither from the defaults,
    since the two exclude each other.
    """
    dropped = SHARING if SHARING & own.keys() else set()
    return {**{k: v for k, v in defaults.items() if k not in dropped}, **own}
