"""The protocol of a latent distiller, batched over the groups that hold one each.

Tensors are padded: `groups` distillers times `rows` rows, and `mask (groups, rows)` is 1 where a
row is real and 0 where it pads. Padding rows of `h1` are zero. Slots are dense: the distillers in
use are always the first `groups` of the bank, so that predict and update work on views.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Distiller", "Prediction", "SlotTensors", "with_rows"]


class Prediction(NamedTuple):
    """What `predict` returns and `update` needs: the estimate and the activations behind it."""

    hL: Tensor  # (groups, rows, hidden), float32
    saved: tuple[Tensor, ...]


class Distiller(Protocol):
    """Predicts the last hidden state from the first layer's, and learns from the truth (Eq. 3)."""

    @property
    def slots(self) -> SlotTensors:
        """The memory of all distillers, by slot."""
        ...

    def reset(self, slot: int, seed: int) -> None:
        """Make `slot` a fresh distiller; everything it draws comes from `seed`."""
        ...

    def predict(self, h1: Tensor) -> Prediction:
        """Estimate hL (groups, rows, hidden) from h1 (groups, rows, hidden); trains nothing."""
        ...

    def update(
        self, made: Prediction, hL: Tensor, mask: Tensor, trains: Sequence[int] | None = None
    ) -> Tensor | None:
        """One training step of every group on its real rows; groups without any stay as they are.

        Args:
            made: What `predict` returned for these rows.
            hL: (groups, rows, hidden), float32.
            mask: (groups, rows), 1 for the rows to learn from.
            trains: The groups that have any, where the host knows them; None reads them from
                `mask`, which waits for the device.

        Returns:
            The relative error of each row (groups, rows) before the step, as the distiller
            measures it; None where that is `||hL - f(h1)|| / ||hL||`.
        """
        ...


def with_rows(mask: Tensor) -> list[int]:
    """The groups with a row in `mask` (groups, rows); on a GPU this waits for the device."""
    return [place for place, any_row in enumerate(mask.any(dim=1).tolist()) if any_row]


class SlotTensors:
    """Tensors whose first dimension is the slot; they grow together, by doubling."""

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._shapes = shapes
        self._zeros = partial(torch.zeros, device=device, dtype=dtype)
        self.bytes_per_slot = dtype.itemsize * sum(torch.Size(s).numel() for s in shapes.values())
        self._tensors: dict[str, Tensor] = {}
        self.release()

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def release(self) -> None:
        """Give all memory back; every slot is gone."""
        self.capacity = 0
        self._tensors = {n: self._zeros((0, *s)) for n, s in self._shapes.items()}

    def reserve(self, slots: int) -> None:
        """Hold memory for at least `slots` slots, keeping what is there."""
        if slots <= self.capacity:
            return
        capacity = max(slots, 2 * self.capacity)
        for name, old in self._tensors.items():
            new = self._zeros((capacity, *self._shapes[name]))
            new[: self.capacity] = old
            self._tensors[name] = new
        self.capacity = capacity

    def move(self, source: int, target: int) -> None:
        """Copy every tensor's slot `source` over `target`."""
        for tensor in self._tensors.values():
            tensor[target] = tensor[source]
