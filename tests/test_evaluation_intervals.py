"""Wilson intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale.errors import InvalidInput
from ttscale.evaluation import wilson


def test_known_interval() -> None:
    """Ten of twenty, from the closed form worked by hand."""
    assert wilson(10, 20) == pytest.approx((0.29930, 0.70070), abs=1e-5)


def test_nothing_is_known_without_trials() -> None:
    """No trials leave every share possible."""
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_share_and_mirrors(trial: tuple[int, int]) -> None:
    """The share lies inside, the bounds inside [0, 1]; counting misses mirrors the interval."""
    right, total = trial
    low, high = wilson(right, total)
    assert 0 <= low <= right / total <= high <= 1
    assert wilson(total - right, total) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("right", "total"), [(3, 2), (-1, 2), (0, -1)])
def test_impossible_counts_are_refused(right: int, total: int) -> None:
    """More right than there were trials, or fewer than none, is an error."""
    with pytest.raises(InvalidInput):
        wilson(right, total)
