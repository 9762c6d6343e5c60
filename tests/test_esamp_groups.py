"""Groups, their lifetimes, their counters and what happens when something breaks."""

from __future__ import annotations

import pytest
import torch

from ttscale.esamp.endings import Head
from ttscale.esamp.groups import (
    EXCEPTION,
    LEDGER_SIZE,
    NO_HEAD,
    NO_ROOM,
    GroupKey,
    Groups,
    Row,
)
from ttscale.esamp.settings import DISTILLERS, ESamp

CPU = torch.device("cpu")
HIDDEN = 16


def rows_for(keys: list[GroupKey], beta: float = 0.5, fusion: str = "mix") -> list[Row]:
    """One training row for each key, in batch order."""
    return [Row(place, key, beta, fusion, True) for place, key in enumerate(keys)]


def states(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random (h1, hL) of a batch."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, HIDDEN, generator=draw), torch.randn(rows, HIDDEN, generator=draw)


def run_step(
    groups: Groups, rows: list[Row], h1: torch.Tensor, hL: torch.Tensor
) -> dict[int, torch.Tensor]:
    """One whole step; returns the mixed state of each row."""
    plan = groups.plan(rows)
    mixed, pending = groups.mix(plan, h1, hL)
    groups.learn(plan, pending)
    places = torch.arange(len(hL))
    return {
        int(index): state
        for batch, found in mixed
        for index, state in zip(places[batch], found, strict=True)
    }


def test_members_of_a_group_share_one_distiller() -> None:
    """Two requests of one name hold one distiller, another name a second one."""
    groups = Groups(HIDDEN, CPU)
    first = groups.join("a", "one", ESamp())
    assert groups.join("b", "one", ESamp()) == first
    groups.join("c", "two", ESamp())

    assert groups.live == 2


def test_the_kinds_of_one_group_are_apart() -> None:
    """The same name with another distiller is another distiller."""
    groups = Groups(HIDDEN, CPU)
    groups.join("a", "one", ESamp(distiller="ridge"))
    groups.join("b", "one", ESamp(distiller="swiglu"))

    assert groups.live == 2


def test_a_distiller_lives_while_its_group_has_members() -> None:
    """The last member that leaves frees it, and all memory goes back."""
    groups = Groups(HIDDEN, CPU)
    groups.join("a", "one", ESamp())
    groups.join("b", "one", ESamp())
    groups.leave("a")
    assert groups.live == 1
    groups.leave("b")

    assert (groups.live, groups.bytes_held) == (0, 0)


def test_leaving_twice_or_unknown_is_harmless() -> None:
    """Requests that never asked for ESamp leave too."""
    groups = Groups(HIDDEN, CPU)
    groups.leave("nobody")
    groups.join("a", "one", ESamp())
    groups.leave("a")
    groups.leave("a")

    assert groups.live == 0


def test_what_happened_is_known_while_a_group_lives_and_after() -> None:
    """Rows and steps are counted per group, and reported the same after it has closed."""
    groups = Groups(HIDDEN, CPU)
    key = groups.join("a", "one", ESamp())
    for seed in range(3):
        run_step(groups, rows_for([key, key]), *states(2, seed))
    alive = groups.report("one")
    groups.leave("a")

    assert alive == groups.report("one")
    assert alive is not None
    assert (alive.rows_mixed, alive.steps_trained, alive.fallback_count) == (6, 3, 0)
    assert alive.relative_error is not None


def test_the_total_counts_open_and_closed_groups() -> None:
    """The engine's total is the sum over all groups that ever were."""
    groups = Groups(HIDDEN, CPU)
    one = groups.join("a", "one", ESamp())
    run_step(groups, rows_for([one]), *states(1))
    groups.leave("a")
    two = groups.join("b", "two", ESamp(distiller="swiglu"))
    run_step(groups, rows_for([two, two]), *states(2))
    total = groups.total()

    assert (total.rows_mixed, total.steps_trained) == (3, 2)


def test_errors_at_the_marked_steps_are_kept() -> None:
    """A report has the error of step 8 once a group came so far, and sums are means of groups."""
    groups = Groups(HIDDEN, CPU)
    one, two = groups.join("a", "one", ESamp()), groups.join("b", "two", ESamp())
    for seed in range(9):
        run_step(groups, rows_for([one, one, two] if seed < 8 else [one]), *states(3, seed))
    first, second = groups.report("one"), groups.report("two")
    groups.leave("a")

    assert first is not None
    assert second is not None
    found = [first.relative_error_at(8), second.relative_error_at(8)]
    assert found[0] is not None
    assert found[1] is not None
    assert groups.total().relative_error_at(8) == pytest.approx((found[0] + found[1]) / 2)
    assert groups.report("one") == first
    assert first.relative_error_at(32) is None


def test_beta_zero_trains_and_changes_no_number() -> None:
    """With beta 0 the state comes back bit for bit, and the distiller still learns."""
    groups = Groups(HIDDEN, CPU)
    key = groups.join("a", "one", ESamp(beta=0))
    h1, hL = states(2)
    mixed = run_step(groups, rows_for([key, key], beta=0.0), h1, hL)
    report = groups.report("one")

    assert torch.equal(torch.stack([mixed[0], mixed[1]]), hL)
    assert report is not None
    assert (report.rows_mixed, report.steps_trained) == (0, 1)


def test_a_group_that_moves_into_a_freed_slot_keeps_its_distiller() -> None:
    """Closing a group moves the last one; its predictions and counters go with it."""
    groups, alone = Groups(HIDDEN, CPU), Groups(HIDDEN, CPU)
    first = groups.join("a", "one", ESamp())
    second = groups.join("b", "two", ESamp())
    only = alone.join("b", "two", ESamp())
    for seed in range(4):
        h1, hL = states(2, seed)
        run_step(groups, rows_for([first, second]), h1, hL)
        run_step(alone, rows_for([only]), h1[1:], hL[1:])
    groups.leave("a")
    h1, hL = states(1, 9)
    moved = run_step(groups, rows_for([second]), h1, hL)[0]

    assert torch.allclose(moved, run_step(alone, rows_for([only]), h1, hL)[0], atol=1e-5)
    assert groups.report("two") == alone.report("two")


def test_groups_do_not_touch_each_other() -> None:
    """A group's mixed states do not depend on who else is in the batch."""
    crowd, alone = Groups(HIDDEN, CPU), Groups(HIDDEN, CPU)
    mine = crowd.join("a", "mine", ESamp())
    other = crowd.join("b", "other", ESamp())
    only = alone.join("a", "mine", ESamp())
    for seed in range(5):
        h1, hL = states(3, seed)
        crowded = run_step(crowd, rows_for([mine, other, other]), h1, hL)
        lonely = run_step(alone, rows_for([only]), h1[:1], hL[:1])

    assert torch.allclose(crowded[0], lonely[0], atol=1e-5)


@pytest.mark.parametrize("distiller", DISTILLERS)
def test_a_group_with_a_value_that_is_not_finite_samples_plainly(distiller: str) -> None:
    """It gets its reference states back from then on, counted once; the others go on."""
    groups = Groups(HIDDEN, CPU, head=lambda: torch.eye(HIDDEN))
    sick = groups.join("a", "sick", ESamp(distiller=distiller))
    well = groups.join("b", "well", ESamp(distiller=distiller))
    h1, hL = states(2)
    h1[0, 3] = torch.nan
    assert torch.equal(run_step(groups, rows_for([sick, well]), h1, hL)[0], hL[0])
    h1, hL = states(2, 1)
    after = run_step(groups, rows_for([sick, well]), h1, hL)
    report, other = groups.report("sick"), groups.report("well")

    assert torch.equal(after[0], hL[0])
    assert not torch.equal(after[1], hL[1])
    assert report is not None
    assert other is not None
    assert (report.fallbacks, report.steps_trained) == ({"non_finite": 1}, 0)
    assert (other.fallback_count, other.steps_trained) == (0, 2)


def test_breaking_off_frees_the_groups_of_a_plan_and_counts_why() -> None:
    """After a fault the groups concerned have no rows to mix, and say so."""
    groups = Groups(HIDDEN, CPU)
    key = groups.join("a", "one", ESamp())
    run_step(groups, rows_for([key]), *states(1))
    groups.break_off(groups.plan(rows_for([key])))
    report = groups.report("one")

    assert not groups.plan(rows_for([key])).parts
    assert report is not None
    assert (report.fallbacks, report.rows_mixed) == ({EXCEPTION: 1}, 1)
    assert groups.live == 0


def test_a_group_that_finds_no_room_samples_plainly_and_is_counted() -> None:
    """The bound on bytes is kept, and reaching it is never silent."""
    probe = Groups(HIDDEN, CPU)
    probe.join("a", "one", ESamp())
    groups = Groups(HIDDEN, CPU, max_bytes=2 * probe.bytes_held)
    keys = [groups.join(str(place), f"g{place}", ESamp()) for place in range(4)]
    refused = [groups.report(f"g{place}") for place in range(4)]

    assert groups.bytes_held <= 2 * probe.bytes_held
    assert groups.live == 2
    assert [dict(r.fallbacks) for r in refused if r is not None] == [{}, {}] + 2 * [{NO_ROOM: 1}]
    assert len(groups.plan(rows_for(keys)).parts[0][1].slot) == 2


@pytest.mark.parametrize("head", [None, lambda: None])
def test_a_group_that_needs_a_head_where_there_is_none_is_counted(head: Head | None) -> None:
    """It samples plainly, while it lives and after; other kinds of the same name still run."""
    groups = Groups(HIDDEN, CPU, head=head)
    keys = [groups.join("a", "one", ESamp(distiller="vocab")), groups.join("b", "one", ESamp())]
    mixed = run_step(groups, rows_for(keys), *states(2))
    groups.leave("a")
    report = groups.report("one")

    assert list(mixed) == [1]
    assert report is not None
    assert (report.rows_mixed, report.fallbacks) == (1, {NO_HEAD: 1})


def test_the_head_is_asked_for_once_and_only_when_needed() -> None:
    """Nobody pays for it who does not ask for the ablation."""
    asked: list[int] = []

    def head() -> torch.Tensor:
        asked.append(1)
        return torch.eye(HIDDEN)

    groups = Groups(HIDDEN, CPU, head=head)
    groups.join("a", "one", ESamp())
    assert not asked
    for name in ("b", "c"):
        groups.join(name, name, ESamp(distiller="vocab"))

    assert (len(asked), groups.live) == (1, 3)


def test_the_ledger_of_closed_groups_is_bounded() -> None:
    """Reports of the oldest groups are forgotten; the total is not."""
    groups = Groups(HIDDEN, CPU, max_bytes=0)
    for place in range(LEDGER_SIZE + 5):
        groups.join("a", f"g{place}", ESamp())
        groups.leave("a")

    assert groups.report("g0") is None
    assert groups.report(f"g{LEDGER_SIZE + 4}") is not None
    assert groups.total().fallbacks == {NO_ROOM: LEDGER_SIZE + 5}


def test_noise_is_drawn_from_the_groups_seed() -> None:
    """Two workers with the same seeds and batches draw the same noise; another seed does not."""

    def noisy(seed: int) -> torch.Tensor:
        groups = Groups(HIDDEN, CPU)
        key = groups.join("a", "one", ESamp(fusion="noise", seed=seed))
        return run_step(groups, rows_for([key], fusion="noise"), *states(1))[0]

    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2))
