"""The other commands, the help, and the streams."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from ttscale import __version__, models
from ttscale.cli import main
from ttscale.cli.progress import Progress
from ttscale.cli.screen import Screen, visible
from ttscale.errors import MissingDependency
from ttscale.strategies import NAMES
from ttscale.testing import candidate


@pytest.mark.parametrize("command", [[], ["solve"]])
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help shows commands that can be copied."""
    assert main([*command, "--help"]) == 0
    assert "examples:\n  ttscale solve" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["models", "strategies", "verify"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Asking a command for help is no error."""
    assert main([command, "--help"]) == 0
    assert f"usage: ttscale {command}" in capsys.readouterr().out


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the version of the package."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ttscale {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["dance"], ["models", "push"]])
def test_unknown_commands_are_bad_input(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing or unknown command gives one line and the code of bad input."""
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_strategies_lists_all_with_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Every strategy, sampler and ESamp setting is there with its default."""
    assert main(["strategies"]) == 0
    out = capsys.readouterr().out
    for name in NAMES:
        assert f"{name}: " in out
    rows = [line.split() for line in out.splitlines()]
    assert ["n", "int", "default", "16"] in rows
    assert ["verifier", "Verifier", "required"] in rows
    assert ["beta", "float", "default", "0.25"] in rows


def test_models_tells_whether_the_model_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Absent, the row says how to get it; present, it has the folder and its size."""
    monkeypatch.setenv("TTSCALE_CACHE", str(tmp_path))
    assert main(["models"]) == 0
    assert "ttscale models pull" in capsys.readouterr().out
    folder = tmp_path / "models" / models.EMBEDDED
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(b" " * 3_000_000)
    assert main(["models", "list"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [models.EMBEDDED, "yes", "3", "MB", str(folder)] in rows


def test_models_pull_prints_the_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder goes to stdout, the steps to stderr."""

    def pull(progress: models.Progress) -> Path:
        progress("fetching it")
        return tmp_path

    monkeypatch.setattr(models, "pull", pull)
    assert main(["models", "pull"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}\n"
    assert captured.err == "fetching it\n"


def test_models_pull_without_converters_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is named in one line."""
    monkeypatch.setenv("TTSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "CONVERTERS", ("no_such_package_here",))
    assert main(["models", "pull"]) == 3
    assert "ttscale[embedded]" in capsys.readouterr().err


def stand_in(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Put a module with this `run` where the worker's check is."""
    module = types.ModuleType("ttscale.worker.verify")
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ttscale.worker.verify", module)
    import ttscale.worker

    monkeypatch.setattr(ttscale.worker, "verify", module, raising=False)


@pytest.mark.parametrize(("argv", "as_json"), [(["verify"], False), (["verify", "--json"], True)])
def test_verify_hands_on_its_option_and_code(
    argv: list[str], as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check gets the option and a console; its code is the command's."""
    seen: list[tuple[bool, bool]] = []

    def run(json: bool, console: Console) -> int:
        seen.append((json, isinstance(console, Console)))
        return 5

    stand_in(monkeypatch, run)
    assert main(argv) == 5
    assert seen == [(as_json, True)]


def test_verify_without_vllm_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing vLLM is one line."""

    def run(json: bool, console: Console) -> int:
        raise MissingDependency("vllm is not installed; pip install 'ttscale[cpu]'")

    stand_in(monkeypatch, run)
    assert main(["verify"]) == 3
    assert capsys.readouterr().err.startswith("ttscale: error: vllm is not installed")


def test_visible_escapes_and_cuts() -> None:
    """Unprintable characters become escapes; letters of any script stay."""
    assert visible("a\x1bß\n漢") == "a\\x1bß\\n漢"
    assert visible("abcdefgh", 6) == "abc..."
    assert visible("abcdef", 6) == "abcdef"


def test_plain_progress_is_one_line_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    """Away from a terminal each finished question gives a line with the samples so far."""
    with Progress(Screen(), questions=2, n=2) as progress:
        for _ in range(2):
            progress.sample(candidate("x"))
        progress.question()
        with progress.paused():
            pass
        progress.question()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["1 of 2 questions, 2 samples", "2 of 2 questions, 2 samples"]


def test_progress_bar_counts_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal there is a bar, which leaves while results are printed."""
    screen = Screen()
    screen.err = Console(file=sys.stderr, force_terminal=True, width=120)
    with Progress(screen, questions=2, n=2) as progress:
        progress.sample(candidate("x"))
        progress.question()
        with progress.paused():
            screen.line("a result")
    captured = capsys.readouterr()
    assert captured.out == "a result\n"
    assert "1 of 2 questions, 1 samples" in captured.err
    assert "1/4" in captured.err


def test_reader_that_goes_away_is_no_traceback() -> None:
    """A closed pipe, as left by `head`, ends the command quietly."""
    reading, writing = os.pipe()
    os.close(reading)
    code = "import sys; from ttscale.cli import main; sys.exit(main(['strategies']))"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_importing_the_command_loads_neither_torch_nor_vllm() -> None:
    """The help must not wait for torch."""
    code = (
        "import sys, ttscale.cli, ttscale.evaluation\n"
        "heavy = {'torch', 'vllm', 'transformers', 'sympy', 'reasoning_gym'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
