"""The per-step path waits for no device and holds no more memory as it goes on.

It runs on torch's `meta` device, whose tensors have no values: whatever would copy a value to the
host, and so make a GPU wait, raises there. Linear algebra that looks for its own errors does not
raise, so that look is refused by name.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ttscale.esamp.endings import Endings
from ttscale.esamp.groups import Groups, Row
from ttscale.esamp.settings import DISTILLERS, FUSIONS, ESamp

HIDDEN = 32


class Guard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses the one read that the meta device lets pass: whether a matrix was singular."""

    def __torch_dispatch__(
        self, op: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if op is torch.ops.aten._linalg_check_errors.default:
            raise RuntimeError("the host waits for the device, to look for an error")
        return op(*args, **(kwargs or {}))


def guard() -> TorchDispatchMode:
    """A new guard."""
    return Guard()  # type: ignore[no-untyped-call]


def running(device: torch.device, distiller: str) -> tuple[Groups, list[Row]]:
    """Three groups, of four, two and one rows, with every fusion that draws nothing."""
    groups = Groups(HIDDEN, device, head=lambda: torch.ones(50, HIDDEN, device=device))
    rows: list[Row] = []
    for name, count in (("one", 4), ("two", 2), ("three", 1)):
        key = groups.join(name, name, ESamp(distiller=distiller))
        for _ in range(count):
            fusion = FUSIONS[len(rows) % 2]
            rows.append(Row(len(rows), key, 0.25, fusion, True, len(rows) % 2 == 0))
    return groups, rows


@pytest.mark.parametrize("distiller", DISTILLERS)
def test_a_step_reads_no_value_from_the_device(distiller: str) -> None:
    """Mixing and learning run where no value can be read."""
    meta = torch.device("meta")
    groups, rows = running(meta, distiller)
    plan = groups.plan(rows)
    h1 = torch.empty(len(rows), HIDDEN, device=meta)
    with guard():
        for _ in range(3):
            mixed, pending = groups.mix(plan, h1, h1)
            groups.learn(plan, pending)

    assert [tuple(states.shape) for _, states in mixed] == [(7, HIDDEN)]


def test_holding_the_end_reads_no_value_from_the_device() -> None:
    """Nor do the end tokens' logits wait, once the head is known."""
    meta = torch.device("meta")
    head = torch.empty(50, HIDDEN, device=meta)
    logits, change = torch.empty(7, 50, device=meta), torch.empty(7, HIDDEN, device=meta)
    endings = Endings([1, 2], meta, lambda: head)
    with guard():
        for _ in range(3):
            endings.hold(logits, change, torch.empty(7, 1, device=meta))

    assert not endings.needs_reference()


@pytest.mark.parametrize(
    "read",
    [
        torch.Tensor.item,
        torch.Tensor.tolist,
        torch.Tensor.cpu,
        torch.nonzero,
        torch.linalg.inv,
        torch.linalg.cholesky,
    ],
    ids=lambda read: read.__name__,
)
def test_the_guard_catches_a_read(read: Callable[[torch.Tensor], object]) -> None:
    """There the read of a value is an error, so the tests above can fail."""
    with guard(), pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.empty(1, 1, device="meta"))


@pytest.mark.parametrize("distiller", DISTILLERS)
def test_memory_does_not_grow_with_the_steps(distiller: str) -> None:
    """After 200 steps as many tensors are alive, of the same size, as after two."""
    groups, rows = running(torch.device("cpu"), distiller)
    plan = groups.plan(rows)

    def alive_after(steps: int) -> tuple[int, int]:
        for step in range(steps):
            draw = torch.Generator().manual_seed(step)
            h1 = torch.randn(len(rows), HIDDEN, generator=draw)
            _, pending = groups.mix(plan, h1, h1)
            groups.learn(plan, pending)
        del h1, pending
        gc.collect()
        tensors = [o for o in gc.get_objects() if type(o) is torch.Tensor]
        return len(tensors), groups.bytes_held

    assert alive_after(2) == alive_after(200)
