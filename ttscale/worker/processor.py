"""The logits processor that vLLM loads from its entry point, on either model runner.

Both runners load the entry points of `vllm.logits_processors`, and V2 refuses a class of V1's
interface at start. So one class serves both contracts: V1 calls `update_state` and `apply(logits)`,
V2 calls `add_request` and `apply(logits, ctx)`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.sampling_params import SamplingParams
from vllm.v1.sample.logits_processor.interface import (
    BatchUpdate,
    MoveDirectionality,
)
from vllm.v1.sample.logits_processor.interface import (
    LogitsProcessor as V1LogitsProcessor,
)
from vllm.v1.worker.gpu.sample.logits_processor.interface import (
    LogitsProcessor as V2LogitsProcessor,
)

from ttscale.errors import InvalidInput
from ttscale.worker.plugin import disabled
from ttscale.worker.request import read_admitted, read_keys
from ttscale.worker.rows import BatchRow
from ttscale.worker.runtime import Runtime, runtime_of


class ESampProcessor(V1LogitsProcessor, V2LogitsProcessor):  # type: ignore[misc]
    """Tells the runtime which request is in which row, and applies token filters."""

    def __init__(self, vllm_config: Any, *_runner: Any) -> None:
        self._config = vllm_config
        self._rows: dict[int, BatchRow] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Refuse bad `esamp_*` keys at admission.

        Raises:
            InvalidInput: A ValueError, which vLLM turns into HTTP 400.
        """
        if read_keys(sampling_params.extra_args) is not None and disabled():
            raise InvalidInput("ESamp is switched off here by TTSCALE_DISABLE; unset it")

    def is_argmax_invariant(self) -> bool:
        """Filters never change the likeliest token; vLLM then calls `apply` after temperature."""
        return True

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """V1, before each forward: follow the rows of the persistent batch."""
        runtime = self._runtime
        if runtime is None:
            return
        runtime.rows = self._rows
        if batch_update is not None:
            self._follow(batch_update)
        runtime.begin(None if batch_update is None else batch_update.batch_size)

    def _follow(self, update: BatchUpdate) -> None:
        """Apply removals, additions and moves, in the order that vLLM's contract gives."""
        rows = self._rows
        for index in update.removed:
            rows.pop(index, None)
        for index, params, _, output in update.added:
            rows.pop(index, None)
            asked = read_admitted(params)
            if asked is not None:
                rows[index] = BatchRow(asked, output, len(output))
        for source, target, how in update.moved:
            moved, there = rows.pop(source, None), rows.pop(target, None)
            if moved is not None:
                rows[target] = moved
            if there is not None and how is MoveDirectionality.SWAP:
                rows[source] = there

    @property
    def _runtime(self) -> Runtime | None:
        return runtime_of(self._config)

    def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
        """Heat first tokens and take filters; V2 gives `ctx`."""
        runtime = self._runtime
        if runtime is None or not runtime.rows:
            return logits
        return runtime.apply(logits, tempered=ctx is None)

    def add_request(self, req_idx: int, sampling_params: SamplingParams) -> bool:
        """V2, when a request enters a slot: whether `apply` may change its logits."""
        runtime = self._runtime
        if runtime is None:
            return False
        runtime.slots.pop(req_idx, None)
        asked = read_admitted(sampling_params)
        if asked is None:
            return False
        runtime.slots[req_idx] = asked
        filtered = asked.filter is not None and asked.filter.filters
        return filtered or asked.fire_temperature is not None
