"""The worker's side of one engine: groups, the rows of the current batch, and the step itself."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ttscale.esamp.fusion import keep_mask
from ttscale.esamp.groups import GroupKey, Groups, Plan, Row
from ttscale.worker.request import Asked, read_admitted

log = logging.getLogger(__name__)

ComputeLogits = Callable[[Tensor], Tensor | None]


@dataclass(slots=True)
class BatchRow:
    """One request's row in the persistent batch."""

    asked: Asked
    output: Sequence[int]  # vLLM's live list of the request's output tokens
    resumed_at: int  # its length when the request came back into the batch; 0 for a new one

    @property
    def decodes(self) -> bool:
        """Whether the row's logits follow at least one output token."""
        return len(self.output) > 0

    @property
    def trains(self) -> bool:
        """A resumed request replays its prompt first, perhaps in chunks; it trains after that."""
        return len(self.output) > self.resumed_at


@dataclass(slots=True)
class _Filtered:
    """The rows whose filter or first temperature is ours, and their settings on the device."""

    rows: Tensor  # (k,)
    temperature: Tensor  # (k, 1)
    rescale: Tensor  # (k, 1): 1, or temperature / fire_temperature for a first token
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    filters: bool


class Runtime:
    """State of the plugin in one worker.

    Args:
        hidden: Width of the model's hidden states.
        device: Where the model runs.
    """

    def __init__(self, hidden: int, device: torch.device) -> None:
        self.groups = Groups(hidden, device)
        self.rows: dict[int, BatchRow] = {}
        self._hidden = hidden
        self._device = device
        self._batch_size = 0
        self._armed = False
        self._planned: tuple[object, Plan] | None = None
        self._filtered: tuple[object, _Filtered | None] | None = None
        self._delta: dict[int, Tensor] = {}
        self._faults = 0

    def observe(self, scheduled: Any) -> None:
        """Let requests join and leave their groups (`scheduled` is vLLM's SchedulerOutput)."""
        new = {request.req_id: request.sampling_params for request in scheduled.scheduled_new_reqs}
        for request_id in scheduled.finished_req_ids & new.keys():
            self.groups.leave(request_id)  # aborted, and submitted again under the same id
        for request_id, params in new.items():
            asked = read_admitted(params) if params is not None else None
            if asked is not None and asked.esamp is not None:
                self.groups.join(request_id, asked.group, asked.esamp)
        for request_id in scheduled.finished_req_ids - new.keys():
            self.groups.leave(request_id)

    def begin(self, batch_size: int | None) -> None:
        """A step is about to run, with `batch_size` rows (None: as many as before)."""
        if batch_size is not None:
            self._batch_size = batch_size
        self._armed = bool(self.rows)
        self._delta = {}

    def compute_logits(self, states: Tensor, project: ComputeLogits) -> Tensor | None:
        """Logits of `states`, (rows, 2 hidden) or (rows, hidden), by way of `project`."""
        if states.shape[-1] != 2 * self._hidden:
            return project(states)
        hL = states[:, : self._hidden].contiguous()
        plan = self._plan() if self._armed and len(states) == self._batch_size else None
        self._armed = False
        if plan is None or not plan.parts:
            return project(hL)
        try:
            return self._mixed_logits(plan, states[:, self._hidden :], hL, project)
        except Exception:  # noqa: BLE001 - a step must never fail a request; counted and logged
            self._break_off(plan)
            return project(hL)

    def _mixed_logits(
        self, plan: Plan, h1: Tensor, hL: Tensor, project: ComputeLogits
    ) -> Tensor | None:
        mixed, pending = self.groups.mix(plan, h1, hL)
        states = hL.clone()
        for rows, values in mixed:
            states[rows] = values.to(states.dtype)
        logits = project(states)
        self._keep_deltas(logits, hL, project)
        self.groups.learn(plan, pending)
        return logits

    def _keep_deltas(self, logits: Tensor | None, hL: Tensor, project: ComputeLogits) -> None:
        """Keep `mixed - reference` logits of the mixed rows that are filtered; see `apply`."""
        wanted = [
            index
            for index, row in self.rows.items()
            if row.decodes and row.asked.filter is not None and row.asked.filter.filters
        ]
        if not wanted:
            return
        reference = project(hL[wanted])  # every rank takes part in its gather
        if logits is not None and reference is not None:
            delta = logits[wanted].float() - reference.float()
            self._delta = dict(zip(wanted, delta, strict=True))

    def _break_off(self, plan: Plan) -> None:
        self.groups.break_off(plan)
        self._delta = {}
        if not self._faults:
            log.exception("ESamp step failed; its groups sample plainly from now on")
        self._faults += 1

    def _plan(self) -> Plan:
        """The plan of this step; laid out anew only when rows or groups have changed."""
        live = [(i, r) for i, r in self.rows.items() if r.asked.esamp is not None and r.decodes]
        signature = (self.groups.version, tuple((i, r.trains, r.asked.group) for i, r in live))
        if self._planned is None or self._planned[0] != signature:
            rows = [self._row(index, row) for index, row in live]
            self._planned = (signature, self.groups.plan(rows))
        return self._planned[1]

    @staticmethod
    def _row(index: int, row: BatchRow) -> Row:
        esamp = row.asked.esamp
        assert esamp is not None  # noqa: S101 - `_plan` takes no other rows
        key: GroupKey = (row.asked.group, esamp.distiller)
        return Row(index, key, esamp.beta, esamp.fusion, row.trains)

    def apply(self, logits: Tensor) -> Tensor:
        """Heat first tokens and take filters on the reference.

        Args:
            logits: (rows, vocabulary), float32, penalised, masked and divided by the temperature.
        """
        ours = self._filtered_rows()
        if ours is None:
            return logits
        values = logits[ours.rows] * ours.rescale
        if ours.filters:
            reference = values - self._deltas(ours, values) / ours.temperature
            kept = keep_mask(reference, ours.top_k, ours.top_p, ours.min_p)
            values = values.masked_fill(~kept, -torch.inf)
        logits[ours.rows] = values
        return logits

    def _deltas(self, ours: _Filtered, like: Tensor) -> Tensor:
        deltas = torch.zeros_like(like)
        for place, index in enumerate(ours.rows.tolist()) if self._delta else ():
            if index in self._delta:
                deltas[place] = self._delta[index]
        return deltas

    def _filtered_rows(self) -> _Filtered | None:
        mine = [(i, r) for i, r in self.rows.items() if r.asked.filter is not None]
        signature = tuple((i, r.decodes, r.asked) for i, r in mine)
        if self._filtered is None or self._filtered[0] != signature:
            self._filtered = (signature, self._lay_out_filters(mine))
        return self._filtered[1]

    def _lay_out_filters(self, mine: Sequence[tuple[int, BatchRow]]) -> _Filtered | None:
        settings = [(i, r.asked.filter, _rescale(r)) for i, r in mine]
        used = [(i, f, s) for i, f, s in settings if f is not None and (f.filters or s != 1)]
        if not used:
            return None
        floats = partial(torch.tensor, device=self._device, dtype=torch.float32)
        column = [f for _, f, _ in used]
        return _Filtered(
            rows=torch.tensor([i for i, _, _ in used], device=self._device),
            temperature=floats([[f.temperature] for f in column]),
            rescale=floats([[s] for _, _, s in used]),
            top_k=torch.tensor([f.top_k for f in column], device=self._device),
            top_p=floats([f.top_p for f in column]),
            min_p=floats([f.min_p for f in column]),
            filters=any(f.filters for f in column),
        )


def _rescale(row: BatchRow) -> float:
    """What a row's logits, divided by its temperature, are multiplied with."""
    fire, chosen = row.asked.fire_temperature, row.asked.filter
    if fire is None or chosen is None or row.decodes:
        return 1.0
    return chosen.temperature / fire


# vLLM hands the same VllmConfig object to worker, runner, loader and logits processor
_runtimes: dict[int, Runtime] = {}


def runtime_of(vllm_config: Any) -> Runtime | None:
    """The runtime of the engine that `vllm_config` belongs to, if its model can be captured."""
    return _runtimes.get(id(vllm_config))


def open_runtime(vllm_config: Any) -> Runtime:
    """Make the runtime of the engine that `vllm_config` belongs to; it ends with the config."""
    hidden = vllm_config.model_config.get_hidden_size()
    runtime = Runtime(hidden, torch.device(vllm_config.device_config.device))
    _runtimes[id(vllm_config)] = runtime
    weakref.finalize(vllm_config, _runtimes.pop, id(vllm_config), None)
    return runtime
