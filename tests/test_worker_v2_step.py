"""A step of Model Runner V2 with fakes at vLLM's edge: slots, rows that move, filters, faults."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ttscale.worker import processor as processor_module
from ttscale.worker.processor import ESampProcessor
from ttscale.worker.request import admit
from ttscale.worker.runtime import Runtime

HIDDEN, VOCABULARY, PROMPT = 8, 20, 5
HEAD = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(0))
CONTEXT = SimpleNamespace()  # V2's, of which the processor reads nothing
# an untrained one predicts h1, which pushes hard
PUSH = {"esamp_distiller": "swiglu", "esamp_gate": 0}


def batch(*rows: tuple[int, int, int, int]) -> SimpleNamespace:
    """What is read of V2's InputBatch, for rows (slot, computed, scheduled, prefill)."""
    slots, computed, scheduled, prefill = (np.array(column) for column in zip(*rows, strict=True))
    return SimpleNamespace(
        num_reqs=len(rows),
        idx_mapping_np=slots,
        num_computed_tokens_np=computed,
        num_scheduled_tokens=scheduled,
        prefill_len_np=prefill,
        is_prefilling_np=computed < prefill,
    )


class Worker:
    """A runtime and its logits processor, driven as V2's runner drives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = Runtime(HIDDEN, torch.device("cpu"))
        monkeypatch.setattr(processor_module, "runtime_of", lambda _: self.runtime)
        self.processor = ESampProcessor(SimpleNamespace(), SimpleNamespace())
        self.projections = 0

    def add(self, slot: int, request: str, params: Any) -> bool:
        """A request enters a slot; whether the processor wants to see its logits."""
        new = [SimpleNamespace(req_id=request, sampling_params=params)]
        self.runtime.observe(SimpleNamespace(scheduled_new_reqs=new, finished_req_ids=set()))
        return self.processor.add_request(slot, params)

    def project(self, states: Tensor) -> Tensor:
        """The LM head, counted."""
        self.projections += 1
        return states @ HEAD.T

    def step(self, *rows: tuple[int, int, int, int], seed: int = 0) -> list[int]:
        """One step of rows (slot, computed, scheduled, prefill); which of them are mixed."""
        self.runtime.place(batch(*rows), [PROMPT] * len(rows))
        draw = torch.Generator().manual_seed(seed)
        self.states = torch.randn(len(rows), 2 * HIDDEN, generator=draw)
        logits = self.runtime.compute_logits(self.states, self.project)
        if logits is None:
            raise AssertionError("the head gave no logits")
        self.logits, self.reference = logits, self.states[:, :HIDDEN] @ HEAD.T
        same = torch.isclose(logits, self.reference, atol=1e-5).all(dim=1)
        return [index for index, unchanged in enumerate(same.tolist()) if not unchanged]

    @property
    def steps_trained(self) -> int:
        """Training steps of all groups."""
        return self.runtime.groups.total().steps_trained


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A fresh worker."""
    return Worker(monkeypatch)


def admitted(beta: float = 1.0, **fields: Any) -> SimpleNamespace:
    """Admitted parameters of a request that asks for a distiller with a strong push."""
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    extra = {"esamp_beta": beta, **PUSH, **fields.pop("extra", {})}
    params = SimpleNamespace(extra_args=extra, **{**defaults, **fields})
    admit(params)
    return params


