"""The push says what a sample means, not when it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ttscale.errors import InvalidInput
from ttscale.esamp.endings import Endings, argmax
from ttscale.esamp.settings import ESamp

CPU = torch.device("cpu")
HIDDEN, VOCABULARY = 6, 30
ENDS = [2, 11]


def pushed(seed: int, rows: int = 5, beta: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """A head, reference states, and mixed states that lie `beta` random steps away."""
    draw = torch.Generator().manual_seed(seed)
    head = torch.randn(VOCABULARY, HIDDEN, generator=draw)
    reference = torch.randn(rows, HIDDEN, generator=draw)
    return head, reference, reference + beta * torch.randn(rows, HIDDEN, generator=draw)


def held(seed: int, *, plain: bool = True, holds: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the reference, of the mixed states, and of these with their end held."""
    head, reference, mixed = pushed(seed)
    endings = Endings(ENDS, CPU, lambda: head if plain else None)
    before, found = reference @ head.T, mixed @ head.T
    marks = torch.full((len(mixed), 1), holds)
    endings.hold(found, mixed - reference, marks, None if plain else before)
    return before, mixed @ head.T, found


def likeliest_other(logits: Tensor) -> Tensor:
    """The likeliest token of each row that is no end token, (rows, 1)."""
    return logits.clone().index_fill_(1, torch.tensor(ENDS), -torch.inf).argmax(1, keepdim=True)


@given(seed=st.integers(0, 2**31))
def test_no_end_token_gains_on_the_likeliest_other(seed: int) -> None:
    """Its odds against the token that leads the mixed distribution are at most the reference's."""
    before, mixed, found = held(seed)
    other = likeliest_other(mixed)
    odds = found[:, ENDS] - found.gather(1, other)

    assert bool((odds <= before[:, ENDS] - before.gather(1, other) + 1e-3).all())


@given(seed=st.integers(0, 2**31))
def test_all_else_is_as_it_was_mixed(seed: int) -> None:
    """Other tokens keep their logits, and an end token that lost keeps its loss."""
    before, mixed, found = held(seed)
    others = [token for token in range(VOCABULARY) if token not in ENDS]
    other = likeliest_other(mixed)
    gained = mixed[:, ENDS] - before[:, ENDS]
    allowed = mixed.gather(1, other) - before.gather(1, other)
    expected = mixed[:, ENDS] - (gained - allowed).clamp_min(0)

    assert torch.equal(found[:, others], mixed[:, others])
    torch.testing.assert_close(found[:, ENDS], expected, atol=1e-3, rtol=1e-4)


@given(seed=st.integers(0, 2**31))
def test_without_a_matrix_the_reference_gives_the_same(seed: int) -> None:
    """A head that is split or quantised is projected twice in place of read."""
    torch.testing.assert_close(held(seed, plain=False)[2], held(seed)[2], atol=1e-3, rtol=1e-4)


@given(seed=st.integers(0, 2**31), size=st.sampled_from([1, 7, 30, 256, 384, 1024, 1187]))
def test_the_likeliest_token_is_found_by_blocks(seed: int, size: int) -> None:
    """As torch finds it, whatever the vocabulary's size; of equal ones it is the first."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randint(-50, 50, (4, size), generator=draw).float()

    assert torch.equal(argmax(logits), logits.argmax(dim=1))


def test_rows_that_do_not_ask_are_left_alone() -> None:
    """Plain rows of the batch, and requests with `hold_eos` off."""
    _, mixed, found = held(1, holds=0.0)

    assert torch.equal(found, mixed)


def test_the_head_is_asked_for_once() -> None:
    """Finding it tries it on states, which waits for the device."""
    calls: list[int] = []
    head, reference, mixed = pushed(0)

    def find() -> Tensor:
        calls.append(1)
        return head

    endings = Endings(ENDS, CPU, find)
    for _ in range(3):
        assert not endings.needs_reference()
        endings.hold(mixed @ head.T, mixed - reference, torch.ones(len(mixed), 1))

    assert calls == [1]


def test_end_tokens_may_be_known_later() -> None:
    """The tokenizer's own end token is told by the first request; it is held like the others."""
    head, reference, mixed = pushed(0)
    endings = Endings([], CPU, lambda: head)
    assert not endings.known
    endings.add(ENDS[1])
    endings.add(*ENDS)
    found = mixed @ head.T
    endings.hold(found, mixed - reference, torch.ones(len(mixed), 1))

    assert endings.known
    assert torch.equal(found, held(0)[2])


def test_a_sample_does_not_end_because_it_went_on() -> None:
    """The case that made the rule: what was said often is pushed down, the end with it.

    Of two tokens the reference prefers the one that the distiller predicts. Eq. 7 alone makes the
    end the likeliest; held, it has the reference's odds.
    """
    head = torch.eye(2)  # token 0 goes on, token 1 ends
    reference, predicted = torch.tensor([[2.0, 1.0]]), torch.tensor([[5.0, -3.0]])
    mixed = reference + 0.25 * (reference - predicted)
    logits = mixed @ head.T
    assert logits[0, 1] > logits[0, 0]

    Endings([1], CPU, lambda: head).hold(logits, mixed - reference, torch.ones(1, 1))
    assert float(logits[0, 1] - logits[0, 0]) == pytest.approx(-1.0)


def test_it_is_a_flag_also_over_http() -> None:
    """1 and 0 stand for true and false; anything else is refused with what is allowed."""
    assert ESamp().hold_eos
    assert ESamp.from_keys({"esamp_hold_eos": 0}) == ESamp(hold_eos=False)
    assert ESamp(hold_eos=False).to_keys()["esamp_hold_eos"] == 0
    with pytest.raises(InvalidInput, match="esamp_hold_eos must be true or false"):
        ESamp.from_keys({"esamp_hold_eos": "no"})


@pytest.mark.engine
@pytest.mark.parametrize(
    ("config", "generation", "expected"),
    [
        (2, None, (2,)),
        ([7, 2], {"eos_token_id": 9}, (2, 7, 9)),
        (None, {"eos_token_id": [5, 3]}, (3, 5)),
        (None, {}, ()),
        (500, {"eos_token_id": 1}, (1,)),
    ],
)
def test_end_tokens_are_the_models_own(
    config: Any, generation: Any, expected: tuple[int, ...]
) -> None:
    """Those of its configuration and of its generation settings, inside the vocabulary."""
    from ttscale.worker.head import end_tokens

    model = SimpleNamespace(
        hf_text_config=SimpleNamespace(eos_token_id=config),
        try_get_generation_config=lambda: generation,
        get_vocab_size=lambda: 100,
    )

    assert end_tokens(model) == expected
