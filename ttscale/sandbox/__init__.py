"""A sandbox for Python that a model wrote: other processes, shut in by the kernel.

What the kernel offers is taken, and told (`Isolation`): namespaces with a file tree of their own,
Landlock, seccomp, resource limits. It works as root and without privileges; `require="full"`, the
default, refuses to run where network, files and processes cannot be closed off.

Tests of a program run in a process of their own, in a second sandbox. The two talk in plain data,
so a program cannot end, change or imitate what judges it.

It is no virtual machine: a fault of the kernel is a way out of it, and programs can measure time.
"""

from ttscale.sandbox.results import REASONS, Run, Verdict
from ttscale.sandbox.runs import isolation, run_program, run_tests
from ttscale.sandbox.settings import LEVELS, Isolation, Limits

__all__ = [
    "LEVELS",
    "REASONS",
    "Isolation",
    "Limits",
    "Run",
    "Verdict",
    "isolation",
    "run_program",
    "run_tests",
]
