"""The arithmetic of benchmarks/peers.py, without an engine and without the peers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ttscale.evaluation import Problem

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "peers.py"
PAGE = """\
# HELP vllm:generation_tokens_total Number of generation tokens.
vllm:generation_tokens_total{engine="0"} 1.5e+02
vllm:generation_tokens_created{engine="0"} 9.0
vllm:request_success_total{finished_reason="stop"} 3.0
vllm:request_success_total{finished_reason="length"} 4.0
http_requests_total{handler="/v1/chat/completions",status="2xx"} 5.0
http_requests_total{handler="/metrics",status="2xx"} 70.0
"""


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    """The script as a module."""
    sys.path.insert(0, str(SCRIPT.parent))  # as when it is run
    spec = importlib.util.spec_from_file_location("peers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = script  # dataclasses look their module up
    spec.loader.exec_module(script)
    return script


def one(text: str | None, seconds: float = 1.0, error: str = "", returned: int = 4) -> Any:
    """What a runner writes of one question."""
    return {"text": text, "returned": returned, "seconds": seconds, "error": error}


def test_counters_are_summed_over_labels_without_our_own_requests(peers: ModuleType) -> None:
    """Reading /metrics is no request of a contender's, and `_created` is no count."""
    found = peers.counters(PAGE)

    assert found["completion_tokens"] == 150
    assert (found["finished"], found["cut_off"]) == (7, 4)
    assert found["http_requests"] == 5
    assert found["prompt_tokens"] == 0


def test_every_contender_is_first_once(peers: ModuleType) -> None:
    """The order rotates, and nobody is left out."""
    orders = [peers.order(["A", "B", "C"], repeat) for repeat in range(4)]

    assert ["".join(order) for order in orders] == ["ABC", "BCA", "CAB", "ABC"]


def test_all_are_graded_by_one_reader(peers: ModuleType) -> None:
    """A right text, a wrong one, one without an answer, and no text at all."""
    problems = [Problem("?", "7", str(place)) for place in range(4)]
    texts = ["3 + 4 = 7. The answer is 7.", "The answer is 8.", "I do not know", None]

    assert peers.grade([one(text) for text in texts], problems) == (1, 2)


def test_ratios_are_paired_by_repeat(peers: ModuleType) -> None:
    """Each repeat's time is divided by that of our plain vote in the same repeat."""
    report = sys.modules["peers_report"]
    counted = dict.fromkeys(peers.COUNTED, 2)
    ours = peers.CONTENDERS[0].name
    runs = [
        peers.Run(ours, 0, [one("7", 1.0)], counted, 1, 0),
        peers.Run("its_hub", 0, [one("7", 1.5)], counted, 1, 0),
        peers.Run("its_hub", 1, [one(None, 8.0, "TimeoutError: late", 0)], counted, 0, 1),
        peers.Run(ours, 1, [one("7", 4.0)], counted, 1, 0),
    ]

    assert report.ratios(runs, "its_hub", ours) == [1.5, 2.0]
    cells = report.row(runs, "its_hub", ours, 4)
    assert cells == [
        *("its_hub", "4.8 (1.5 to 8.0)", "1.75 (1.50 to 2.00)"),
        *("2", "2", "2", "2", "2", "4 of 8", "1 of 2", "1", "1"),
    ]
    assert report.errors(runs) == ["its_hub, 1 times: TimeoutError: late"]


def test_a_peer_that_does_not_install_is_told_with_the_reason(
    peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's own last words come back, and nothing is raised."""
    peer = peers.Peer("no_such_peer", "9", (("--no-index", "no-such-peer==9"),), "all of it")
    monkeypatch.setattr(peers, "PEERS", (peer,))

    pythons, told = peers.environments(tmp_path)

    assert "No matching distribution found for no-such-peer==9" in told["no_such_peer"]["trouble"]
    assert set(pythons) == {one.name for one in peers.CONTENDERS if one.peer is None}


def test_the_runner_knows_every_contender(peers: ModuleType) -> None:
    """The names that the script gives are those that the runner takes, tools not imported."""
    code = "import peers_runner, json; print(json.dumps(list(peers_runner.MADE)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True, check=True
    )

    assert set(json.loads(done.stdout)) == {one.name for one in peers.CONTENDERS}
