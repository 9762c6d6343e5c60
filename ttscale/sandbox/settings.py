"""What a sandboxed program may use, and what isolation it had."""

from __future__ import annotations

from dataclasses import dataclass

from ttscale import _check
from ttscale.sandbox._built import GUARANTEES, Built, guarantees

LEVELS = ("limits", "full")
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: From its start to its end, in (0, 3600]; processor time is bounded as well.
        memory: Bytes of address space, the interpreter's own 50 MB included; at least 64 MiB.
        disk: Bytes that it may write, all in its own folder, which is memory as well.
        output: Bytes that are kept of each of its two outputs; more ends it.
        threads: Threads at the same time, where the machine can count them.

    Raises:
        InvalidInput: A limit is outside its legal range.
    """

    seconds: float = 10.0
    memory: int = 512 * MEBIBYTE
    disk: int = 16 * MEBIBYTE
    output: int = 64 * 1024
    threads: int = 32

    def __post_init__(self) -> None:
        _check.number("seconds", self.seconds, 0, 3600, open_low=True)
        _check.integer("memory", self.memory, 64 * MEBIBYTE)
        _check.integer("disk", self.disk, 64 * 1024)
        _check.integer("output", self.output, 1)
        _check.integer("threads", self.threads, 1)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What kept a program in.

    Attributes:
        namespaces: Namespaces of its own: `pid` (it sees no other process), `net` (no network
            interface), `mount`, `ipc`, `uts`, and `user` where the others needed it.
        own_tree: Whether it saw a file tree of its own: Python, read-only, and one small folder.
        landlock: Version of Landlock that held its files; 0 for none.
        seccomp: Whether system calls were filtered: no new process, no socket, no tracing.
        own_user: Whether it ran as a user of its own; only root can arrange that.
        limits: What was bounded.
    """

    namespaces: tuple[str, ...] = ()
    own_tree: bool = False
    landlock: int = 0
    seccomp: bool = False
    own_user: bool = False
    limits: tuple[str, ...] = ()

    @classmethod
    def of(cls, built: Built) -> Isolation:
        """From what the sandbox reports."""
        return cls(
            tuple(built["namespaces"]),
            built["own_tree"],
            built["landlock"],
            built["seccomp"],
            built["own_user"],
            tuple(built["limits"]),
        )

    @property
    def guarantees(self) -> tuple[str, ...]:
        """What holds, of `limits` (memory, processor time, file size), `processes` (none left, none
        disturbed), `network` (none) and `files` (others' neither written nor, but for Python's
        own, read)."""
        built: Built = {
            "namespaces": list(self.namespaces),
            "own_tree": self.own_tree,
            "landlock": self.landlock,
            "seccomp": self.seccomp,
            "own_user": self.own_user,
            "limits": list(self.limits),
        }
        return tuple(guarantees(built))

    @property
    def level(self) -> str:
        """`full` when all guarantees hold, `limits` when some are missing."""
        return "full" if set(self.guarantees) == set(GUARANTEES) else "limits"

    def __str__(self) -> str:
        parts = [
            f"namespaces {' '.join(self.namespaces)}" if self.namespaces else "no namespaces",
            "own file tree" if self.own_tree else "no file tree of its own",
            f"Landlock {self.landlock}" if self.landlock else "no Landlock",
            "seccomp" if self.seccomp else "no seccomp",
            "own user" if self.own_user else "the caller's user",
        ]
        return f"{self.level}: {', '.join(parts)}; holds: {', '.join(self.guarantees) or 'nothing'}"
