"""Where rows stand in a batch is no matter: short cuts for rows in order change no number."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ttscale.esamp.groups import GroupKey, Groups, Row
from ttscale.esamp.settings import DISTILLERS, LATENT_DISTILLERS, ESamp
from ttscale.types import ESampReport

CPU = torch.device("cpu")
HIDDEN = 16
STEPS = 6
IN_ORDER = [(group, row) for group in range(3) for row in range(4)]
INTERLEAVED = [(group, row) for row in reversed(range(4)) for group in (1, 0, 2)]


def run(
    places: Sequence[tuple[int, int]], distiller: str, *, ahead: int = 0, noise: bool = False
) -> tuple[dict[tuple[int, int], Tensor], list[ESampReport | None]]:
    """Sample three groups of four rows; (group, row) has the same states wherever it stands.

    Args:
        places: Who is in each row of the batch.
        distiller: Its kind.
        ahead: How many plain rows come first.
        noise: Whether a fourth group asks for noise beside them.

    Returns:
        The mixed states of the last step, and what each group reports.
    """
    groups = Groups(HIDDEN, CPU)
    asks = ESamp(distiller=distiller)
    keys: list[GroupKey] = [groups.join(str(k), f"g{k}", asks) for k in range(3)]
    rows = [
        Row(ahead + k, keys[group], 0.5, "mix", True, group == 1)
        for k, (group, _) in enumerate(places)
    ]
    if noise:
        fourth = groups.join("n", "noise", asks)
        rows.append(Row(ahead + len(rows), fourth, 0.5, "noise", True, False))
    plan = groups.plan(rows)
    after = torch.empty(0)
    for step in range(STEPS):
        draw = torch.Generator().manual_seed(step)
        known = {place: torch.randn(2, HIDDEN, generator=draw) for place in IN_ORDER}
        both = [torch.ones(2, HIDDEN)] * ahead + [known[place] for place in places]
        both += [torch.ones(2, HIDDEN)] * noise
        h1, hL = torch.stack(both).unbind(1)
        mixed, pending = groups.mix(plan, h1, hL)
        groups.learn(plan, pending)
        after = hL.clone()
        for batch, found in mixed:
            after[batch] = found
    states = {place: after[ahead + k] for k, place in enumerate(places)}
    return states, [groups.report(f"g{k}") for k in range(3)]


@pytest.mark.parametrize("distiller", LATENT_DISTILLERS)
@pytest.mark.parametrize(
    ("places", "ahead", "noise"),
    [(INTERLEAVED, 0, False), (IN_ORDER, 2, False), (IN_ORDER, 0, True), (INTERLEAVED, 1, True)],
    ids=["interleaved", "behind plain rows", "beside noise", "all of it"],
)
def test_the_place_of_a_row_changes_nothing(
    places: list[tuple[int, int]], ahead: int, noise: bool, distiller: str
) -> None:
    """Rows in any order, behind plain ones and beside other fusions are mixed and counted alike."""
    expected, told = run(IN_ORDER, distiller)
    found, reports = run(places, distiller, ahead=ahead, noise=noise)

    for place, state in expected.items():
        assert torch.allclose(found[place], state, atol=1e-5)
    for report, one in zip(reports, told, strict=True):
        assert report is not None
        assert one is not None
        assert (report.rows_mixed, report.steps_trained) == (one.rows_mixed, one.steps_trained)
        assert report.relative_error == pytest.approx(one.relative_error, abs=1e-5)


@pytest.mark.parametrize("distiller", DISTILLERS)
def test_padding_is_no_part_of_a_groups_error(distiller: str) -> None:
    """A group of one row beside one of four reports what it reports alone."""
    told = []
    for others in (0, 4):
        groups = Groups(HIDDEN, CPU, head=lambda: torch.eye(HIDDEN))
        asks = ESamp(distiller=distiller)
        keys = [groups.join(str(k), f"g{min(k, 1)}", asks) for k in range(1 + others)]
        plan = groups.plan([Row(k, key, 0.5, "mix", True) for k, key in enumerate(keys)])
        for step in range(STEPS):
            draw = torch.Generator().manual_seed(step)
            h1, hL = torch.randn(5, 2, HIDDEN, generator=draw)[: len(keys)].unbind(1)
            groups.learn(plan, groups.mix(plan, h1, hL)[1])
        told.append(groups.report("g0"))

    alone, beside = told
    assert alone is not None
    assert beside is not None
    assert beside.relative_error == pytest.approx(alone.relative_error, abs=1e-5)


def test_the_places_are_told_apart() -> None:
    """What the test above compares differs from row to row."""
    states, _ = run(IN_ORDER, "ridge")

    assert len({tuple(state.tolist()) for state in states.values()}) == len(IN_ORDER)


@pytest.mark.parametrize("distiller", LATENT_DISTILLERS)
def test_a_row_that_does_not_train_is_pushed_like_the_others(distiller: str) -> None:
    """A resumed request's replay is not learned from, and still predicted like any other row."""
    mixed = []
    for trains in (True, False):
        groups = Groups(HIDDEN, CPU)
        key = groups.join("a", "one", ESamp(distiller=distiller))
        h1, hL = torch.randn(2, 4, HIDDEN, generator=torch.Generator().manual_seed(0)).unbind()
        first = groups.plan([Row(k, key, 0.5, "mix", True) for k in range(4)])
        groups.learn(first, groups.mix(first, h1, hL)[1])
        resumed = groups.plan([Row(k, key, 0.5, "mix", trains or k != 2) for k in range(4)])
        mixed.append(groups.mix(resumed, h1, hL)[0][0][1])

    assert torch.equal(*mixed)
