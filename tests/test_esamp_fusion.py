"""Fusion and token filters, against the equations and a plain reference."""

from __future__ import annotations

import math

import pytest
import torch

from ttscale.esamp.fusion import FUSION_CODES, directions, keep_mask

ROWS, HIDDEN, VOCABULARY = 5, 8, 40


def some_states() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """hL, a prediction of it, and an LM head."""
    draw = torch.Generator().manual_seed(0)
    hL = torch.randn(ROWS, HIDDEN, generator=draw)
    predicted = torch.randn(ROWS, HIDDEN, generator=draw)
    return hL, predicted, torch.randn(VOCABULARY, HIDDEN, generator=draw)


def codes(name: str) -> torch.Tensor:
    """The same fusion for every row."""
    return torch.full((ROWS,), FUSION_CODES[name])


@pytest.mark.parametrize("beta", [0.0, 0.25, 1.5])
def test_latent_mixing_equals_equation_7(beta: float) -> None:
    """One projection of the mixed state gives `(1 + b) ref - b dist`, computed in float64."""
    hL, predicted, head = some_states()
    mixed = hL + beta * directions(hL, predicted, codes("mix"), None)
    reference = hL.double() @ head.double().T
    distilled = predicted.double() @ head.double().T
    expected = (1 + beta) * reference - beta * distilled

    assert torch.allclose((mixed @ head.T).double(), expected, atol=1e-4)


def test_subtraction_takes_the_distilled_logits_off() -> None:
    """The ablation `subtract` gives `ref - b dist`."""
    hL, predicted, head = some_states()
    mixed = hL + 0.5 * directions(hL, predicted, codes("subtract"), None)

    assert torch.allclose(mixed @ head.T, (hL - 0.5 * predicted) @ head.T, atol=1e-5)


def test_noise_is_as_long_as_the_error_and_points_elsewhere() -> None:
    """The ablation `noise` keeps the error's norm and drops its direction."""
    hL, predicted, _ = some_states()
    noise = torch.randn(ROWS, HIDDEN, generator=torch.Generator().manual_seed(1))
    pushed = directions(hL, predicted, codes("noise"), noise)
    error = hL - predicted

    assert torch.allclose(pushed.norm(dim=1), error.norm(dim=1), atol=1e-5)
    assert (torch.cosine_similarity(pushed, error).abs() < 0.95).all()


def test_each_row_takes_its_own_fusion() -> None:
    """Rows of one batch may ask for different fusions."""
    hL, predicted, _ = some_states()
    mixed_codes = torch.tensor([0, 1, 0, 1, 0])
    found = directions(hL, predicted, mixed_codes, None)

    assert torch.equal(found[0], hL[0] - predicted[0])
    assert torch.equal(found[1], -predicted[1])


def survivors(logits: list[float], k: int, p: float, min_p: float) -> list[bool]:
    """Which tokens survive, one at a time: min-p, then top-k, then top-p on what is left."""
    alive = set(range(len(logits)))
    probability = [math.exp(x) for x in logits]
    alive = {i for i in alive if probability[i] >= min_p * max(probability)}
    if k > 0:
        smallest = sorted((logits[i] for i in alive), reverse=True)[: min(k, len(alive))][-1]
        alive = {i for i in alive if logits[i] >= smallest}
    total, mass = sum(probability[i] for i in alive), 0.0
    kept: set[int] = set()
    for i in sorted(alive, key=lambda i: -logits[i]):
        if mass < p * total or not kept:
            kept.add(i)
        mass += probability[i]
    return [i in kept for i in range(len(logits))]


@pytest.mark.parametrize("k", [0, 1, 5])
@pytest.mark.parametrize("p", [1.0, 0.7, 0.01])
@pytest.mark.parametrize("min_p", [0.0, 0.1, 1.0])
def test_the_filter_keeps_what_the_plain_rules_keep(k: int, p: float, min_p: float) -> None:
    """Rows with different settings in one batch keep what min-p, top-k, top-p keep one by one."""
    logits = 2 * torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(5))
    settings = [(k, p, min_p), (0, 1.0, 0.0), (3, 0.5, 0.05)]
    mask = keep_mask(
        logits,
        torch.tensor([s[0] for s in settings]),
        torch.tensor([s[1] for s in settings]),
        torch.tensor([s[2] for s in settings]),
    )
    expected = [survivors(row.tolist(), *s) for row, s in zip(logits, settings, strict=True)]

    assert mask.tolist() == expected


def test_a_masked_token_is_never_kept_by_the_filter() -> None:
    """Tokens that a grammar has set to minus infinity do not come back."""
    logits = torch.full((1, 6), -torch.inf)
    logits[0, 2], logits[0, 4] = 1.0, 0.5
    mask = keep_mask(logits, torch.tensor([5]), torch.tensor([1.0]), torch.tensor([0.0]))

    assert mask.tolist() == [[False, False, True, False, True, False]]


@pytest.mark.parametrize("min_p", [0.0, 0.02])
@pytest.mark.parametrize("top_k", [(0, 0, 0, 0, 0), (1, 3, 7, 0, 7), (40, 2, 2, 5, 16)])
def test_without_a_nucleus_the_same_tokens_are_kept_unsorted(
    top_k: tuple[int, ...], min_p: float
) -> None:
    """Told that no row has a top_p, the filter need not sort, and keeps what it kept, ties too."""
    draw = torch.Generator().manual_seed(3)
    logits = torch.randint(-9, 9, (ROWS, VOCABULARY), generator=draw) / 2
    logits[:, 5:9] = -torch.inf
    settings = torch.tensor(top_k), torch.ones(ROWS), torch.full((ROWS,), min_p)
    sorted_out = keep_mask(logits, *settings)

    assert torch.equal(keep_mask(logits, *settings, most=max(top_k)), sorted_out)
