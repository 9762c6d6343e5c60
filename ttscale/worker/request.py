"""What a request asks of the plugin, as it travels in `SamplingParams.extra_args`.

Callers write the flat keys `esamp_*` and `fire_temperature`. Admission adds one private entry,
PRIVATE, which only it can write: the group's unique name, and the filter taken from vLLM's fields.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ttscale import _check
from ttscale.esamp.settings import ESamp
from ttscale.sampling import FIRE_RANGE
from ttscale.worker.callers import owned

PRIVATE = "ttscale"
FIRE_KEY = "fire_temperature"


@dataclass(frozen=True, slots=True)
class Filter:
    """Token filter of one request, and the temperature at which it is taken."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float

    @property
    def filters(self) -> bool:
        """Whether it drops any token at all."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


@dataclass(frozen=True, slots=True)
class Asked:
    """Everything that one request asks of the plugin."""

    esamp: ESamp | None
    fire_temperature: float | None
    group: str = ""
    filter: Filter | None = None


def read_keys(extra_args: Mapping[str, Any] | None) -> Asked | None:
    """Read and check a caller's keys; None when the request asks nothing of the plugin.

    Raises:
        InvalidInput: An `esamp_*` key is unknown or a value is illegal.
    """
    keys = extra_args or {}
    esamp = ESamp.from_keys(keys)
    fire = keys.get(FIRE_KEY)
    if fire is not None:
        fire = _check.number(FIRE_KEY, fire, *FIRE_RANGE, open_low=True)
    return None if esamp is None and fire is None else Asked(esamp, fire)


def group_name(esamp: ESamp) -> str:
    """The name under which a request's group is known in the workers.

    Raises:
        InvalidInput: The group is to be shared, and nothing tells whose it is; see `callers`.
    """
    if esamp.scope == "shared":
        return owned("shared")
    if esamp.group is not None:
        return owned(f"group:{esamp.group}")
    return f"request:{uuid.uuid4().hex}"


def admit(params: Any) -> None:
    """Write the private entry into `params`, the request's own copy of its SamplingParams.

    The filter moves from vLLM's fields to the private entry, so that vLLM does not filter the
    re-weighted distribution a second time.
    """
    args: dict[str, Any] = dict(params.extra_args or {})
    args.pop(PRIVATE, None)
    asked = read_keys(args)
    if asked is not None:
        mine: dict[str, Any] = {}
        if asked.esamp is not None:
            mine["group"] = group_name(asked.esamp)
        if params.temperature > 0 and _takes_filter(asked):
            mine["filter"] = [params.temperature, params.top_k, params.top_p, params.min_p]
            params.top_k, params.top_p, params.min_p = 0, 1.0, 0.0
        args[PRIVATE] = mine
    params.extra_args = args or None


def _takes_filter(asked: Asked) -> bool:
    mixes = asked.esamp is not None and asked.esamp.beta > 0
    return mixes or asked.fire_temperature is not None


def read_admitted(params: Any) -> Asked | None:
    """What an admitted request asks of the plugin; None for every other request."""
    args = params.extra_args or {}
    mine = args.get(PRIVATE)
    if not mine:
        return None
    asked = read_keys(args)
    if asked is None:
        return None
    numbers = mine.get("filter")
    chosen = None
    if numbers is not None:
        temperature, top_k, top_p, min_p = numbers
        chosen = Filter(temperature, max(int(top_k), 0), top_p, min_p)
    return Asked(asked.esamp, asked.fire_temperature, mine.get("group", ""), chosen)
