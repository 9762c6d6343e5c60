"""Which request is in which row of a step, as each of vLLM's model runners tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ttscale.worker.request import Asked


class StepRow(Protocol):
    """What a step must know of one request's row."""

    @property
    def asked(self) -> Asked:
        """What the request asks of the plugin."""
        ...

    @property
    def decodes(self) -> bool:
        """Whether the row's logits follow at least one output token."""
        ...

    @property
    def trains(self) -> bool:
        """A resumed request replays its prompt first, perhaps in chunks; it trains after that."""
        ...


@dataclass(slots=True)
class BatchRow:
    """A row of V1's persistent batch; it stays true while its request stays in the row."""

    asked: Asked
    output: Sequence[int]  # vLLM's live list of the request's output tokens
    resumed_at: int  # its length when the request came back into the batch; 0 for a new one

    @property
    def decodes(self) -> bool:
        """See `StepRow`."""
        return len(self.output) > 0

    @property
    def trains(self) -> bool:
        """See `StepRow`."""
        return len(self.output) > self.resumed_at


@dataclass(frozen=True, slots=True)
class PlacedRow:
    """A row of one step of V2, which orders its rows anew in every step."""

    asked: Asked
    decodes: bool
    trains: bool


def placed(
    slots: Mapping[int, Asked], batch: Any, prompt_lengths: Sequence[int]
) -> dict[int, PlacedRow]:
    """The rows of one step of V2 whose requests ask something of the plugin.

    All of it is read on the host: nothing here waits for the device.

    Args:
        slots: What the request in each slot asks.
        batch: vLLM's InputBatch; its row i belongs to the slot `idx_mapping_np[i]`.
        prompt_lengths: (rows,) tokens of each row's prompt, without replayed outputs.
    """
    rows = {}
    for index, slot in enumerate(batch.idx_mapping_np.tolist()):
        asked = slots.get(slot)
        if asked is not None:
            rows[index] = _placed_row(asked, batch, index, prompt_lengths[index])
    return rows


def _placed_row(asked: Asked, batch: Any, index: int, prompt_length: int) -> PlacedRow:
    """One row; a resumed request's prefill is its prompt and the outputs that it replays."""
    if not batch.is_prefilling_np[index]:
        return PlacedRow(asked, decodes=True, trains=True)
    reached = batch.num_computed_tokens_np[index] + batch.num_scheduled_tokens[index]
    whole = bool(reached >= batch.prefill_len_np[index])  # else the row's token is dropped
    replays = bool(batch.prefill_len_np[index] > prompt_length)
    return PlacedRow(asked, decodes=whole and replays, trains=False)
