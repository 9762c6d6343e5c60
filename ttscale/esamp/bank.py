"""All distillers of one kind, one slot a group, and what happened in each.

Slots are dense: when a group leaves, the last one moves into its place, so the groups in use are
always the first ones and every step works on views. Nothing here waits for the device but
`Counts.read`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ttscale.esamp.clock import Clock
from ttscale.esamp.distiller import Distiller, Prediction, SlotTensors
from ttscale.esamp.fusion import directions

CURVE_STEPS = (8, 32, 128)  # training steps at which the relative error is kept
NON_FINITE = "non_finite"
GATE_CLOSED, GATE_OPEN = 1.0, 0.8  # relative errors; see `ESamp.gate`
_SMOOTHING = 0.5  # weight of the newest step in the error that the gate looks at
# h1 and hL of a real row are never this small; it keeps 0 / 0 out of the relative error
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a batch belong to which slots, as tensors on the device.

    What is the same for all rows is told on the host, so that a step spends nothing on it.

    Attributes:
        batch: (k,) row of the batch; a slice when they follow each other.
        slot: (k,) slot of the row's group.
        padded: (k,) place of the row in the padded (groups, width) layout, flattened; None when
            the rows fill it in order.
        mask: (groups, width), 1 for the rows to train on.
        beta: (k,) strength of each row.
        codes: (k,) FUSION_CODES of each row; None when all are `mix`.
        gated: (k,) whether a row's push waits until the distiller knows something; None when no
            row's does.
        weight: (groups, width), of each row in its group's mean over the rows to train on.
        learns: (groups,) whether a group has a row to train on.
        trains: The same on the host: the slots of these groups.
        noisy: For each row that asks for noise: (its place in k, seed of its group).
    """

    batch: Tensor | slice
    slot: Tensor
    padded: Tensor | None
    mask: Tensor
    beta: Tensor
    codes: Tensor | None
    gated: Tensor | None
    weight: Tensor
    learns: Tensor
    trains: tuple[int, ...]
    noisy: tuple[tuple[int, int], ...] = ()

    def pad(self, values: Tensor) -> Tensor:
        """(k, ...) -> (groups, width, ...), zero where no row is."""
        groups, width = self.mask.shape
        if self.padded is not None:
            room = values.new_zeros((groups * width, *values.shape[1:]))
            values = room.index_copy_(0, self.padded, values)
        return values.view(groups, width, *values.shape[1:])

    def unpad(self, padded: Tensor) -> Tensor:
        """(groups, width, ...) -> (k, ...)."""
        values = padded.flatten(0, 1)
        return values if self.padded is None else values[self.padded]


@dataclass(frozen=True, slots=True)
class Pending:
    """What `learn` needs of a step whose logits are made."""

    rows: Rows
    made: Prediction
    target: Tensor  # (groups, width, hidden)
    strength: Tensor  # (k,) beta times the gate
    error: Tensor  # (k,) relative error of each row's state


@dataclass(slots=True)
class Counts:
    """What happened in one slot, read from the device."""

    rows_mixed: int = 0
    steps_trained: int = 0
    relative_error: float | None = None
    curve: dict[int, float] = field(default_factory=dict)
    non_finite: int = 0

    @classmethod
    def read(cls, snapshot: Tensor) -> Counts:
        """Read what `Bank.snapshot` kept; on a GPU this waits for the device."""
        rows, steps, error, worst, *marks = snapshot.tolist()
        return cls(
            rows_mixed=int(rows),
            steps_trained=int(steps),
            relative_error=None if error != error else error,
            curve={k: v for k, v in zip(CURVE_STEPS, marks, strict=True) if v == v},
            non_finite=int(not worst < math.inf),
        )


