"""The worker's side of one engine: groups, the rows of the current batch, and the step itself."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ttscale.esamp.bank import Pending
from ttscale.esamp.endings import Endings, Head
from ttscale.esamp.fusion import keep_mask
from ttscale.esamp.groups import GroupKey, Groups, Plan, Row
from ttscale.esamp.transfer import on_device
from ttscale.worker.request import Asked, read_admitted
from ttscale.worker.rows import StepRow, placed

log = logging.getLogger(__name__)

ComputeLogits = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, slots=True)
class _Filtered:
    """The rows whose filter or first temperature is ours, and their settings on the device."""

    rows: Tensor  # (k,)
    temperature: Tensor  # (k, 1)
    rescale: Tensor  # (k, 1): 1, or temperature / fire_temperature for a first token
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    most: int | None  # the largest top_k, where no row has a top_p
    mixed: Tensor  # (k, 1): whether the row's logits are re-weighted
    filters: bool
    mixes: bool  # whether any row is both filtered and re-weighted


class Runtime:
    """State of the plugin in one worker.

    Args:
        hidden: Width of the model's hidden states.
        device: Where the model runs.
        whole: Whether logits must be projected for all rows of a step together, since the
            projection finds each row's LoRA adapter by its place.
        head: The LM head, for distillers that learn through it; see `head.plain_head`.
        endings: The model's end tokens, which the push may not make likelier.
    """

    def __init__(
        self,
        hidden: int,
        device: torch.device,
        *,
        whole: bool = False,
        head: Head | None = None,
        endings: Endings | None = None,
    ) -> None:
        self.groups = Groups(hidden, device, head=head)
        self.rows: Mapping[int, StepRow] = {}
        self.slots: dict[int, Asked] = {}  # V2 only: what the request in each slot asks
        self._hidden = hidden
        self._device = device
        self._whole = whole
        self._batch_size = 0
        self._armed = False
        self._endings = endings or Endings([], device, lambda: None)
        self._planned: tuple[object, Plan, Tensor | None] | None = None
        self._filtered: tuple[object, _Filtered | None] | None = None
        self._delta: tuple[_Filtered, Tensor] | None = None
        self._faults = 0

    def observe(self, scheduled: Any) -> None:
        """Let requests join and leave their groups (`scheduled` is vLLM's SchedulerOutput)."""
        new = {request.req_id: request.sampling_params for request in scheduled.scheduled_new_reqs}
        # sorted: every rank of a tensor parallel group must give its groups the same places
        for request_id in sorted(scheduled.finished_req_ids & new.keys()):
            self.groups.leave(request_id)  # aborted, and submitted again under the same id
        for request_id, params in new.items():
            asked = read_admitted(params) if params is not None else None
            if asked is not None and asked.esamp is not None:
                self.groups.join(request_id, asked.group, asked.esamp)
                # the tokenizer's own end token, which a model's configuration may leave out
                if (token := getattr(params, "eos_token_id", None)) is not None:
                    self._endings.add(token)
        for request_id in sorted(scheduled.finished_req_ids - new.keys()):
            self.groups.leave(request_id)

    def place(self, batch: Any, prompt_lengths: Sequence[int]) -> None:
        """V2, before the logits of a step are made; see `rows.placed`."""
        self.rows = placed(self.slots, batch, prompt_lengths)
        self.begin(batch.num_reqs)

    def begin(self, batch_size: int | None) -> None:
        """A step is about to run, with `batch_size` rows (None: as many as before)."""
        if batch_size is not None:
            self._batch_size = batch_size
        self._armed = bool(self.rows)
        self._delta = None

    def compute_logits(self, states: Tensor, project: ComputeLogits) -> Tensor | None:
        """Logits of `states`, (rows, 2 hidden) or (rows, hidden), by way of `project`."""
        if states.shape[-1] != 2 * self._hidden:
            return project(states)
        with self.groups.clock.phase("capture"):
            hL = states[:, : self._hidden].contiguous()
        steps = self._armed and len(states) == self._batch_size
        self._armed = False
        if not steps:
            return project(hL)
        return self._step_logits(states[:, self._hidden :], hL, project)

    def _step_logits(self, h1: Tensor, hL: Tensor, project: ComputeLogits) -> Tensor | None:
        """The step itself.

        How often it projects depends on the rows alone, never on a fault: every projection is a
        collective operation of all tensor parallel ranks.
        """
        plan, holds = self._plan()
        mixed, pending = self._mix(plan, h1, hL)
        logits = project(mixed)
        whole = self._whole
        if holds is not None:
            reference = None
            if self._endings.needs_reference():
                reference, whole = project(hL), True
                project = partial(_again, reference)
            if logits is not None:  # None on a rank that does not sample
                self._hold(plan, logits, mixed, hL, holds, reference)
        self._keep_deltas(logits, hL, project, whole)
        self._learn(plan, pending)
        return logits

    def _hold(
        self,
        plan: Plan,
        logits: Tensor,
        mixed: Tensor,
        hL: Tensor,
        holds: Tensor,
        reference: Tensor | None,
    ) -> None:
        """Take back what the push added to the end tokens' logits."""
        try:
            with self.groups.clock.phase("mix"):
                self._endings.hold(logits, mixed - hL, holds, reference)
        except Exception:  # noqa: BLE001 - as in `_mix`
            self._break_off(plan)

    def _mix(self, plan: Plan, h1: Tensor, hL: Tensor) -> tuple[Tensor, Sequence[Pending]]:
        """The states to project, and what is left to learn from; a fault leaves hL and nothing."""
        if not plan.parts:
            return hL, ()
        try:
            mixed, pending = self.groups.mix(plan, h1, hL)
            states = hL.clone()
            for rows, values in mixed:
                states[rows] = values.to(states.dtype)
        except Exception:  # noqa: BLE001 - a step must never fail a request; counted and logged
            self._break_off(plan)
            return hL, ()
        return states, pending

    def _learn(self, plan: Plan, pending: Sequence[Pending]) -> None:
        if not pending:
            return
        try:
            self.groups.learn(plan, pending)
        except Exception:  # noqa: BLE001 - as in `_mix`
            self._break_off(plan)

    def _keep_deltas(
        self, logits: Tensor | None, hL: Tensor, project: ComputeLogits, whole: bool
    ) -> None:
        """Keep `mixed - reference` logits of the mixed rows that are filtered; see `apply`."""
        ours = self._filtered_rows()
        if ours is None or not ours.mixes:
            return
        reference = project(hL if whole else hL[ours.rows])
        if logits is None or reference is None:  # a rank that does not sample
            return
        if whole:
            reference = reference[ours.rows]
        delta = logits[ours.rows].float() - reference.float()
        self._delta = ours, torch.where(ours.mixed, delta, 0.0)

    def _break_off(self, plan: Plan) -> None:
        self.groups.break_off(plan)
        if not self._faults:
            log.exception("ESamp step failed; its groups sample plainly from now on")
        self._faults += 1

    def _plan(self) -> tuple[Plan, Tensor | None]:
        """The plan of this step and the rows whose end is held, (rows, 1), None for no row.

        Laid out anew only when rows or groups have changed.
        """
        live = [(i, r) for i, r in self.rows.items() if r.asked.esamp is not None and r.decodes]
        signature = (
            self.groups.version,
            self._batch_size,
            tuple((i, r.trains, r.asked) for i, r in live),
        )
        if self._planned is None or self._planned[0] != signature:
            rows = [self._row(index, row) for index, row in live]
            self._planned = (signature, self.groups.plan(rows), self._held(live))
        return self._planned[1:]

    def _held(self, live: Sequence[tuple[int, StepRow]]) -> Tensor | None:
        asked = [(i, r.asked.esamp) for i, r in live if r.asked.esamp is not None]
        held = {i for i, esamp in asked if esamp.hold_eos and esamp.beta > 0}
        if not (self._endings.known and held):
            return None
        marks = [[float(place in held)] for place in range(self._batch_size)]
        return on_device(marks, self._device, torch.float32)

    @staticmethod
    def _row(index: int, row: StepRow) -> Row:
        esamp = row.asked.esamp
        assert esamp is not None  # noqa: S101 - `_plan` takes no other rows
        key: GroupKey = (row.asked.group, esamp.distiller)
        return Row(index, key, esamp.beta, esamp.fusion, row.trains, esamp.gate)

    def apply(self, logits: Tensor, *, tempered: bool = True) -> Tensor:
        """Heat first tokens and take filters on the reference.

        Args:
            logits: (rows, vocabulary), float32, penalised and masked.
            tempered: Whether they are divided by the temperature already (V1), or will be (V2).
        """
        ours = self._filtered_rows()
        if ours is None:
            return logits
        values = logits[ours.rows] * ours.rescale
        if ours.filters:
            reference = values if tempered else values / ours.temperature
            if self._delta is not None and self._delta[0] is ours:
                reference = reference - self._delta[1] / ours.temperature
            kept = keep_mask(reference, ours.top_k, ours.top_p, ours.min_p, ours.most)
            values = values.masked_fill(~kept, -torch.inf)
        logits[ours.rows] = values
        return logits

    def _filtered_rows(self) -> _Filtered | None:
        mine = [(i, r) for i, r in self.rows.items() if r.asked.filter is not None]
        signature = tuple((i, r.decodes, r.asked) for i, r in mine)
        if self._filtered is None or self._filtered[0] != signature:
            self._filtered = (signature, self._lay_out_filters(mine))
        return self._filtered[1]

    def _lay_out_filters(self, mine: Sequence[tuple[int, StepRow]]) -> _Filtered | None:
        settings = [(i, r.asked.filter, _rescale(r), _mixes(r)) for i, r in mine]
        used = [(i, f, s, m) for i, f, s, m in settings if f is not None and (f.filters or s != 1)]
        if not used:
            return None
        floats = partial(on_device, device=self._device, dtype=torch.float32)
        whole = partial(on_device, device=self._device, dtype=torch.long)
        column = [f for _, f, _, _ in used]
        return _Filtered(
            rows=whole([i for i, _, _, _ in used]),
            temperature=floats([[f.temperature] for f in column]),
            rescale=floats([[s] for _, _, s, _ in used]),
            top_k=whole([f.top_k for f in column]),
            top_p=floats([f.top_p for f in column]),
            min_p=floats([f.min_p for f in column]),
            most=None if any(f.top_p < 1 for f in column) else max(f.top_k for f in column),
            mixed=on_device([[m] for _, _, _, m in used], self._device, torch.bool),
            filters=any(f.filters for f in column),
            mixes=any(f.filters and m for _, f, _, m in used),
        )


def _again(logits: Tensor | None, _: Tensor) -> Tensor | None:
    """The logits that were projected already."""
    return logits


def _mixes(row: StepRow) -> bool:
    """Whether the row's logits are re-weighted, if nothing has gone wrong."""
    return row.decodes and row.asked.esamp is not None


def _rescale(row: StepRow) -> float:
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


def open_runtime(vllm_config: Any, head: Head, end_tokens: Sequence[int]) -> Runtime:
    """Make the runtime of the engine that `vllm_config` belongs to; it ends with the config."""
    hidden = vllm_config.model_config.get_hidden_size()
    device = torch.device(vllm_config.device_config.device)
    whole = vllm_config.lora_config is not None
    endings = Endings(end_tokens, device, head)
    runtime = Runtime(hidden, device, whole=whole, head=head, endings=endings)
    _runtimes[id(vllm_config)] = runtime
    weakref.finalize(vllm_config, _runtimes.pop, id(vllm_config), None)
    return runtime
