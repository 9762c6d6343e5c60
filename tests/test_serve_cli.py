"""`ttscale serve`: which flags are ours, what is passed on, which plugins are on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import entry_points

import pytest

from ttscale import cli, models
from ttscale.cli import serve
from ttscale.cli.parser import build_parser
from ttscale.errors import InvalidInput
from ttscale.esamp.settings import KEY_PREFIX, ESamp
from ttscale.worker import callers
from ttscale.worker.serve import PLUGINS, allow_plugins, main, parse


def launched(*argv: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment that `ttscale serve ARGV` would become."""
    seen: list[tuple[list[str], dict[str, str]]] = []

    def launch(command: Sequence[str], environment: Mapping[str, str]) -> None:
        seen.append((list(command), dict(environment)))

    args, rest = build_parser().parse_known_args(["serve", *argv])
    assert serve.run(args, rest, launch) == 0
    return seen[0]


def test_flags_that_are_not_ours_are_vllms() -> None:
    """In their order, with their values, wherever ours stand."""
    command, environment = launched(
        "Qwen/Qwen3-8B", "--port", "8001", "--esamp-beta", "0.5", "--api-key", "a", "b", "-tp", "2"
    )

    assert command[1:3] == ["-m", "ttscale.worker.serve"]
    assert command[3:] == ["Qwen/Qwen3-8B", "--port", "8001", "--api-key", "a", "b", "-tp", "2"]
    assert json.loads(environment[callers.DEFAULTS]) == {"esamp_beta": 0.5}


def test_the_names_of_the_variables_are_those_that_the_worker_reads() -> None:
    """The command line may not import the worker, so it has its own spelling of them."""
    assert (serve.DEFAULTS, serve.SHARE_GROUPS, serve.SECRET) == (
        callers.DEFAULTS,
        callers.SHARE_GROUPS,
        callers.SECRET,
    )


def test_every_setting_of_esamp_has_a_flag() -> None:
    """All of them travel as one set of defaults."""
    _, environment = launched(
        *("--esamp-beta", "1", "--esamp-scope", "shared", "--esamp-distiller", "swiglu"),
        *("--esamp-fusion", "noise", "--esamp-seed", "3"),
        *("--no-esamp-gate", "--no-esamp-hold-eos"),
        "--esamp-share-groups",
    )
    flags = vars(build_parser().parse_args(["serve"]))

    assert json.loads(environment[callers.DEFAULTS]) == {
        "esamp_beta": 1.0,
        "esamp_scope": "shared",
        "esamp_distiller": "swiglu",
        "esamp_fusion": "noise",
        "esamp_seed": 3,
        "esamp_gate": False,
        "esamp_hold_eos": False,
    }
    assert {KEY_PREFIX + field.name for field in fields(ESamp)} <= flags.keys()
    assert environment[callers.SHARE_GROUPS] == "1"


def test_without_flags_esamp_is_off_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each server has a secret of its own."""
    monkeypatch.delenv(callers.SECRET, raising=False)
    (_, first), (_, second) = launched(), launched()

    assert callers.DEFAULTS not in first
    assert callers.SHARE_GROUPS not in first
    assert len(first[callers.SECRET]) == 64
    assert first[callers.SECRET] != second[callers.SECRET]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--esamp-beta", "9"], r"esamp_beta must be a number in \[0, 4\], got 9"),
        (["--esamp-group", "a b"], "esamp_group must be 1 to 128"),
        (["--esamp-scope", "shared", "--esamp-group", "a"], "exclude each other"),
        (["--esamp-seed", "-1"], "esamp_seed must be a whole number"),
    ],
)
def test_bad_defaults_are_refused_at_the_door(argv: list[str], message: str) -> None:
    """Nothing is started."""
    with pytest.raises(InvalidInput, match=message):
        launched(*argv)


def test_other_commands_still_refuse_unknown_flags(capsys: pytest.CaptureFixture[str]) -> None:
    """Only `serve` passes them on."""
    assert cli.main(["verify", "--port", "1"]) == 2
    assert "unrecognized arguments: --port 1" in capsys.readouterr().err


def test_naming_our_plugin_switches_no_other_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset means every plugin, but those that ask to be named."""
    monkeypatch.delenv(PLUGINS, raising=False)
    allow_plugins()
    named = set(os.environ[PLUGINS].split(","))
    installed = {point.name for point in entry_points(group="vllm.general_plugins")}

    assert named >= installed - {"lora_hf_hub_resolver"}
    assert "ttscale" in named
    assert "lora_hf_hub_resolver" not in named


@pytest.mark.parametrize(
    ("given", "then"), [("other", "other,ttscale"), ("", "ttscale"), ("ttscale", "ttscale")]
)
def test_the_users_list_of_plugins_is_kept(
    given: str, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is added to it."""
    monkeypatch.setenv(PLUGINS, given)
    allow_plugins()

    assert os.environ[PLUGINS] == then


@pytest.mark.engine
def test_defaults_are_safe_on_a_cpu_and_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model under its name, without chunks; what is given wins."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ours = parse([])
    given = parse(["some/model", "--enable-chunked-prefill", "--no-enforce-eager"])

    assert ours.model == models.resolve(models.EMBEDDED)
    assert ours.served_model_name == [models.EMBEDDED]
    assert ours.enable_chunked_prefill is False
    assert ours.enforce_eager is True
    assert (given.model, given.served_model_name) == ("some/model", None)
    assert given.enable_chunked_prefill is True
    assert given.enforce_eager is False


@pytest.mark.engine
def test_front_ends_without_python_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There requests would pass by admission, and ESamp would silently do nothing."""
    monkeypatch.setenv(PLUGINS, "ttscale")

    assert main(["--grpc"]) == 2
    assert "needs vLLM's own HTTP front end" in capsys.readouterr().err


def test_a_server_is_not_started_without_our_entry_points(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An old installation would give a server without ESamp and without our routes."""
    monkeypatch.setenv(PLUGINS, "ttscale")
    monkeypatch.setattr("ttscale.worker.serve.entry_points", lambda group: [])

    assert main([]) == 2
    assert "no entry point in vllm.general_plugins" in capsys.readouterr().err


@pytest.mark.engine
def test_a_server_is_not_started_with_the_plugin_switched_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ttscale serve` without ESamp would be a lie."""
    monkeypatch.setenv(PLUGINS, "ttscale")
    monkeypatch.setenv("TTSCALE_DISABLE", "1")

    assert main([]) == 2
    assert "TTSCALE_DISABLE switches ESamp off" in capsys.readouterr().err
