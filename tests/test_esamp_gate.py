"""While a distiller knows nothing it must not push."""

from __future__ import annotations

import pytest
import torch

from ttscale.errors import InvalidInput
from ttscale.esamp.groups import Groups, Row
from ttscale.esamp.settings import DISTILLERS, ESamp

CPU = torch.device("cpu")
HIDDEN = 16
BETA = 0.5


def pushes(
    steps: int, gated: bool, target: str = "constant", distiller: str = "ridge"
) -> list[float]:
    """Strength of the push in each step of one group with 8 rows; hL is fixed, or noise."""
    groups = Groups(HIDDEN, CPU, head=lambda: torch.eye(HIDDEN))
    key = groups.join("a", "one", ESamp(distiller=distiller))
    rows = [Row(place, key, BETA, "mix", True, gated) for place in range(8)]
    found = []
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        h1 = torch.randn(8, HIDDEN, generator=draw)
        hL = (
            torch.ones(8, HIDDEN)
            if target == "constant"
            else torch.randn(8, HIDDEN, generator=draw)
        )
        plan = groups.plan(rows)
        _, (pending,) = groups.mix(plan, h1, hL)
        found.append(float(pending.strength.mean()))
        groups.learn(plan, [pending])
    return found


@pytest.mark.parametrize("distiller", DISTILLERS)
def test_the_first_step_is_not_pushed(distiller: str) -> None:
    """Before it has been right about anything a gated group samples plainly."""
    assert pushes(1, gated=True, distiller=distiller) == [0.0]


def test_the_push_is_full_once_the_error_is_small() -> None:
    """A mapping that can be learned opens the gate within a few steps, and it stays open."""
    found = pushes(12, gated=True)

    assert found == sorted(found)
    assert found[-1] == pytest.approx(BETA)


def test_noise_is_never_pushed_against() -> None:
    """Where nothing can be predicted the error stays near 1, and the push near nothing."""
    found = pushes(40, gated=True, target="noise")

    assert max(found) < 0.25 * BETA


def test_without_the_gate_every_step_is_pushed() -> None:
    """The paper's behaviour, for ablations."""
    assert pushes(3, gated=False) == [BETA] * 3


def test_rows_are_counted_as_mixed_only_when_they_are_pushed() -> None:
    """The report does not claim rows that the gate held back."""
    groups = Groups(HIDDEN, CPU)
    key = groups.join("a", "one", ESamp())
    plan = groups.plan([Row(0, key, BETA, "mix", True, True)])
    groups.learn(plan, groups.mix(plan, torch.ones(1, HIDDEN), torch.ones(1, HIDDEN))[1])
    report = groups.report("one")

    assert report is not None
    assert (report.rows_mixed, report.steps_trained) == (0, 1)


def test_the_gate_is_a_flag_also_over_http() -> None:
    """1 and 0 stand for true and false; anything else is refused with what is allowed."""
    assert ESamp.from_keys({"esamp_gate": 0}) == ESamp(gate=False)
    assert ESamp(gate=False).to_keys()["esamp_gate"] == 0
    with pytest.raises(InvalidInput, match=r"esamp_gate must be true or false, 1 or 0; got 'no'"):
        ESamp.from_keys({"esamp_gate": "no"})
