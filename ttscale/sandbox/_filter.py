"""A seccomp filter: which system calls a program in the sandbox may not make.

What a program for the interpreter has no need of is refused: new processes, other programs,
sockets, signals to others, tracing, mounts, namespaces, kernel objects outside of its limits. It is
a list of what is refused, so that a new version of Python or libc still runs; the namespaces and
Landlock hold what the list misses. Numbers are those of the kernel's tables for two machines.
"""

from __future__ import annotations

import ctypes
import os
import struct

from ttscale.sandbox import _kernel

_EPERM, _ENOSYS = 1, 38
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ARCH_AT, _NUMBER_AT, _FIRST_ARGUMENT_AT = 4, 0, 16
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
# The first argument must be the process itself: kill, tgkill; for prlimit64 also 0.
_OWN_PROCESS = {"x86_64": (62, 234, 302), "aarch64": (129, 131, 261)}
_SAME_EVERYWHERE = (
    424,  # pidfd_send_signal
    425, 426, 427,  # io_uring_setup, _enter, _register
    428, 429, 430, 431, 432, 433,  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick
    434, 438, 440,  # pidfd_open, pidfd_getfd, process_madvise
    442, 447, 448,  # mount_setattr, memfd_secret, process_mrelease
)  # fmt: skip
_REFUSED = {
    "x86_64": (
        57, 58, 59, 322,  # fork, vfork, execve, execveat
        41, 42, 43, 49, 50, 288,  # socket, connect, accept, bind, listen, accept4
        200, 129, 297,  # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
        101, 310, 311, 312,  # ptrace, process_vm_readv, process_vm_writev, kcmp
        155, 161, 165, 166, 272, 308,  # pivot_root, chroot, mount, umount2, unshare, setns
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71,  # shared memory, semaphores, queues (System V)
        240, 241, 319,  # mq_open, mq_unlink, memfd_create
        248, 249, 250, 298, 321, 323,  # add_key, request_key, keyctl, perf_event_open, bpf, uffd
        303, 304, 134, 135, 136,  # handles of files, uselib, personality, ustat
        163, 167, 168, 169, 170, 171, 172, 173, 175, 176, 246, 313, 320,  # the machine itself
        105, 106, 113, 114, 116, 117, 119, 122, 123, 126,  # identities
        141, 142, 144, 203, 237, 238, 239, 256, 279,  # priority, scheduling, memory of others
    ),
    "aarch64": (
        221, 281,  # execve, execveat
        198, 200, 201, 202, 203, 242,  # socket, bind, listen, accept, connect, accept4
        130, 138, 240,  # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
        117, 270, 271, 272,  # ptrace, process_vm_readv, process_vm_writev, kcmp
        39, 40, 41, 51, 97, 268,  # umount2, mount, pivot_root, chroot, unshare, setns
        186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197,  # System V
        180, 181, 279,  # mq_open, mq_unlink, memfd_create
        217, 218, 219, 241, 280, 282,  # add_key, request_key, keyctl, perf_event_open, bpf, uffd
        264, 265, 92,  # handles of files, personality
        89, 104, 105, 106, 112, 142, 161, 162, 170, 171, 224, 225, 266, 273, 294,  # the machine
        143, 144, 145, 146, 147, 149, 151, 152, 159,  # identities
        118, 119, 122, 140, 235, 236, 237, 238, 239,  # scheduling, priority, memory of others
    ),
}  # fmt: skip
# Changes to files that Landlock does not know of; refused where the program has no tree of its own.
_METADATA = {
    "x86_64": (
        90, 91, 92, 93, 94, 260, 268,  # chmod, fchmod, chown, fchown, lchown, fchownat, fchmodat
        188, 189, 190, 197, 198, 199,  # setxattr, lsetxattr, fsetxattr, and to remove them
        132, 235, 261, 280,  # utime, utimes, futimesat, utimensat
    ),
    "aarch64": (
        52, 53, 54, 55,  # fchmod, fchmodat, fchownat, fchown
        5, 6, 7, 14, 15, 16,  # setxattr, lsetxattr, fsetxattr, and to remove them
        88,  # utimensat
    ),
}  # fmt: skip
_NEW_METADATA = (452, 463, 466, 469)  # fchmodat2, setxattrat, removexattrat, file_setattr


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int, error: int = _EPERM) -> bytes:
    return _instruction(_EQUAL, number, 0, 1) + _instruction(_RETURN, _ERRNO | error)


def _only_with(number: int, test: int, operands: tuple[int, ...]) -> bytes:
    """Allow `number` when its first argument passes the test with one of the operands."""
    tests = b"".join(
        _instruction(test, operand, 0, 1) + _instruction(_RETURN, _ALLOW) for operand in operands
    )
    body = _instruction(_LOAD, _FIRST_ARGUMENT_AT) + tests
    body += _instruction(_RETURN, _ERRNO | _EPERM)
    return _instruction(_EQUAL, number, 0, len(body) // 8) + body


def program(machine: str, process: int, *, own_tree: bool) -> bytes:
    """The filter for process number `process`, as the kernel's instructions.

    Args:
        machine: As `uname -m` tells it.
        process: Number of the process that is filtered, in its own namespace.
        own_tree: Whether no file of others can be seen, so that owners and times may be changed.

    Raises:
        OSError: The numbers of this machine are not known.
    """
    if machine not in _ARCHITECTURES:
        raise OSError(f"no list of system calls for {machine}")
    kill, tgkill, prlimit = _OWN_PROCESS[machine]
    refused = _REFUSED[machine] + _SAME_EVERYWHERE
    if not own_tree:
        refused += _METADATA[machine] + _NEW_METADATA
    parts = [
        _instruction(_LOAD, _ARCH_AT),
        _instruction(_EQUAL, _ARCHITECTURES[machine], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_AT_LEAST, _X32, 0, 1),
        _instruction(_RETURN, _ERRNO | _EPERM),
        _only_with(_CLONE[machine], _ANY_BIT, (_CLONE_THREAD,)),
        _refuse(_CLONE3, _ENOSYS),  # libc then takes clone, whose flags can be seen
        _only_with(kill, _EQUAL, (process,)),
        _only_with(tgkill, _EQUAL, (process,)),
        _only_with(prlimit, _EQUAL, (0, process)),
        *map(_refuse, refused),
        _instruction(_RETURN, _ALLOW),
    ]
    return b"".join(parts)


def install(*, own_tree: bool) -> None:
    """Put the filter on this process, for good; see `program`."""
    code = program(os.uname().machine, os.getpid(), own_tree=own_tree)
    kept = ctypes.create_string_buffer(code, len(code))
    pad = struct.calcsize("@P") - 2
    header = struct.pack(f"=H{pad}xQ", len(code) // 8, ctypes.addressof(kept))
    held = ctypes.create_string_buffer(header, len(header))
    _kernel.prctl(_kernel.PR_SET_NO_NEW_PRIVS, 1)
    _kernel.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(held))
