"""Model Runner V2, end to end on the real vLLM: see v2_runner.py, which runs once for all tests."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.engine,
    pytest.mark.own_engine,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton has no wheel for this machine"),
]
SCRIPT = Path(__file__).with_name("v2_runner.py")


@pytest.fixture(scope="module")
def found(tiny_llama: Path) -> dict[str, Any]:
    """What every check of the script found."""
    command = [sys.executable, str(SCRIPT), str(tiny_llama)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the script failed:\n{done.stderr[-4000:]}")
    checks: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return checks


def test_the_engine_runs_v2_with_the_plugin(found: dict[str, Any]) -> None:
    """Else all the tests below would test V1."""
    assert found["which_runner"] == {"wrapped": True}


def test_beta_zero_is_plain(found: dict[str, Any]) -> None:
    """Greedy and seeded tokens are those without ESamp; a strong push does change them."""
    tokens = found["beta_zero"]

    assert tokens["plain"] == tokens["zero"] != tokens["pushed"]
    assert tokens["seeded"][0] == tokens["seeded"][1]


def test_every_decode_row_is_mixed_and_every_step_trains(found: dict[str, Any]) -> None:
    """Four samples of eight tokens: the first token is the prompt's, seven are decoded."""
    counted = found["counting"]

    assert (counted["rows_mixed"], counted["steps_trained"]) == (4 * 7, 7)
    assert counted["fallbacks"] == 0
    assert counted["relative_error"] is not None


def test_plain_rows_of_a_mixed_batch_are_untouched(found: dict[str, Any]) -> None:
    """Rows come and go and move in every step; the plain one keeps its tokens."""
    assert found["one_batch"]["among"] == found["one_batch"]["plain"]


def test_a_filter_is_taken_on_the_reference(found: dict[str, Any]) -> None:
    """With top-k 1 the push, which does change tokens, changes none."""
    tokens = found["filtering"]

    assert tokens["filtered"] == [tokens["plain"]] * 2


def test_the_first_token_alone_is_heated(found: dict[str, Any]) -> None:
    """A nearly frozen first token is the greedy one, and the samples part after it."""
    tokens = found["heating"]

    assert {sample[0] for sample in tokens["samples"]} == {tokens["first"]}
    assert len({tuple(sample) for sample in tokens["samples"]}) > 1


def test_a_grammar_wins_over_the_push(found: dict[str, Any]) -> None:
    """Structured output stays within its choices, filtered or not."""
    texts = found["grammar"]["texts"]

    assert len(texts) == 4
    assert set(texts) <= {"red", "blue"}


def test_preemption_loses_nothing(found: dict[str, Any]) -> None:
    """Samples that are evicted and replayed finish; their group ends with its last one."""
    crowd = found["crowding"]

    assert crowd["preemptions"] > 0
    assert crowd["lengths"] == [24] * 6
    assert (crowd["fallbacks"], crowd["live"], crowd["bytes"]) == (0, 0, 0)


def test_requests_share_a_distiller_when_they_name_a_group(found: dict[str, Any]) -> None:
    """Two samples of a request share one; three requests have three, or one by name."""
    assert found["sharing"] == {"apart": 3, "named": 1}


def test_the_promises_of_verify_hold(found: dict[str, Any]) -> None:
    """Equation 7, and how faults fall back: the checks that V1 has to pass."""
    assert {name: told[0] for name, told in found["promises"].items()} == {
        "fused logits are equation 7": True,
        "faults fall back": True,
    }, found["promises"]


def test_what_v2_alone_can_configure_is_refused(found: dict[str, Any]) -> None:
    """Sampling that is sharded over ranks, and drafts, are refused with the reason."""
    assert found["refusals"] == {
        "plain": None,
        "batch_sharded": "batch-sharded sampling is on; start the engine without it",
        "speculative": "speculative decoding is on; start the engine without it",
    }
