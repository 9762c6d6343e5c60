"""The two distillers: what they compute, against slower and plainer ways to compute it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ttscale.esamp import swiglu
from ttscale.esamp.distiller import Distiller
from ttscale.esamp.ridge import BIAS_RIDGE, RIDGE, RidgeDistiller
from ttscale.esamp.swiglu import SwiGLUDistiller
from ttscale.esamp.vocab import divergence

CPU = torch.device("cpu")
HIDDEN = 12
HEAD = torch.randn(30, HIDDEN, generator=torch.Generator().manual_seed(5))
KINDS: dict[str, Callable[[], Distiller]] = {
    "ridge": lambda: RidgeDistiller(HIDDEN, CPU, features=8),
    "swiglu": lambda: SwiGLUDistiller(HIDDEN, CPU, width=6),
    "vocab": lambda: SwiGLUDistiller(HIDDEN, CPU, width=6, loss=divergence(HEAD)),
}


def build(kind: str, groups: int) -> Distiller:
    """A bank of `groups` fresh distillers, each from its own seed."""
    distiller = KINDS[kind]()
    distiller.slots.reserve(groups)
    for slot in range(groups):
        distiller.reset(slot, seed=slot)
    return distiller


def states(groups: int, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random h1 and an hL that depends on it."""
    draw = torch.Generator().manual_seed(seed)
    h1 = torch.randn(groups, rows, HIDDEN, generator=draw)
    weight = torch.randn(HIDDEN, HIDDEN, generator=draw)
    return h1, torch.tanh(h1 @ weight) + 0.5


def step(distiller: Distiller, h1: Tensor, hL: Tensor, mask: Tensor) -> None:
    """One prediction and the update that follows it."""
    distiller.update(distiller.predict(h1), hL, mask)


@settings(deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), seed=st.integers(0, 999))
def test_ridge_equals_the_direct_solution_after_any_sequence(sizes: list[int], seed: int) -> None:
    """After steps of any sizes the weights are those of ridge regression on all rows at once."""
    ridge = RidgeDistiller(HIDDEN, CPU, features=8)
    ridge.slots.reserve(1)
    ridge.reset(0, 0)
    phis, targets = [], []
    for place, rows in enumerate(sizes):
        h1, hL = states(1, rows, seed + place)
        step(ridge, h1, hL, torch.ones(1, rows))
        phis.append(ridge.features(h1)[0].double())
        targets.append(hL[0].double())

    phi, y = torch.cat(phis), torch.cat(targets)
    prior = torch.full((phi.shape[1],), RIDGE, dtype=torch.float64)
    prior[-1] = BIAS_RIDGE
    gram = prior.diag() + phi.T @ phi
    direct = torch.linalg.solve(gram, phi.T @ y)

    assert torch.allclose(ridge.slots["W"][0].double(), direct, atol=1e-4)


def test_ridge_stays_exact_over_long_outputs() -> None:
    """After 500 steps of 16 rows the weights still are the direct solution, P still symmetric."""
    ridge = RidgeDistiller(HIDDEN, CPU, features=8)
    ridge.slots.reserve(1)
    ridge.reset(0, 0)
    prior = torch.full((9,), RIDGE, dtype=torch.float64)
    prior[-1] = BIAS_RIDGE
    gram, cross = prior.diag(), torch.zeros(9, HIDDEN, dtype=torch.float64)
    for place in range(500):
        h1, hL = states(1, 16, place)
        step(ridge, h1, hL, torch.ones(1, 16))
        phi = ridge.features(h1)[0].double()
        gram += phi.T @ phi
        cross += phi.T @ hL[0].double()
    P, direct = ridge.slots["P"][0].double(), torch.linalg.solve(gram, cross)

    assert (ridge.slots["W"][0] - direct).norm() < 1e-3 * direct.norm()
    assert (P - P.T).norm() < 1e-3 * P.norm()
    assert torch.linalg.eigvalsh(P).min() > 0


def test_swiglu_is_the_written_formula() -> None:
    """Two residual blocks `x + W_down(silu(W_gate x) * W_up x)`, nothing else (Eq. 3)."""
    distiller = SwiGLUDistiller(HIDDEN, CPU, width=6)
    distiller.slots.reserve(1)
    distiller.slots["theta"].normal_(generator=torch.Generator().manual_seed(3))
    w_in, w_down = distiller.split(distiller.slots["theta"])
    h1, _ = states(1, 5)

    x = h1[0]
    for block in range(swiglu.BLOCKS):
        gate, up = (x @ w_in[0, block]).chunk(2, dim=-1)
        x = x + (torch.nn.functional.silu(gate) * up) @ w_down[0, block]

    assert torch.allclose(distiller.predict(h1).hL[0], x, atol=1e-5)


def squared_distance(predicted: Tensor, hL: Tensor) -> Tensor:
    """Eq. 10 of each row."""
    return (hL - predicted).square().sum(-1)


def kl_divergence(predicted: Tensor, hL: Tensor) -> Tensor:
    """KL(softmax(W hL) || softmax(W f)) of each row, by torch."""
    distilled, reference = (
        torch.log_softmax(states @ HEAD.T, dim=-1) for states in (predicted, hL)
    )
    each = torch.nn.functional.kl_div(distilled, reference, reduction="none", log_target=True)
    return each.sum(-1)


LOSSES = {"swiglu": squared_distance, "vocab": kl_divergence}


