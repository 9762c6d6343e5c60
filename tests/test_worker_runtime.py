"""The worker's step with fakes at vLLM's edge: rows, pass-through, faults, filters."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

from ttscale.esamp.endings import Endings
from ttscale.worker import processor as processor_module
from ttscale.worker.processor import ESampProcessor
from ttscale.worker.request import admit
from ttscale.worker.runtime import Runtime

HIDDEN, VOCABULARY = 8, 20
HEAD = torch.randn(VOCABULARY, HIDDEN, generator=torch.Generator().manual_seed(0))


class Worker:
    """A runtime and its logits processor, driven as V1's runner drives them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = Runtime(HIDDEN, torch.device("cpu"))
        monkeypatch.setattr(processor_module, "runtime_of", lambda _: self.runtime)
        self.processor = ESampProcessor(SimpleNamespace(), torch.device("cpu"), False)
        self.projected: list[Tensor] = []

    def add(self, *rows: tuple[int, str, Any, list[int]], size: int) -> None:
        """Requests (row, id, parameters, output) enter; the batch then has `size` rows."""
        new = [SimpleNamespace(req_id=i, sampling_params=p) for _, i, p, _ in rows]
        self.runtime.observe(SimpleNamespace(scheduled_new_reqs=new, finished_req_ids=set()))
        self.update(size, added=[(row, p, [1, 2], output) for row, _, p, output in rows])

    def update(self, size: int, **changes: Any) -> None:
        """The persistent batch changes."""
        parts = {"removed": [], "added": [], "moved": [], **changes}
        self.processor.update_state(BatchUpdate(batch_size=size, **parts))

    def finish(self, *ids: str) -> None:
        """Requests end."""
        self.runtime.observe(SimpleNamespace(scheduled_new_reqs=[], finished_req_ids=set(ids)))

    def project(self, states: Tensor) -> Tensor:
        """The LM head; remembers what it was given."""
        self.projected.append(states)
        return states @ HEAD.T

    def step(self, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """One step without changes of the batch: (hL, logits)."""
        self.processor.update_state(None)
        return self.logits(rows, seed)

    def logits(self, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The call of compute_logits: (hL, logits)."""
        draw = torch.Generator().manual_seed(seed)
        states = torch.randn(rows, 2 * HIDDEN, generator=draw)
        logits = self.runtime.compute_logits(states, self.project)
        if logits is None:
            raise AssertionError("the head gave no logits")
        return states[:, :HIDDEN], logits

    @property
    def steps_trained(self) -> int:
        """Training steps of all groups."""
        return self.runtime.groups.total().steps_trained


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A fresh worker."""
    return Worker(monkeypatch)


def admitted(beta: float = 1.0, group: str = "g", **fields: Any) -> SimpleNamespace:
    """Admitted parameters of a request that asks for ESamp."""
    defaults = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    extra = {"esamp_beta": beta, "esamp_group": group, "esamp_gate": 0, **fields.pop("extra", {})}
    params = SimpleNamespace(extra_args=extra, **{**defaults, **fields})
    admit(params)
    return params


def plain() -> SimpleNamespace:
    """Parameters of a request that asks for nothing."""
    return SimpleNamespace(extra_args=None, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)


def changed_rows(hL: Tensor, logits: Tensor) -> list[int]:
    """Rows whose logits are not the reference's."""
    return [i for i in range(len(hL)) if not torch.allclose(logits[i], hL[i] @ HEAD.T, atol=1e-5)]


def test_only_decode_rows_of_requests_that_ask_are_mixed(worker: Worker) -> None:
    """Prefill rows and plain requests see the reference; decode rows are mixed and train."""
    worker.add((0, "a", admitted(), []), (1, "b", plain(), [5]), (2, "c", admitted(), []), size=3)
    worker.processor._rows[2].output.append(7)  # type: ignore[attr-defined]
    worker.step(3)
    hL, logits = worker.step(3, seed=1)

    assert changed_rows(hL, logits) == [2]
    assert worker.steps_trained == 2


@pytest.mark.parametrize(
    ("plain_head", "hold", "projections"),
    [(True, 1, 1), (False, 1, 2), (True, 0, 1), (False, 0, 1)],
)
def test_ends_are_held_without_a_projection_where_the_head_is_a_matrix(
    worker: Worker, plain_head: bool, hold: int, projections: int
) -> None:
    """Elsewhere the reference is projected too; a request that does not ask pays nothing."""
    end = 3
    find = (lambda: HEAD) if plain_head else (lambda: None)
    worker.runtime = Runtime(
        HIDDEN, torch.device("cpu"), endings=Endings([end], torch.device("cpu"), find)
    )
    params = admitted(beta=4.0, extra={"esamp_hold_eos": hold})
    worker.add((0, "a", params, [5]), (1, "b", plain(), [5]), size=2)
    gains = []
    for seed in range(20):
        worker.projected.clear()
        hL, logits = worker.step(2, seed)
        change = logits - hL @ HEAD.T
        assert len(worker.projected) == projections
        assert torch.allclose(change[1], torch.zeros(VOCABULARY), atol=1e-5)
        other = int(logits[0].index_fill(0, torch.tensor(end), -torch.inf).argmax())
        gains.append(float(change[0, end] - change[0, other]))

    assert (max(gains) <= 1e-4) == bool(hold)


def test_a_held_row_that_is_filtered_too_projects_its_reference_once(worker: Worker) -> None:
    """The filter is taken on the reference that held the end."""
    cpu = torch.device("cpu")
    worker.runtime = Runtime(HIDDEN, cpu, endings=Endings([3], cpu, lambda: None))
    worker.add((0, "a", admitted(top_k=2), [5]), size=1)
    hL, logits = worker.step(1)
    kept = worker.processor.apply(logits.clone())[0] > -torch.inf

    assert len(worker.projected) == 2
    assert set(kept.nonzero().flatten().tolist()) == set((hL @ HEAD.T)[0].topk(2).indices.tolist())


def test_a_row_without_a_push_has_no_end_to_hold(worker: Worker) -> None:
    """With beta 0 nothing is projected twice, and no logit is written."""
    cpu = torch.device("cpu")
    worker.runtime = Runtime(HIDDEN, cpu, endings=Endings([3], cpu, lambda: None))
    worker.add((0, "a", admitted(beta=0.0), [5]), size=1)
    hL, logits = worker.step(1)

    assert len(worker.projected) == 1
    assert torch.equal(logits, hL @ HEAD.T)


def test_a_request_starts_to_decode_with_its_first_token(worker: Worker) -> None:
    """The live output list decides, without any change of the batch."""
    output: list[int] = []
    worker.add((0, "a", admitted(), output), size=1)
    worker.step(1)
    assert worker.steps_trained == 0
    output.append(3)
    worker.step(1, seed=1)

    assert worker.steps_trained == 1


def test_a_resumed_request_does_not_train_while_it_replays(worker: Worker) -> None:
    """After preemption the prompt and outputs run again, in chunks whose tokens are dropped."""
    output = [4, 5]
    worker.add((0, "a", admitted(), output), size=1)
    worker.step(1)
    worker.step(1, seed=1)
    assert worker.steps_trained == 0
    output.append(6)
    worker.step(1, seed=2)

    assert worker.steps_trained == 1


def test_rows_are_followed_through_removals_and_moves(worker: Worker) -> None:
    """The batch shrinks and reorders; strengths stay with their requests."""
    worker.add(
        (0, "a", admitted(), [1]),
        (1, "b", plain(), [1]),
        (2, "c", admitted(group="h"), [1]),
        size=3,
    )
    worker.step(3)
    move, swap = MoveDirectionality.UNIDIRECTIONAL, MoveDirectionality.SWAP
    worker.update(2, removed=[0], moved=[(2, 0, move)])
    worker.finish("a")
    hL, logits = worker.logits(2, seed=1)
    assert changed_rows(hL, logits) == [0]
    worker.update(2, moved=[(0, 1, swap)])
    hL, logits = worker.logits(2, seed=2)

    assert changed_rows(hL, logits) == [1]
    assert worker.runtime.groups.live == 1


def test_calls_that_are_no_step_see_the_reference(worker: Worker) -> None:
    """Dummy runs and prompt log-probabilities neither mix nor train."""
    worker.add((0, "a", admitted(), [1]), size=1)
    worker.step(1)
    trained = worker.steps_trained
    for rows in (1, 5):
        hL, logits = worker.logits(rows, seed=rows)
        assert changed_rows(hL, logits) == []
    narrow = torch.randn(3, HIDDEN)

    assert worker.steps_trained == trained
    assert worker.runtime.compute_logits(narrow, worker.project) is not None


def test_a_fault_falls_back_and_fails_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The step gives the reference's logits; the group stays plain; it is logged once."""
    worker.add((0, "a", admitted(), [1]), size=1)
    worker.step(1)

    def broken(*_: object) -> None:
        raise ValueError("wrong shape")

    with monkeypatch.context() as patch:
        patch.setattr(worker.runtime.groups, "mix", broken)
        hL, logits = worker.step(1, seed=1)
    after = worker.step(1, seed=2)

    assert changed_rows(hL, logits) == []
    assert changed_rows(*after) == []
    assert worker.runtime.groups.total().fallbacks == {"exception": 1}
    assert len(caplog.records) == 1


def test_the_filter_sees_the_reference_and_masks_the_mixed(worker: Worker) -> None:
    """With top-k 1 the one survivor is the reference's likeliest token, at any beta."""
    swiglu = {"esamp_distiller": "swiglu"}  # an untrained one predicts h1, which pushes hard
    asked = admitted(beta=4.0, top_k=1, temperature=0.7, extra=swiglu)
    worker.add((0, "a", asked, [1]), size=1)
    hits = 0
    for seed in range(6):
        hL, logits = worker.step(1, seed)
        reference = int((hL @ HEAD.T).argmax())
        hits += int(logits.argmax() != reference)
        filtered = worker.processor.apply(logits / 0.7)
        assert filtered.isfinite().nonzero().tolist() == [[0, reference]]

    assert hits > 0  # the push did move the likeliest token, so the filter had work to do


def test_a_first_token_is_heated_alone(worker: Worker) -> None:
    """The prefill row is divided by the first temperature, decode rows by the second."""
    output: list[int] = []
    asked = admitted(beta=0.0, temperature=0.5, extra={"fire_temperature": 10.0})
    worker.add((0, "a", asked, output), size=1)
    raw = torch.randn(1, VOCABULARY)
    first = worker.processor.apply(raw / 0.5)
    assert torch.allclose(first, raw / 10.0, atol=1e-6)
    output.append(1)

    assert torch.allclose(worker.processor.apply(raw / 0.5), raw / 0.5)


def test_a_request_that_returns_under_its_id_is_a_new_one(worker: Worker) -> None:
    """Aborted and submitted again in one step: it leaves, then joins."""
    worker.add((0, "a", admitted(), [1]), size=1)
    again = SimpleNamespace(req_id="a", sampling_params=admitted(group="h"))
    worker.runtime.observe(SimpleNamespace(scheduled_new_reqs=[again], finished_req_ids={"a"}))

    assert worker.runtime.groups.live == 1
    assert worker.runtime.groups.report("group:h") is not None
