"""Who meets in a group over HTTP, and what the operator's defaults do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from ttscale.errors import InvalidInput
from ttscale.worker import callers
from ttscale.worker.callers import LOCAL, caller, identify, owned, server_defaults, with_defaults


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that the tests run on."""
    for name in (callers.DEFAULTS, callers.SHARE_GROUPS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(callers.SECRET, "one secret")


@pytest.fixture
def as_caller() -> Iterator[Any]:
    """Sets the present caller by API key."""
    token = caller.set(None)
    yield lambda key: caller.set(identify(f"Bearer {key}"))
    caller.reset(token)


def test_two_keys_never_meet_in_a_group_of_one_name(as_caller: Any) -> None:
    """The unique name holds a hash of the key; the same key gets the same name."""
    as_caller("alice")
    first, again = owned("group:mine"), owned("group:mine")
    as_caller("bob")

    assert first == again
    assert owned("group:mine") != first
    assert owned("shared") != first


def test_a_groups_name_cannot_be_guessed(as_caller: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It depends on the server's secret, and shows no key."""
    as_caller("alice")
    first = owned("group:mine")
    monkeypatch.setenv(callers.SECRET, "another secret")
    as_caller("alice")

    assert owned("group:mine") != first
    assert "alice" not in first


def test_a_server_without_a_secret_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a caller's hash is the same within the process, and not the plain hash of the key."""
    monkeypatch.delenv(callers.SECRET)

    assert identify("Bearer alice") == identify("bearer  alice ")
    assert identify("Bearer alice") != identify("Bearer bob")


def test_callers_share_when_the_operator_says_so(
    as_caller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One name, one group."""
    monkeypatch.setenv(callers.SHARE_GROUPS, "1")
    as_caller("alice")
    first = owned("group:mine")
    as_caller("bob")

    assert owned("group:mine") == first == "group:mine"


def test_inside_a_program_groups_are_what_they_are_named() -> None:
    """There is nobody to keep apart, whether a server's module is loaded or not."""
    token = caller.set(LOCAL)
    try:
        assert owned("group:mine") == "group:mine"
    finally:
        caller.reset(token)


def test_a_server_that_cannot_tell_callers_apart_refuses_to_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plain `vllm serve` without our middleware must not let strangers meet."""
    monkeypatch.setitem(sys.modules, "vllm.entrypoints.launchers.app", ModuleType("app"))
    token = caller.set(None)
    try:
        with pytest.raises(InvalidInput, match="cannot tell its callers apart"):
            owned("group:mine")
    finally:
        caller.reset(token)


def test_defaults_apply_to_requests_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a beta among them; foreign keys stay."""
    monkeypatch.setenv(callers.DEFAULTS, '{"esamp_beta": 0.5, "esamp_distiller": "swiglu"}')

    assert with_defaults({"other": 1}) == {
        "other": 1,
        "esamp_beta": 0.5,
        "esamp_distiller": "swiglu",
    }
    assert with_defaults(None)["esamp_beta"] == 0.5


def test_a_requests_own_keys_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a scope or group of its own replaces both of the operator's."""
    monkeypatch.setenv(callers.DEFAULTS, '{"esamp_beta": 0.5, "esamp_group": "all"}')

    assert with_defaults({"esamp_beta": 1.0}) == {"esamp_beta": 1.0, "esamp_group": "all"}
    assert with_defaults({"esamp_scope": "shared"}) == {
        "esamp_beta": 0.5,
        "esamp_scope": "shared",
    }


def test_beta_zero_alone_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request then samples plainly and trains nothing."""
    monkeypatch.setenv(callers.DEFAULTS, '{"esamp_beta": 0.5}')

    assert with_defaults({"esamp_beta": 0}) == {}
    assert with_defaults({"esamp_beta": 0, "esamp_group": "x"})["esamp_beta"] == 0


def test_defaults_without_a_beta_need_a_request_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """They choose how, not whether."""
    monkeypatch.setenv(callers.DEFAULTS, '{"esamp_distiller": "swiglu"}')

    assert with_defaults({}) == {}
    assert with_defaults({"esamp_beta": 1.0})["esamp_distiller"] == "swiglu"


def test_without_defaults_a_request_stays_as_it_is() -> None:
    """Also one with beta 0, which then trains and reports."""
    assert with_defaults({"esamp_beta": 0}) == {"esamp_beta": 0}
    assert with_defaults(None) == {}


@pytest.mark.parametrize("text", ["{", "[1]", '{"beta": 1}', '{"esamp_beta": 9}'])
def test_bad_defaults_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are checked when the server starts."""
    monkeypatch.setenv(callers.DEFAULTS, text)

    with pytest.raises(InvalidInput, match="esamp"):
        server_defaults()
