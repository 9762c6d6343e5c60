"""What a distiller costs by count, and that the formulas are those of the code."""

from __future__ import annotations

import pytest
import torch

from ttscale.errors import InvalidInput
from ttscale.esamp import cost, ridge, speed, swiglu, vocab
from ttscale.esamp.groups import MAX_BYTES, Groups
from ttscale.esamp.ridge import RidgeDistiller
from ttscale.esamp.settings import DISTILLERS, ESamp
from ttscale.esamp.swiglu import SwiGLUDistiller

CPU = torch.device("cpu")
EMBEDDED, WIDE = 576, 4096


@pytest.mark.parametrize("hidden", [64, EMBEDDED])
def test_the_formula_is_what_the_distillers_hold(hidden: int) -> None:
    """The documented bytes are those of the tensors of one slot."""
    held = {
        "ridge": RidgeDistiller(hidden, CPU).slots.bytes_per_slot,
        "swiglu": SwiGLUDistiller(hidden, CPU).slots.bytes_per_slot,
        "vocab": SwiGLUDistiller(hidden, CPU).slots.bytes_per_slot,
    }

    assert {kind: cost.bytes_per_group(kind, hidden) for kind in DISTILLERS} == held
    assert cost.RIDGE_FEATURES == ridge.FEATURES
    assert (cost.SWIGLU_WIDTH, cost.SWIGLU_BLOCKS) == (swiglu.WIDTH, swiglu.BLOCKS)
    assert cost.VOCAB_ROWS_AT_ONCE == vocab.ROWS_AT_ONCE


def test_the_default_is_small() -> None:
    """Under 0.5 MB at the embedded model's width, under 4 MB at 4,096."""
    default = ESamp().distiller

    assert cost.bytes_per_group(default, EMBEDDED) < 500_000
    assert RidgeDistiller(WIDE, CPU).slots.bytes_per_slot < 4_000_000


def test_a_thousand_live_prompts_fit_into_the_bound() -> None:
    """All of them get a distiller, and what is held together stays under the bound."""
    groups = Groups(EMBEDDED, CPU)
    for place in range(1000):
        groups.join(str(place), f"prompt-{place}", ESamp())

    assert groups.live == 1000
    assert groups.bytes_held <= MAX_BYTES


@pytest.mark.parametrize("distiller", DISTILLERS)
def test_the_cost_grows_linearly_in_prompts(distiller: str) -> None:
    """Twice the groups is at most twice the work and traffic."""
    one, two = (cost.step_cost(distiller, EMBEDDED, groups, 16, 49152) for groups in (8, 16))

    assert two.flop == 2 * one.flop
    assert one.bytes_moved < two.bytes_moved <= 2 * one.bytes_moved


def test_the_floor_is_the_share_of_the_models_own_time() -> None:
    """A distiller that takes a tenth of the model's time leaves 10/11 of the throughput."""
    model, distiller = cost.Cost(1000.0, 10.0), cost.Cost(100.0, 1.0)

    assert cost.floor_ratio(model, distiller, 1.0, 1.0) == pytest.approx(10 / 11)
    assert cost.Cost(10.0, 40.0).seconds(2.0, 4.0) == 10.0


def test_an_unknown_distiller_is_refused() -> None:
    """The message says what there is."""
    with pytest.raises(
        InvalidInput, match="distiller must be one of ridge, swiglu, vocab; got 'mlp'"
    ):
        cost.bytes_per_group("mlp", 8)


def test_learning_through_the_head_adds_three_products_with_it() -> None:
    """Beside swiglu's work, 6 operations a row and weight of the head; its size must be told."""
    plain, through = (cost.step_cost(k, 64, 2, 16, 1000) for k in ("swiglu", "vocab"))

    assert through.flop - plain.flop == 6 * 2 * 16 * 1000 * 64
    assert through.bytes_moved > plain.bytes_moved + 4 * 2 * 1000 * 64
    with pytest.raises(InvalidInput, match="vocabulary must be a whole number of at least 1"):
        cost.step_cost("vocab", 64, 1, 1)


def test_the_machines_speed_is_measured() -> None:
    """Both rates are positive and finite on whatever machine this is."""
    assert 0 < speed.flop_rate() < float("inf")
    assert 0 < speed.byte_rate() < float("inf")