PLAIN = SimpleNamespace(extra_args=None, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
DECODE = (PROMPT, 1, PROMPT)  # computed, scheduled, prefill of a row that decodes


def test_rows_follow_their_slots_in_every_step(worker: Worker) -> None:
    """The order of a batch says nothing about the order of the next one."""
    worker.add(3, "a", admitted())
    worker.add(1, "b", PLAIN)
    worker.add(0, "c", admitted())

    assert worker.step((3, *DECODE), (1, *DECODE), (0, *DECODE)) == [0, 2]
    assert worker.step((1, *DECODE), (0, *DECODE), (3, *DECODE), seed=1) == [1, 2]
    assert worker.step((1, *DECODE), seed=2) == []
    assert worker.steps_trained == 4


def test_members_of_a_group_keep_their_strengths_when_rows_swap(worker: Worker) -> None:
    """Two members of one group push differently, wherever they stand."""
    worker.add(0, "a", admitted(beta=0.0, extra={"esamp_group": "g"}))
    worker.add(1, "b", admitted(beta=1.0, extra={"esamp_group": "g"}))

    assert worker.step((0, *DECODE), (1, *DECODE)) == [1]
    assert worker.step((1, *DECODE), (0, *DECODE), seed=1) == [0]


def test_a_slot_forgets_its_last_request(worker: Worker) -> None:
    """A plain request that gets the slot of an ESamp one is not mixed."""
    worker.add(2, "a", admitted())
    assert worker.step((2, *DECODE)) == [0]
    worker.add(2, "b", PLAIN)

    assert worker.step((2, *DECODE), seed=1) == []


def test_prompts_are_not_mixed_and_resumed_requests_replay_first(worker: Worker) -> None:
    """Mixing starts after the first token; a replay mixes its last row alone, and trains later."""
    worker.add(0, "a", admitted())

    assert worker.step((0, 0, 3, PROMPT)) == []  # a chunk of the prompt
    assert worker.step((0, 3, 2, PROMPT)) == []  # its end, which gives the first token
    assert worker.step((0, 0, 4, PROMPT + 2)) == []  # resumed: a chunk, whose token is dropped
    assert worker.step((0, 4, 3, PROMPT + 2)) == [0]  # its end, which follows the last output
    assert worker.steps_trained == 0
    assert worker.step((0, PROMPT + 2, 1, PROMPT + 2)) == [0]
    assert worker.steps_trained == 1


@pytest.mark.parametrize(
    ("params", "wanted"),
    [
        (PLAIN, False),
        (admitted(), False),
        (admitted(top_k=5), True),
        (admitted(beta=0.0, top_k=5), False),  # the filter stays with vLLM
        (admitted(beta=0.0, extra={"fire_temperature": 9.0}), True),
    ],
)
def test_only_filters_and_first_temperatures_need_the_processor(
    worker: Worker, params: Any, wanted: bool
) -> None:
    """V2 skips the work on logits when no processor wants to see any of the batch."""
    assert worker.add(0, "a", params) is wanted


def nucleus(logits: Tensor, mass: float) -> list[int]:
    """Tokens that top-p keeps."""
    ordered, order = logits.softmax(0).sort(descending=True)
    return sorted(order[ordered.cumsum(0) - ordered < mass].tolist())


def test_the_filter_is_taken_before_the_temperature(worker: Worker) -> None:
    """V2 divides by the temperature afterwards; top-p is still that of the tempered reference."""
    worker.add(0, "a", admitted(top_p=0.6, temperature=2.0))
    others = []
    for seed in range(4):
        worker.step((0, *DECODE), seed=seed)
        found = worker.processor.apply(worker.logits.clone(), CONTEXT)[0].isfinite()
        kept = found.nonzero().flatten().tolist()
        reference, mixed = worker.reference[0], worker.logits[0]
        assert kept == nucleus(reference / 2.0, 0.6)
        others.append((kept != nucleus(reference, 0.6), kept != nucleus(mixed / 2.0, 0.6)))

    assert all(any(different) for different in zip(*others, strict=True))


def test_a_first_token_is_heated_before_the_temperature(worker: Worker) -> None:
    """The later division by the temperature leaves it divided by the first temperature."""
    worker.add(0, "a", admitted(beta=0.0, temperature=0.5, extra={"fire_temperature": 10.0}))
    worker.step((0, 0, PROMPT, PROMPT))
    raw = torch.randn(1, VOCABULARY)

    assert torch.allclose(worker.processor.apply(raw.clone(), CONTEXT) / 0.5, raw / 10.0)
    worker.step((0, *DECODE))
    assert torch.equal(worker.processor.apply(raw.clone(), CONTEXT), raw)


def test_a_fault_projects_as_often_as_a_good_step(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each projection gathers over the tensor parallel ranks, so no rank may leave one out."""
    worker.add(0, "a", admitted(top_k=3))
    worker.step((0, *DECODE))
    good, worker.projections = worker.projections, 0

    def broken(*_: object) -> None:
        raise ValueError("wrong shape")

    with monkeypatch.context() as patch:
        patch.setattr(worker.runtime.groups, "mix", broken)
        assert worker.step((0, *DECODE), seed=1) == []
    faulty, worker.projections = worker.projections, 0
    assert worker.step((0, *DECODE), seed=2) == []

    assert good == faulty == worker.projections == 2
    assert len(caplog.records) == 1


def test_adapters_see_whole_batches(worker: Worker) -> None:
    """With LoRA the head finds each row's adapter by its place, so every call has every row."""
    worker.runtime = Runtime(HIDDEN, torch.device("cpu"), whole=True)
    seen: list[int] = []

    def project(states: Tensor) -> Tensor:
        seen.append(len(states))
        return states @ HEAD.T

    worker.project = project  # type: ignore[method-assign]
    worker.add(0, "a", admitted(top_k=1))
    worker.add(1, "b", PLAIN)
    assert worker.step((1, *DECODE), (0, *DECODE)) == [1]
    filtered = worker.processor.apply(worker.logits, CONTEXT)

    assert seen == [2, 2]
    assert filtered[1].isfinite().nonzero().tolist() == [[int(worker.reference[1].argmax())]]
    assert filtered[0].isfinite().all()


def test_a_step_reads_no_value_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On torch's `meta` device, which holds no values, whatever made a GPU wait would raise."""
    worker, meta = Worker(monkeypatch), torch.device("meta")
    worker.runtime = Runtime(HIDDEN, meta)
    worker.add(0, "a", admitted(top_k=3, top_p=0.9))
    worker.add(1, "b", admitted(beta=0.0, extra={"fire_temperature": 10.0}))
    head = torch.empty(VOCABULARY, HIDDEN, device=meta)
    for slots in ((0, 1), (1, 0), (1, 0)):
        states = torch.empty(2, 2 * HIDDEN, device=meta)
        worker.runtime.place(batch(*((slot, *DECODE) for slot in slots)), [PROMPT] * 2)
        logits = worker.runtime.compute_logits(states, lambda states: states @ head.T)
        assert logits is not None
        assert worker.processor.apply(logits, CONTEXT).is_meta
    finished = SimpleNamespace(scheduled_new_reqs=[], finished_req_ids={"a", "b"})
    worker.runtime.observe(finished)

    assert worker.runtime.groups.live == 0
