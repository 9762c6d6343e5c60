"""The helper process: limits, restarts, threads, forks and its end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ttscale.answers import equivalent
from ttscale.answers import judge as judge_module
from ttscale.answers.judge import Judge

SLOW = "9^{9^{9^{9}}}"


@pytest.fixture
def judge() -> Iterator[Judge]:
    """A judge of the test's own, closed after it."""
    own = Judge(limit=60.0)
    yield own
    own.close()


def _child(judge: Judge) -> int:
    assert judge._child is not None
    return judge._child.pid


def test_a_hanging_comparison_is_stopped_and_the_next_one_works(
    judge: Judge, caplog: pytest.LogCaptureFixture
) -> None:
    """A tower of powers exceeds any limit: it counts as different, and the child is replaced."""
    assert judge.same("x+1", "1+x")
    first = _child(judge)
    judge.limit = 0.5
    with caplog.at_level(logging.WARNING):
        assert not judge.same(SLOW, "3")
        assert not judge.same("8" + SLOW, "3")
    assert judge.timeouts == 2
    assert len(caplog.records) == 1
    judge.limit = 60.0
    assert judge.same("x+2", "2+x")
    assert _child(judge) != first


def test_a_formula_that_hangs_is_not_tried_again(judge: Judge) -> None:
    """A bomb among the votes costs one limit, not one per pair."""
    judge.limit = 0.5
    for other in ("3", "4", "5"):
        assert not judge.same(SLOW, other)
    assert judge.timeouts == 1


def test_a_child_that_died_is_replaced(judge: Judge) -> None:
    """The death of the helper between two comparisons goes unnoticed."""
    assert judge.same("x+1", "1+x")
    os.kill(_child(judge), signal.SIGKILL)
    assert judge.same("x+2", "2+x")
    assert judge.timeouts == 0


def test_threads_share_one_child(judge: Judge) -> None:
    """Comparisons from many threads get their own verdicts."""
    pairs = [(f"x+{i}", f"{i + i % 2}+x") for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: judge.same(*pair), pairs))
    assert verdicts == [i % 2 == 0 for i in range(20)]


def test_close_leaves_no_process(judge: Judge) -> None:
    """The child is gone and waited for; closing twice is harmless."""
    assert judge.same("x+1", "1+x")
    pid = _child(judge)
    judge.close()
    judge.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os')",
        r"\input{/etc/passwd}",
        r"\write18{x}",
        "x" * 301,
        "$x$",
        "1011_2",
        "a=b=3",
        "x\ny",
    ],
)
def test_only_plain_formulas_reach_the_child(judge: Judge, formula: str) -> None:
    """Unknown commands, long formulas and foreign characters are refused before a child starts."""
    assert not judge.same(formula, "3")
    assert judge._child is None


def test_nothing_is_equal_when_no_child_can_start(
    judge: Judge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its helper the judge says no, once warns, and does not try again."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert not judge.same("x+1", "1+x")
    assert not judge.same("x+2", "2+x")
    assert len(caplog.records) == 1


def test_an_interrupt_while_waiting_cannot_mix_up_replies(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C the late reply is thrown away with the child that would write it."""
    assert judge.same("x+1", "1+x")

    def interrupted(*_: object) -> tuple[bytes, bool]:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(judge_module, "_exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            judge.same("x+2", "2+x")
    assert judge._child is None
    assert judge.same("x+3", "3+x")


def _compare_in_fork(queue: multiprocessing.Queue[bool]) -> None:
    queue.put(equivalent("x+5", "5+x") and not equivalent("x+5", "6+x"))


def test_a_forked_process_has_a_judge_of_its_own() -> None:
    """Parent and fork do not talk over the same pipe."""
    assert equivalent("x+4", "4+x")
    before = _child(judge_module.shared())
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[bool] = context.Queue()
    process = context.Process(target=_compare_in_fork, args=(queue,))
    process.start()
    assert queue.get(timeout=120)
    process.join(timeout=30)
    assert process.exitcode == 0
    assert equivalent("x+6", "6+x")
    assert _child(judge_module.shared()) == before


def test_the_child_ends_with_its_parent_and_loads_no_local_file(tmp_path: Path) -> None:
    """A file in the working folder shadows no module, and no helper outlives the interpreter."""
    (tmp_path / "sympy.py").write_text("open('shadowed', 'w')")
    code = (
        "from ttscale.answers import equivalent; from ttscale.answers.judge import shared; "
        "assert equivalent('x+1', '1+x'); print(shared()._child.pid)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert not (tmp_path / "shadowed").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