@pytest.mark.parametrize("kind", LOSSES)
def test_training_equals_autograd_clipping_and_torch_adam(kind: str) -> None:
    """Ten steps give the parameters that autograd, clip_grad_norm_ and torch's Adam give."""
    mine = build(kind, 1)
    theta = torch.nn.Parameter(mine.slots["theta"].clone())
    adam = torch.optim.Adam([theta], lr=swiglu.LEARNING_RATE, eps=swiglu.EPS)
    mask = torch.ones(1, 4)
    for place in range(10):
        h1, hL = states(1, 4, place)
        step(mine, h1, 5 * hL, mask)
        reference = SwiGLUDistiller(HIDDEN, CPU, width=6)
        w_in, w_down = reference.split(theta)
        x = h1
        for block in range(swiglu.BLOCKS):
            gate, up = torch.bmm(x, w_in[:, block]).chunk(2, dim=-1)
            x = x + torch.bmm(torch.nn.functional.silu(gate) * up, w_down[:, block])
        loss = LOSSES[kind](x, 5 * hL).mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([theta], swiglu.CLIP)
        adam.step()

    assert torch.allclose(mine.slots["theta"], theta.detach(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_training_groups_together_equals_training_them_apart(kind: str) -> None:
    """Batching over groups, with padding between them, changes no group's result."""
    together = build(kind, 3)
    apart = [build(kind, 3) for _ in range(3)]
    counts = [4, 1, 3]
    mask = torch.tensor([[1.0] * c + [0.0] * (4 - c) for c in counts])
    for place in range(6):
        h1, hL = states(3, 4, place)
        h1, hL = h1 * mask.unsqueeze(-1), hL * mask.unsqueeze(-1)
        step(together, h1, hL, mask)
        for group, count in enumerate(counts):
            alone = mask * 0
            alone[group, :count] = 1
            only = alone.unsqueeze(-1)
            step(apart[group], h1 * only, hL * only, alone)

    h1, _ = states(3, 4, 99)
    for group in range(3):
        expected = apart[group].predict(h1).hL[group]
        assert torch.allclose(together.predict(h1).hL[group], expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_without_rows_keeps_everything(kind: str) -> None:
    """A step in which a group has no row leaves its tensors bit for bit as they were."""
    distiller = build(kind, 2)
    h1, hL = states(2, 3)
    step(distiller, h1, hL, torch.ones(2, 3))
    names = ("P", "W") if kind == "ridge" else ("theta", "m", "v", "step")
    before = {name: distiller.slots[name][1].clone() for name in names}
    mask = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    step(distiller, h1 * mask.unsqueeze(-1), hL, mask)

    assert all(torch.equal(distiller.slots[name][1], before[name]) for name in names)


def test_the_gradient_through_the_head_is_autograds_whatever_the_number_of_rows() -> None:
    """More rows than are done at once, some of them padding: each row's slope is its own."""
    h1, hL = states(5, 40)
    predicted = h1.clone().requires_grad_()
    kl_divergence(predicted, hL).sum().backward()  # type: ignore[no-untyped-call]
    slope, _ = divergence(HEAD)(h1, hL)

    assert predicted.grad is not None
    assert torch.allclose(slope, predicted.grad, atol=1e-5)


def test_the_divergence_is_told_relative_to_knowing_nothing() -> None:
    """0 for the right state, 1 for a state of zeros, and between them the share of KL."""
    _, hL = states(1, 6)
    uniform = kl_divergence(torch.zeros_like(hL), hL)
    found = [divergence(HEAD)(f, hL)[1] for f in (hL, torch.zeros_like(hL), 0.5 * hL)]
    expected = [0 * uniform, uniform / uniform, kl_divergence(0.5 * hL, hL) / uniform]

    for error, share in zip(found, expected, strict=True):
        assert error is not None
        assert torch.allclose(error, share, atol=1e-5)


def test_the_divergence_falls_on_states_that_stay_the_same() -> None:
    """400 steps on fixed states leave a fraction of the divergence that there was."""
    distiller = build("vocab", 1)
    (h1, hL), mask = states(1, 16), torch.ones(1, 16)
    told = [distiller.update(distiller.predict(h1), hL, mask) for _ in range(400)]
    first, last = (error.mean() for error in (told[0], told[-1]) if error is not None)

    assert last < 0.5 * first


@pytest.mark.parametrize(("kind", "steps", "bound"), [("ridge", 60, 0.55), ("swiglu", 1500, 0.8)])
def test_the_error_falls_while_it_learns(kind: str, steps: int, bound: float) -> None:
    """On a mapping that can be learned the relative error falls well below its start."""
    distiller = build(kind, 1)
    mask = torch.ones(1, 16)
    errors = []
    for place in range(steps):
        draw = torch.Generator().manual_seed(place)
        h1 = torch.randn(1, 16, HIDDEN, generator=draw)
        hL = torch.tanh(h1.roll(1, dims=-1)) + 0.5
        made = distiller.predict(h1)
        errors.append(float((hL - made.hL).norm() / hL.norm()))
        distiller.update(made, hL, mask)

    assert errors[-1] < bound * errors[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_distiller(kind: str) -> None:
    """Resetting two slots from one seed and training them alike leaves them equal."""
    distiller = KINDS[kind]()
    distiller.slots.reserve(2)
    distiller.reset(0, seed=7)
    distiller.reset(1, seed=7)
    h1, hL = states(1, 4)
    step(distiller, h1.repeat(2, 1, 1), hL.repeat(2, 1, 1), torch.ones(2, 4))
    made = distiller.predict(h1.repeat(2, 1, 1)).hL

    assert torch.equal(made[0], made[1])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ridge", 4 * (9 * 9 + 9 * HIDDEN)),
        ("swiglu", 4 * (4 * 6 * HIDDEN * 6 + 1)),
        ("vocab", 4 * (4 * 6 * HIDDEN * 6 + 1)),
    ],
)
def test_the_memory_formula_equals_the_bytes_held(kind: str, expected: int) -> None:
    """One slot holds what the class's docstring says."""
    assert KINDS[kind]().slots.bytes_per_slot == expected
