"""`ttscale verify` on the vLLM that is installed here: the command itself, once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from ttscale.worker.promises import Finding
from ttscale.worker.verify import checked

pytestmark = pytest.mark.engine
PROMISES = [
    "fused logits are equation 7",
    "the relative error falls",
    "plain requests are untouched",
    "beta 0 is plain sampling",
    "one distiller a request",
    "crowding loses nothing",
    "faults fall back",
]


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What `ttscale verify --json` says."""
    done = subprocess.run(
        [sys.executable, "-m", "ttscale.cli", "verify", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[-1])
    found["exit_code"] = done.returncode
    return found


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_is_kept(report: dict[str, Any], promise: str) -> None:
    """Every check passes, with figures."""
    found = {one["promise"]: one for one in report["promises"]}

    assert found[promise]["passed"], found[promise]["figures"]
    assert found[promise]["figures"]


def test_nothing_else_is_promised_or_left_out(report: dict[str, Any]) -> None:
    """The report holds these promises and the methods that are wrapped; the command exits 0."""
    assert [one["promise"] for one in report["promises"]] == PROMISES
    assert "Worker.execute_model" in report["wrapped"]
    assert report["exit_code"] == 0


def test_after_a_crash_nothing_else_is_run_on_the_engine() -> None:
    """An engine whose step broke off would wait for ever; what was not run is told as failed."""
    ran = []

    def fine(bench: str) -> Finding:
        ran.append(bench)
        return Finding("fine", True)

    def crashing(_: str) -> Finding:
        raise ValueError("broken")

    found = list(checked([fine, crashing, fine], "bench"))
    assert [one.passed for one in found] == [True, False, False]
    assert "ValueError: broken" in found[1].figures["error"]
    assert "not run" in found[2].figures["error"]
    assert ran == ["bench"]
