"""Admission: what a request's own copy of its parameters looks like in the worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ttscale.errors import InvalidInput
from ttscale.worker.request import PRIVATE, admit, read_admitted, read_keys


def params(extra: dict[str, Any] | None, **fields: Any) -> SimpleNamespace:
    """What admission touches of vLLM's SamplingParams."""
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    return SimpleNamespace(extra_args=extra, **{**defaults, **fields})


def test_a_request_that_asks_for_nothing_is_left_alone() -> None:
    """Other extensions' keys and vLLM's filters stay as they are."""
    given = params({"other": 1}, top_p=0.9)
    admit(given)

    assert (given.extra_args, given.top_p) == ({"other": 1}, 0.9)
    assert read_admitted(given) is None


def test_two_requests_get_two_groups() -> None:
    """Without a group name nobody shares, whatever the prompt."""
    first, second = params({"esamp_beta": 0.25}), params({"esamp_beta": 0.25})
    admit(first)
    admit(second)
    one, two = read_admitted(first), read_admitted(second)

    assert one is not None
    assert two is not None
    assert one.group != two.group


@pytest.mark.parametrize(
    ("extra", "group"),
    [({"esamp_group": "mine"}, "group:mine"), ({"esamp_scope": "shared"}, "shared")],
)
def test_named_and_shared_groups_have_their_names(extra: dict[str, Any], group: str) -> None:
    """A name cannot collide with the shared group or with a request's own."""
    given = params(extra)
    admit(given)
    asked = read_admitted(given)

    assert asked is not None
    assert asked.group == group


def test_the_filter_moves_to_the_plugin() -> None:
    """vLLM must not filter the re-weighted distribution a second time."""
    given = params({"esamp_beta": 0.25}, temperature=0.8, top_k=20, top_p=0.9, min_p=0.05)
    admit(given)
    asked = read_admitted(given)

    assert (given.top_k, given.top_p, given.min_p) == (0, 1.0, 0.0)
    assert asked is not None
    assert asked.filter is not None
    assert (asked.filter.temperature, asked.filter.top_k) == (0.8, 20)
    assert (asked.filter.top_p, asked.filter.min_p) == (0.9, 0.05)


def test_with_beta_zero_the_filter_stays_with_vllm() -> None:
    """Nothing is re-weighted, so vLLM's own filter is the right one."""
    given = params({"esamp_beta": 0.0}, top_p=0.9)
    admit(given)
    asked = read_admitted(given)

    assert given.top_p == 0.9
    assert asked is not None
    assert asked.filter is None


def test_a_caller_cannot_write_the_private_entry() -> None:
    """Whatever a client sends under our name is dropped, so no one enters another's group."""
    forged = params({PRIVATE: {"group": "request:stolen"}})
    admit(forged)
    named = params({"esamp_beta": 0.25, PRIVATE: {"group": "request:stolen"}})
    admit(named)
    asked = read_admitted(named)

    assert read_admitted(forged) is None
    assert asked is not None
    assert asked.group != "request:stolen"


@pytest.mark.parametrize("value", [0, -1, 101, "hot", True, float("nan")])
def test_a_bad_first_temperature_is_refused(value: object) -> None:
    """The message gives the legal range."""
    with pytest.raises(InvalidInput, match=r"fire_temperature must be a number in \(0, 100\]"):
        read_keys({"fire_temperature": value})
