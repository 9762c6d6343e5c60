"""What a caller may ask of ESamp, and what is refused with which words."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ttscale.errors import InvalidInput
from ttscale.esamp.settings import ESamp


def test_settings_survive_the_flat_keys() -> None:
    """What is written into request keys is read back equal."""
    settings = ESamp(beta=0.5, group="g-1", distiller="swiglu", fusion="noise", seed=3)

    assert ESamp.from_keys({**settings.to_keys(), "other": 1}) == settings


def test_a_request_without_our_keys_asks_for_nothing() -> None:
    """Keys of other extensions are not ours to judge."""
    assert ESamp.from_keys({"other": 1}) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"esamp_beta": -3}, "esamp_beta must be a number in [0, 4], got -3"),
        ({"esamp_beta": math.nan}, "esamp_beta must be a number in [0, 4], got nan"),
        ({"esamp_beta": "0.25"}, "esamp_beta must be a number in [0, 4], got '0.25'"),
        ({"esamp_beta": True}, "esamp_beta must be a number in [0, 4], got True"),
        ({"esamp_scope": "all"}, "esamp_scope must be one of prompt, shared; got 'all'"),
        (
            {"esamp_distiller": "mlp"},
            "esamp_distiller must be one of ridge, swiglu, vocab; got 'mlp'",
        ),
        ({"esamp_fusion": ["mix"]}, "esamp_fusion must be one of mix, noise, subtract"),
        ({"esamp_group": "a b"}, "esamp_group must be 1 to 128 letters, digits or ._:-"),
        ({"esamp_group": "x" * 129}, "esamp_group must be 1 to 128 letters"),
        ({"esamp_group": "g", "esamp_scope": "shared"}, "exclude each other"),
        ({"esamp_seed": 1.5}, "esamp_seed must be a whole number from 0 to"),
        ({"esamp_betta": 1}, "unknown key esamp_betta; allowed are esamp_beta"),
    ],
)
def test_a_bad_key_is_refused_with_the_legal_range(keys: dict[str, Any], words: str) -> None:
    """The message says what was given and what is allowed."""
    with pytest.raises(InvalidInput) as caught:
        ESamp.from_keys(keys)

    assert words in str(caught.value)
