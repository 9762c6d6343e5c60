"""Who shares a distiller: groups, their members (requests) and their lifetimes.

A group opens with its first member and closes when its last one leaves; what happened in it is
then kept in a bounded ledger until it is asked for. Its counters are read from the device when
somebody asks, not when it closes, which is in the midst of a step. The number of bytes held is
bounded: a group that finds no room samples plainly, and that is counted.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ttscale.esamp.bank import NON_FINITE, Bank, Counts, Pending, Rows
from ttscale.esamp.clock import Clock
from ttscale.esamp.distiller import Distiller
from ttscale.esamp.endings import Head
from ttscale.esamp.fusion import FUSION_CODES
from ttscale.esamp.ridge import RidgeDistiller
from ttscale.esamp.settings import ESamp
from ttscale.esamp.swiglu import SwiGLUDistiller
from ttscale.esamp.transfer import on_device
from ttscale.esamp.vocab import divergence
from ttscale.types import ESampReport

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30
LEDGER_SIZE = 4096
MAX_UNREAD = 256  # closed groups whose counters are still on the device
NO_ROOM = "no_room"
NO_HEAD = "no_head"
EXCEPTION = "exception"

GroupKey = tuple[str, str]  # (name of the group, kind of distiller)


@dataclass(frozen=True, slots=True)
class Row:
    """One decode row of a batch: where it stands, its group, how it is mixed."""

    index: int
    group: GroupKey
    beta: float
    fusion: str
    trains: bool
    gated: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A step's rows laid out for each bank; valid while `version` is the groups' version."""

    version: int
    parts: tuple[tuple[Bank, Rows, tuple[GroupKey, ...]], ...]


@dataclass(slots=True)
class _Group:
    seed: int
    slot: int | None  # None: no room, or broken
    members: set[str] = field(default_factory=set)
    fallbacks: Counter[str] = field(default_factory=Counter)
    counts: Counts = field(default_factory=Counts)  # what a slot had counted when it was lost


@dataclass(frozen=True, slots=True)
class _Ended:
    """A closed group, whose counters may still be on the device."""

    key: GroupKey
    fallbacks: Counter[str]
    counts: Counts | Tensor
    size: int

    def report(self) -> ESampReport:
        """What happened in it; on a GPU this may wait for the device."""
        counts = Counts.read(self.counts) if isinstance(self.counts, Tensor) else self.counts
        return _report(counts, self.fallbacks, self.size)


