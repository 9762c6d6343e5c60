"""What the Linux kernel offers to shut a process in, through ctypes.

Standard library alone: this runs in a bare interpreter, before and inside the sandbox. Every
function raises OSError when the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
_KEPT_FLAGS = 0x0F | 0x400 | 0x800 | 0x200000  # what a remount in a user namespace may not drop

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 1, 4, 38, 36
CAPABILITY_VERSION_3 = 0x20080522

# Numbers of the system calls that libc has no function for; Landlock's are the same everywhere.
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446

_READ = 1 << 2 | 1 << 3  # files and folders
_EXECUTE = 1 << 0
_ON_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *args: object) -> int:
    ctypes.set_errno(0)
    result = int(getattr(_libc, name)(*args))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def prctl(option: int, value: int, more: int = 0) -> None:
    """Set one property of this process."""
    _call("prctl", option, *map(ctypes.c_ulong, (value, more, 0, 0)))


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    _call("unshare", flags)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount; empty texts stand for NULL."""
    texts = [text.encode() or None for text in (source, target, kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), options.encode() or None)


def bind_read_only(source: str, target: str) -> None:
    """Show `source` at `target`, read-only."""
    mount(source, target, "", MS_BIND | MS_REC)
    kept = os.statvfs(target).f_flag & _KEPT_FLAGS
    extra = MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID
    mount("", target, "", kept | extra)


def pivot_root(folder: str) -> None:
    """Make `folder` the root, and let go of the old one."""
    os.chdir(folder)
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"pivot_root is not known on {os.uname().machine}")
    _call("syscall", number, b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability, and the way to new ones."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    _call("capset", header, bytes(24))
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def landlock_version() -> int:
    """Version of Landlock, 0 when the kernel has none."""
    try:
        return _call("syscall", _LANDLOCK_CREATE, None, 0, 1)
    except OSError:
        return 0


def restrict_files(readable: Sequence[str], writable: Sequence[str]) -> int:
    """Refuse all files but these for good, TCP, and signals to processes outside (Landlock).

    Args:
        readable: Files and folders that may be read, and executed, with all in them.
        writable: Files and folders that may be read and written, with all in them.

    Returns:
        The version of Landlock.
    """
    version = landlock_version()
    if version == 0:
        raise OSError("the kernel has no Landlock")
    rights = _all_rights(version)
    size = 8 if version < 4 else 16 if version < 6 else 24
    attributes = struct.pack("=QQQ", rights, 3, 3)[:size]
    rules = _call("syscall", _LANDLOCK_CREATE, attributes, size, 0)
    try:
        for path in readable:
            _allow(rules, path, _READ | _EXECUTE)
        for path in writable:
            _allow(rules, path, rights & ~_EXECUTE)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        _call("syscall", _LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return version


def _all_rights(version: int) -> int:
    """Every right over files that this version of Landlock knows."""
    bits = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    return (1 << bits) - 1


def _allow(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _ON_FILES & _all_rights(landlock_version())
        _call("syscall", _LANDLOCK_ADD, rules, 1, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)
