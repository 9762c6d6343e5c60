"""What runs in the sandbox's own interpreter: shuts itself in step by step, then runs a program.

Three processes, each forked from the one before:

    keeper   outside of the namespaces; ends all when the host is gone or the time is up
    first    number 1 of the new namespaces; builds the file tree, waits, tells how it ended
    guest    without privileges, limited, under Landlock and seccomp; runs the program

Standard library alone, and no site: the interpreter is started with `-I -S`. What is told to the
host are lines of JSON on the status pipe, which is closed before the program runs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import resource
import select
import signal
import sys
import time

from ttscale.sandbox import _filter, _guest, _kernel, _tree
from ttscale.sandbox._built import Built, Job, guarantees, nothing_built

NOBODY = 65534
FIRST_OWN_USER, LAST_OWN_USER = 0x20000000, 0x2FFFFFFF
INNER_USER = 1000
MAX_FILES_OPEN = 64
STACK = 8 * 1024 * 1024
REFUSED = 120  # exit status of a guest that was not let in


def main() -> int:
    """The keeper."""
    job: Job = json.loads(_line(0))
    if job["role"] == "tests":  # loaded while its files can be reached; other roles do without
        importlib.import_module("ttscale.sandbox._tester")
    built = nothing_built()
    with contextlib.suppress(OSError):
        _kernel.prctl(_kernel.PR_SET_CHILD_SUBREAPER, 1)
    if "namespaces" not in job["without"]:
        _leave_processes(built)
    child = os.fork()
    if child == 0:
        os._exit(_first(job, built))
    _close_pipes(job, job["status"])
    _keep(child, job["seconds"])
    return 0


def _line(source: int) -> bytes:
    """One line, and nothing of what follows it."""
    line = b""
    while not line.endswith(b"\n"):
        chunk = os.read(source, 65536)
        if not chunk:
            raise SystemExit("no job")
        line += chunk
    return line


def _leave_processes(built: Built) -> None:
    """Let children be in a new process namespace, if need be inside a new user namespace."""
    user, group = os.geteuid(), os.getegid()
    try:
        _kernel.unshare(_kernel.CLONE_NEWPID)
        built["namespaces"].append("pid")
        return
    except OSError:
        pass  # no privileges: a user namespace gives them, over what is in it
    try:
        _kernel.unshare(_kernel.CLONE_NEWUSER | _kernel.CLONE_NEWPID)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{INNER_USER} {user} 1")
        _write("/proc/self/gid_map", f"{INNER_USER} {group} 1")
        built["namespaces"] += ["user", "pid"]
    except OSError:
        return  # none to be had here; the report says so


def _close_pipes(job: Job, *more: int) -> None:
    """Let go of the guest's pipes, so that their end is seen when the guest has ended."""
    for pipe in (job["inward"], job["outward"], job["verdict"], 1, 2, *more):
        if pipe >= 0:
            os.close(pipe)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _keep(child: int, seconds: float) -> None:
    """Wait until the child ends, the host is gone, or the time is up; leave nothing running."""
    watch = select.poll()
    watch.register(0, select.POLLHUP | select.POLLIN)  # held open by the host while it lives
    ended = os.pidfd_open(child)
    watch.register(ended, select.POLLIN)
    watch.poll(seconds * 1000)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:  # orphans come here, so none is left when there is no child any more
            for orphan in _children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
            os.waitpid(-1, 0)