class Bank:
    """The distillers of one kind and their counters, by slot."""

    def __init__(
        self, distiller: Distiller, device: torch.device, clock: Clock | None = None
    ) -> None:
        self.distiller = distiller
        self.clock = clock or Clock()
        self.live = 0
        self._device = device
        shapes: dict[str, tuple[int, ...]] = {"curve": (len(CURVE_STEPS),)}
        shapes |= dict.fromkeys(("rows", "steps", "error", "smooth", "worst"), ())
        # float64: a long-lived shared group passes 2^24 rows
        self._counts = SlotTensors(shapes, device, torch.float64)
        self._marks = torch.tensor(CURVE_STEPS, device=device)
        self._draws = 0

    @property
    def bytes_per_slot(self) -> int:
        """Bytes held for one group."""
        return self.distiller.slots.bytes_per_slot + self._counts.bytes_per_slot

    @property
    def bytes_held(self) -> int:
        """Bytes held for all slots, used or not."""
        return self.bytes_per_slot * self.distiller.slots.capacity

    def open(self, seed: int) -> int:
        """Give a new group a fresh distiller; returns its slot."""
        slot, self.live = self.live, self.live + 1
        self.distiller.slots.reserve(self.live)
        self._counts.reserve(self.live)
        self.distiller.reset(slot, seed)
        for name in ("rows", "steps", "worst"):
            self._counts[name][slot] = 0
        for name in ("error", "smooth", "curve"):
            self._counts[name][slot] = torch.nan
        return slot

    def close(self, slot: int) -> int:
        """Free `slot`; returns the slot whose group now lives in it (the one that was last)."""
        last = self.live = self.live - 1
        if slot != last:
            self.distiller.slots.move(last, slot)
            self._counts.move(last, slot)
        if not self.live:
            self.distiller.slots.release()
            self._counts.release()
        return last

    def snapshot(self, slot: int) -> Tensor:
        """One slot's counters as they are now, still on the device; see `Counts.read`."""
        single = [self._counts[name][slot].view(1) for name in ("rows", "steps", "error", "worst")]
        return torch.cat([*single, self._counts["curve"][slot]])

    def counts(self, slot: int) -> Counts:
        """Read one slot's counters; on a GPU this waits for the device."""
        return Counts.read(self.snapshot(slot))

    def mix(self, rows: Rows, h1: Tensor, hL: Tensor) -> tuple[Tensor, Pending]:
        """The mixed states of `rows`, (k, hidden) in float32, and what is left to learn from.

        Args:
            rows: Layout of the step.
            h1: (batch, hidden), first layer's output.
            hL: (batch, hidden), what the LM head receives.

        A group in which a value is not finite keeps its reference states from then on.
        """
        reference = hL[rows.batch].float()
        with self.clock.phase("predict"):
            made = self.distiller.predict(rows.pad(h1[rows.batch].float()))
        with self.clock.phase("mix"):
            return self._mixed(rows, reference, made)

    def _mixed(self, rows: Rows, reference: Tensor, made: Prediction) -> tuple[Tensor, Pending]:
        predicted = rows.unpad(made.hL)
        direction = gap = reference - predicted
        if rows.codes is not None:
            noise = self._noise(rows, reference)
            direction = directions(reference, predicted, rows.codes, noise)
        error = gap.norm(dim=1) / reference.norm(dim=1).clamp_min(_TINY)
        good = self._judge(rows, error)
        strength = self._strength(rows) * good
        self._counts["rows"].index_add_(0, rows.slot, (strength > 0).to(torch.float64))
        mixed = torch.addcmul(reference, strength.unsqueeze(1), direction)
        pending = Pending(rows, made, rows.pad(reference), strength, error)
        return torch.where(good.unsqueeze(1), mixed, reference), pending

    def learn(self, pending: Pending) -> None:
        """Train every group of the step on its rows, once, and count it (Eq. 10)."""
        with self.clock.phase("update"):
            self._learn(pending)

    def _learn(self, pending: Pending) -> None:
        rows = pending.rows
        healthy = self._counts["worst"][: len(rows.learns)] < torch.inf
        mask = rows.mask * healthy.unsqueeze(1)
        own = self.distiller.update(pending.made, pending.target, mask, rows.trains)
        # what a distiller tells of a padding row means nothing, and may be NaN
        error = rows.pad(pending.error if own is None else rows.unpad(own))
        self._count_steps(rows.learns & healthy, (error * rows.weight).sum(dim=1))

    def _noise(self, rows: Rows, like: Tensor) -> Tensor | None:
        """Standard normal draws for the rows that ask for noise, seeded by group and draw."""
        if not rows.noisy:
            return None
        self._draws += 1
        noise = torch.zeros_like(like)
        for place, seed in rows.noisy:
            draw = torch.Generator(self._device).manual_seed(hash((seed, place, self._draws)))
            noise[place].normal_(generator=draw)
        return noise

    def _strength(self, rows: Rows) -> Tensor:
        """(k,): beta, times how far the gate is open where a row waits for it."""
        if rows.gated is None:
            return rows.beta
        return rows.beta * torch.where(rows.gated, self._gate()[rows.slot], 1.0)

    def _gate(self) -> Tensor:
        """How far each slot's error lets the push through, from 0 to 1; 0 before any error."""
        opened = (GATE_CLOSED - self._counts["smooth"]) / (GATE_CLOSED - GATE_OPEN)
        return opened.clamp(0.0, 1.0).nan_to_num(0.0).float()

    def _judge(self, rows: Rows, error: Tensor) -> Tensor:
        """Which rows may be mixed, (k,); a group with an error that is not finite is broken.

        The error is finite where reference and prediction are, and only there.
        """
        worst = self._counts["worst"]
        worst.scatter_reduce_(0, rows.slot, error.to(worst.dtype), "amax")  # NaN stays
        return worst[rows.slot] < torch.inf

    def _count_steps(self, trained: Tensor, mean: Tensor) -> None:
        """Count the trained groups' steps and keep their mean relative error.

        Args:
            trained: (groups,) whether a group was trained in this step.
            mean: (groups,) its mean relative error; of no meaning where it was not.
        """
        steps, last, smooth, curve = (
            self._counts[name][: len(trained)] for name in ("steps", "error", "smooth", "curve")
        )
        mean = mean.to(last.dtype)
        steps += trained
        torch.where(trained, mean, last, out=last)
        blend = torch.where(smooth.isnan(), mean, smooth.lerp(mean, _SMOOTHING))
        torch.where(trained, blend, smooth, out=smooth)
        at_mark = trained.unsqueeze(1) & (steps.unsqueeze(1) == self._marks)
        torch.where(at_mark, last.unsqueeze(1), curve, out=curve)
