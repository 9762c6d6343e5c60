"""The file tree of a sandbox: Python's own files, read-only, and one small folder to write in."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from ttscale.sandbox import _kernel

HOME = "/tmp"  # noqa: S108 - inside of the sandbox, a file system of its own
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_SKELETON = "size=4m,nr_inodes=8192,mode=755"
_MAX_FILES = 4096


def build(folder: str, readable: Sequence[str], disk: int) -> None:
    """Make a new tree on the empty `folder`, and the root of this process.

    Args:
        folder: Where it is mounted for a moment.
        readable: Files and folders to show, each at its own place; links stay links.
        disk: Bytes that can be written, all in `HOME`.
    """
    safe = _kernel.MS_NOSUID | _kernel.MS_NODEV
    _kernel.mount("none", "/", "", _kernel.MS_REC | _kernel.MS_PRIVATE)
    _kernel.mount("tmpfs", folder, "tmpfs", safe, _SKELETON)
    os.umask(0o022)
    home = folder + HOME
    os.makedirs(home, exist_ok=True)
    room = f"size={disk},nr_inodes={_MAX_FILES},mode=1777"
    _kernel.mount("tmpfs", home, "tmpfs", safe | _kernel.MS_NOEXEC, room)
    for path in readable:  # after the home, which may have one of them below it
        _show(path, folder + path)
    for device in DEVICES:
        _place(device, folder + device)
        _kernel.mount(device, folder + device, "", _kernel.MS_BIND)
    _kernel.pivot_root(folder)
    _kernel.mount("", "/", "", _kernel.MS_REMOUNT | _kernel.MS_BIND | _kernel.MS_RDONLY | safe)
    os.chdir(HOME)


def _show(path: str, target: str) -> None:
    """Show one file or folder in the new tree."""
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    _place(path, target)
    _kernel.bind_read_only(path, target)


def _place(path: str, target: str) -> None:
    """An empty folder or file to mount on."""
    if stat.S_ISDIR(os.stat(path).st_mode):
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb"):
        pass