def _children() -> list[int]:
    """Numbers of this process's children."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as file:
            return [int(number) for number in file.read().split()]
    except OSError:
        return []


def _first(job: Job, built: Built) -> int:
    """Process 1: build the tree, start the guest, wait for it."""
    _kernel.prctl(_kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if "pid" not in built["namespaces"] and os.getppid() == 1:
        return 1  # the keeper ended before the line above
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    if built["namespaces"]:
        _leave_the_rest(job, built)
    guest = os.fork()
    if guest == 0:
        try:
            code = _guest_main(job, built)
        except SystemExit:
            raise  # the program's own end, with all that Python does then
        except BaseException as error:  # noqa: BLE001 - the host is told whatever it is
            sys.stderr.write(f"the sandbox could not be built: {error!r}\n")
            code = REFUSED
        sys.stdout.flush()
        os._exit(code)
    _close_pipes(job)
    status = _wait_for(guest)
    _tell(job["status"], {"ended": os.waitstatus_to_exitcode(status)})
    return 0


def _wait_for(guest: int) -> int:
    while True:
        found, status = os.wait()
        if found == guest:
            return status


def _leave_the_rest(job: Job, built: Built) -> None:
    """New namespaces for network, mounts and the rest, and a file tree of its own."""
    for name, flag in (
        ("net", _kernel.CLONE_NEWNET),
        ("ipc", _kernel.CLONE_NEWIPC),
        ("uts", _kernel.CLONE_NEWUTS),
    ):
        with contextlib.suppress(OSError):
            _kernel.unshare(flag)
            built["namespaces"].append(name)
    try:
        _kernel.unshare(_kernel.CLONE_NEWNS)
        built["namespaces"].append("mount")
        _tree.build(job["folder"], job["readable"], job["disk"])
        built["own_tree"] = True
    except OSError:
        return  # Landlock may hold instead; the report says what there is


def _guest_main(job: Job, built: Built) -> int:
    """The guest: give up everything, tell what was built, and run the program if that is enough."""
    status = job["status"]
    os.setsid()
    _set_limits(job, built)
    _become_nobody(built)
    _kernel.drop_capabilities()
    _kernel.prctl(_kernel.PR_SET_DUMPABLE, 0)
    _close_all_but(job)
    _prepare(job)
    _confine(job, built)
    missing = [name for name in job["demands"] if name not in guarantees(built)]
    _tell(status, {"isolation": built, "missing": missing})
    os.close(status)
    if missing:
        return REFUSED
    if job["role"] == "tests":
        from ttscale.sandbox import _tester

        return _tester.run(job)
    return _guest.serve(job) if job["role"] == "serve" else _guest.execute(job)


def _set_limits(job: Job, built: Built) -> None:
    """Bound what can be bounded; what a limit refuses here is refused for good."""
    cpu = max(1, int(job["seconds"]) + 1)
    wanted = {
        "memory": (resource.RLIMIT_AS, job["memory"]),
        "cpu": (resource.RLIMIT_CPU, cpu),
        "file size": (resource.RLIMIT_FSIZE, job["disk"]),
        "open files": (resource.RLIMIT_NOFILE, MAX_FILES_OPEN),
        "core": (resource.RLIMIT_CORE, 0),
        "stack": (resource.RLIMIT_STACK, STACK),
        "queues": (resource.RLIMIT_MSGQUEUE, 0),
        "locked memory": (resource.RLIMIT_MEMLOCK, 0),
    }
    if "pid" in built["namespaces"]:  # elsewhere it counts what the user runs outside as well
        wanted["threads"] = (resource.RLIMIT_NPROC, job["threads"])
    for name, (limit, value) in wanted.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
            built["limits"].append(name)


def _become_nobody(built: Built) -> None:
    """As root, become a user that nobody else is; limits on threads hold for users only."""
    if os.getuid() != 0:
        return
    dice = random.SystemRandom()
    for user in (dice.randint(FIRST_OWN_USER, LAST_OWN_USER), NOBODY):
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        except OSError:
            continue  # not every container maps every number
        built["own_user"] = True
        return


def _close_all_but(job: Job) -> None:
    """Close every file but the standard ones and the job's pipes."""
    kept = sorted({0, 1, 2, job["status"], job["inward"], job["outward"], job["verdict"]} - {-1})
    for low, high in zip(kept, [*kept[1:], MAX_FILES_OPEN * 1024], strict=True):
        os.closerange(low + 1, high)


def _prepare(job: Job) -> None:
    """What must be done while files can still be reached."""
    if job["role"] == "program":
        text = os.memfd_create("stdin")
        os.write(text, job["stdin"].encode())
        os.lseek(text, 0, os.SEEK_SET)
        os.dup2(text, 0)
        os.close(text)
    os.environ.clear()
    os.environ.update({"HOME": _tree.HOME, "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"})
    sys.path[:] = job["paths"]
    sys.argv = ["program.py"]
    time.tzset()


def _confine(job: Job, built: Built) -> None:
    """Landlock and seccomp, last, since they forbid what came before."""
    if "landlock" not in job["without"]:
        with contextlib.suppress(OSError):
            built["landlock"] = _restrict(job, own_tree=built["own_tree"])
    if "seccomp" not in job["without"]:
        with contextlib.suppress(OSError):
            _filter.install(own_tree=built["own_tree"])
            built["seccomp"] = True


def _restrict(job: Job, *, own_tree: bool) -> int:
    """In a tree of its own the home is writable; otherwise nothing is."""
    if own_tree:
        return _kernel.restrict_files(["/"], [_tree.HOME, *_tree.DEVICES])
    readable = [path for path in job["readable"] if os.path.exists(path)]
    return _kernel.restrict_files(readable, _tree.DEVICES)


def _tell(pipe: int, message: object) -> None:
    with contextlib.suppress(OSError):
        os.write(pipe, json.dumps(message).encode() + b"\n")
