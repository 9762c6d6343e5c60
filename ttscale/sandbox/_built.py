"""What passes between host and sandbox: the job, and what isolation was built for it."""

from __future__ import annotations

from typing import TypedDict

MECHANISMS = ("namespaces", "landlock", "seccomp")
GUARANTEES = ("limits", "processes", "network", "files")


class Job(TypedDict):
    """What the host asks for; one line of JSON on standard input."""

    role: str
    source: str
    tests: list[str]
    entry_point: str | None
    stdin: str
    folder: str
    readable: list[str]
    paths: list[str]
    without: list[str]
    demands: list[str]
    status: int
    inward: int
    outward: int
    verdict: int
    seconds: float
    memory: int
    disk: int
    threads: int


class Built(TypedDict):
    """What isolation there is; see `ttscale.sandbox.Isolation`."""

    namespaces: list[str]
    own_tree: bool
    landlock: int
    seccomp: bool
    own_user: bool
    limits: list[str]


def nothing_built() -> Built:
    """No isolation yet."""
    return {
        "namespaces": [],
        "own_tree": False,
        "landlock": 0,
        "seccomp": False,
        "own_user": False,
        "limits": [],
    }


def guarantees(built: Built) -> list[str]:
    """What holds of `GUARANTEES`; some can be had in two ways."""
    seccomp = built["seccomp"]
    holds = {
        "limits": {"memory", "cpu", "file size"} <= set(built["limits"]),
        "processes": "pid" in built["namespaces"] or seccomp,
        "network": "net" in built["namespaces"] or seccomp,
        # Landlock alone lets owners and times of files be changed.
        "files": built["own_tree"] or (built["landlock"] > 0 and seccomp),
    }
    return [name for name in GUARANTEES if holds[name]]