class Groups:
    """The groups of one worker.

    Args:
        hidden: Width of the model's hidden states.
        device: Where the states are.
        max_bytes: Bound on the bytes held for distillers.
        head: The LM head, asked for when the first group needs it; None when there is none.

    Attributes:
        clock: Time spent by phase, over all groups.
        version: Changes whenever groups move; see `Plan`.
    """

    def __init__(
        self,
        hidden: int,
        device: torch.device,
        max_bytes: int = MAX_BYTES,
        head: Head | None = None,
    ) -> None:
        self.clock = Clock()
        self._hidden, self._device, self._head = hidden, device, head
        self._banks: dict[str, Bank] = {}
        self._add("ridge", RidgeDistiller(hidden, device))
        self._add("swiglu", SwiGLUDistiller(hidden, device))
        self._max_bytes = max_bytes
        self._groups: dict[GroupKey, _Group] = {}
        self._group_of: dict[str, GroupKey] = {}
        self._ended: list[_Ended] = []
        self._ledger: OrderedDict[GroupKey, ESampReport] = OrderedDict()
        self._closed = ESampReport()
        self.version = 0

    @property
    def live(self) -> int:
        """Number of distillers in use."""
        return sum(bank.live for bank in self._banks.values())

    @property
    def bytes_held(self) -> int:
        """Bytes held for distillers now."""
        return sum(bank.bytes_held for bank in self._banks.values())

    def join(self, member: str, name: str, settings: ESamp) -> GroupKey:
        """Make `member` one of the group `name`, which opens if it is new."""
        key = (name, settings.distiller)
        if key not in self._groups:
            self._groups[key] = self._open(settings)
        self._groups[key].members.add(member)
        self._group_of[member] = key
        return key

    def leave(self, member: str) -> None:
        """Take `member` out of its group, which closes with its last one."""
        key = self._group_of.pop(member, None)
        if key is None:
            return
        group = self._groups[key]
        group.members.discard(member)
        if not group.members:
            self._close(key)

    def plan(self, rows: Sequence[Row]) -> Plan:
        """Lay out a step's rows; rows of a group without a distiller are left out."""
        parts = []
        for kind, bank in self._banks.items():
            mine = [r for r in rows if r.group[1] == kind and self._slot(r.group) is not None]
            if mine:
                keys = tuple(dict.fromkeys(r.group for r in mine))
                parts.append((bank, self._lay_out(mine, bank.live), keys))
        return Plan(self.version, tuple(parts))

    def mix(
        self, plan: Plan, h1: Tensor, hL: Tensor
    ) -> tuple[list[tuple[Tensor | slice, Tensor]], list[Pending]]:
        """Mix the planned rows.

        Args:
            plan: From `plan`, of this version.
            h1: (batch, hidden).
            hL: (batch, hidden).

        Returns:
            Pairs (rows (k,) or a slice of the batch, mixed states (k, hidden) in float32), and
            what `learn` needs.
        """
        mixed: list[tuple[Tensor | slice, Tensor]] = []
        pending: list[Pending] = []
        for bank, rows, _ in plan.parts:
            states, left = bank.mix(rows, h1, hL)
            mixed.append((rows.batch, states))
            pending.append(left)
        return mixed, pending

    def learn(self, plan: Plan, pending: Sequence[Pending]) -> None:
        """Train on a mixed step, once."""
        for (bank, _, _), left in zip(plan.parts, pending, strict=True):
            bank.learn(left)

    def break_off(self, plan: Plan, cause: str = EXCEPTION) -> None:
        """Let every group of `plan` sample plainly from now on, and count why."""
        for key in [key for _, _, keys in plan.parts for key in keys]:
            group = self._groups.get(key)
            if group is not None and group.slot is not None:
                group.counts = self._banks[key[1]].counts(group.slot)
                group.fallbacks[cause] += 1
                self._free(key)

    def report(self, name: str) -> ESampReport | None:
        """What happened in the group `name`, over its distillers; None if it is not known."""
        self._settle()
        live = [self._live_report(key) for key in self._groups if key[0] == name]
        ended = [report for key, report in self._ledger.items() if key[0] == name]
        reports = live + ended
        return sum(reports[1:], start=reports[0]) if reports else None

    def total(self) -> ESampReport:
        """What happened in all groups since the start; `bytes_held` is what is held now."""
        self._settle()
        live = [self._live_report(key) for key in self._groups]
        whole = sum(live, start=self._closed)
        return ESampReport(
            whole.rows_mixed,
            whole.steps_trained,
            whole.fallbacks,
            whole.relative_error,
            self.bytes_held,
            whole.error_at,
        )

    def _add(self, kind: str, distiller: Distiller) -> Bank:
        bank = self._banks[kind] = Bank(distiller, self._device, self.clock)
        return bank

    def _bank(self, kind: str) -> Bank | None:
        """The bank of a kind; that of `vocab` is made when first asked for, if there is a head."""
        if kind not in self._banks and self._head is not None:
            head, self._head = self._head(), None
            if head is not None:
                loss = divergence(head)
                return self._add(kind, SwiGLUDistiller(self._hidden, self._device, loss=loss))
        return self._banks.get(kind)

    def _open(self, settings: ESamp) -> _Group:
        bank = self._bank(settings.distiller)
        if bank is None:
            log.warning("logits are no product with a matrix that distiller 'vocab' could use")
            return _Group(settings.seed, None, fallbacks=Counter({NO_HEAD: 1}))
        grows = bank.live == bank.distiller.slots.capacity
        slots_more = max(1, bank.live) if grows else 0  # slots double
        if self.bytes_held + slots_more * bank.bytes_per_slot > self._max_bytes:
            log.warning("no room for another distiller within %d bytes", self._max_bytes)
            return _Group(settings.seed, None, fallbacks=Counter({NO_ROOM: 1}))
        self.version += 1
        return _Group(settings.seed, bank.open(settings.seed))

    def _close(self, key: GroupKey) -> None:
        group = self._groups[key]
        slot = group.slot
        counts = group.counts if slot is None else self._banks[key[1]].snapshot(slot)
        self._ended.append(_Ended(key, group.fallbacks, counts, self._size(key)))
        self._free(key)
        del self._groups[key]
        if len(self._ended) >= MAX_UNREAD:
            self._settle()

    def _settle(self) -> None:
        """Read what closed groups have counted into the ledger."""
        for ended in self._ended:
            report = ended.report()
            self._closed = self._closed + report
            if ended.key in self._ledger:
                report = self._ledger.pop(ended.key) + report
            self._ledger[ended.key] = report
        self._ended.clear()
        while len(self._ledger) > LEDGER_SIZE:
            self._ledger.popitem(last=False)

    def _free(self, key: GroupKey) -> None:
        """Give the slot of `key` back, if it has one; the last slot's group moves into it."""
        slot = self._groups[key].slot
        if slot is None:
            return
        moved = self._banks[key[1]].close(slot)
        self._groups[key].slot = None
        for other, group in self._groups.items():
            if other[1] == key[1] and group.slot == moved:
                group.slot = slot
        self.version += 1

    def _slot(self, key: GroupKey) -> int | None:
        group = self._groups.get(key)
        return None if group is None else group.slot

    def _size(self, key: GroupKey) -> int:
        """Bytes held for one group."""
        return 0 if self._slot(key) is None else self._banks[key[1]].bytes_per_slot

    def _live_report(self, key: GroupKey) -> ESampReport:
        group = self._groups[key]
        slot = group.slot
        counts = group.counts if slot is None else self._banks[key[1]].counts(slot)
        return _report(counts, group.fallbacks, self._size(key))

    def _lay_out(self, rows: Sequence[Row], groups: int) -> Rows:
        """Pad the rows of each slot to the same width."""
        slots = [self._groups[r.group].slot or 0 for r in rows]
        padded, width = _padded(slots, groups)
        mask = torch.zeros(groups * width)
        mask[padded] = torch.tensor([float(r.trains) for r in rows])
        mask = mask.view(groups, width)
        number = mask.sum(dim=1)
        seeds = [(k, self._groups[r.group].seed) for k, r in enumerate(rows) if r.fusion == "noise"]
        batch = [r.index for r in rows]
        span = range(batch[0], batch[0] + len(batch))
        any_gated = any(r.gated for r in rows)
        plain = all(r.fusion == "mix" for r in rows)
        on = partial(on_device, device=self._device)
        whole, floats = partial(on, dtype=torch.long), partial(on, dtype=torch.float32)
        return Rows(
            batch=slice(span.start, span.stop) if batch == list(span) else whole(batch),
            slot=whole(slots),
            padded=None if padded == list(range(groups * width)) else whole(padded),
            mask=floats(mask),
            beta=floats([r.beta for r in rows]),
            codes=None if plain else whole([FUSION_CODES[r.fusion] for r in rows]),
            gated=on([r.gated for r in rows], dtype=torch.bool) if any_gated else None,
            weight=floats(mask / number.clamp_min(1.0).unsqueeze(1)),
            learns=on(number > 0, dtype=torch.bool),
            trains=tuple(dict.fromkeys(s for s, r in zip(slots, rows, strict=True) if r.trains)),
            noisy=tuple(seeds),
        )


def _padded(slots: Sequence[int], groups: int) -> tuple[list[int], int]:
    """The place of each row when every slot has the same room, and that room."""
    place, filled = [], [0] * groups
    for slot in slots:
        place.append(filled[slot])
        filled[slot] += 1
    width = max(filled)
    return [s * width + p for s, p in zip(slots, place, strict=True)], width


def _report(counts: Counts, fallbacks: Counter[str], size: int) -> ESampReport:
    causes = dict(fallbacks)
    if counts.non_finite:
        causes[NON_FINITE] = counts.non_finite
    return ESampReport(
        counts.rows_mixed,
        counts.steps_trained,
        causes,
        counts.relative_error,
        size,
        {step: (error, 1) for step, error in counts.curve.items()},
    )
