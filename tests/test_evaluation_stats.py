"""Intervals, tests and frontiers: known answers, and what the error rates come to."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttscale.errors import InvalidInput
from ttscale.evaluation import frontier, stats


def test_the_interval_of_a_constant_is_that_constant() -> None:
    """Where nothing varies there is no doubt."""
    drawn = stats.resample(10, 0, 200)
    found = stats.mean_interval(np.full(10, 0.3), drawn)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))


def test_the_interval_is_about_that_of_the_normal_law() -> None:
    """For many problems the percentile interval comes to mean and two standard errors."""
    values = np.random.default_rng(0).normal(1.0, 2.0, 400)
    found = stats.mean_interval(values, stats.resample(400, 1, 4000))
    error = values.std(ddof=1) / 20
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of 300 populations' intervals at least 270 hold the true mean."""
    dice = np.random.default_rng(2)
    held = 0
    for seed in range(300):
        found = stats.mean_interval(
            (dice.random(60) < 0.3).astype(float), stats.resample(60, seed, 400)
        )
        held += found.low <= 0.3 <= found.high
    assert held >= 270


def test_unknown_values_are_left_out() -> None:
    """A problem where a figure does not exist counts for nothing."""
    values = np.array([1.0, math.nan, 3.0])
    found = stats.mean_interval(values, stats.resample(3, 0, 500))
    assert found.value == 2.0
    assert 1.0 <= found.low <= found.high <= 3.0
    assert math.isnan(stats.mean_interval(np.full(2, math.nan), stats.resample(2, 0, 5)).value)


def test_sign_flip_is_exact_for_few_problems() -> None:
    """Of 32 sign patterns two are as extreme as five equal differences."""
    assert stats.sign_flip(np.ones(5), 0) == pytest.approx(2 / 32)
    assert stats.sign_flip(np.zeros(5), 0) == 1.0


def test_sign_flip_rejects_a_true_null_one_time_in_twenty() -> None:
    """Of 400 pairs of samplers without a difference about 20 seem to have one."""
    dice = np.random.default_rng(3)
    rejected = sum(
        stats.sign_flip(dice.normal(size=30), seed, flips=500) < 0.05 for seed in range(400)
    )
    assert 6 <= rejected <= 36


def test_a_real_difference_is_found_and_pairing_helps() -> None:
    """A small shift hidden under large differences between problems."""
    dice = np.random.default_rng(4)
    hard = dice.random(80)
    found = stats.paired(
        hard + 0.05 + dice.normal(0, 0.02, 80), hard, stats.resample(80, 0, 500), 0
    )
    assert found.interval.value == pytest.approx(0.05, abs=0.01)
    assert found.interval.excludes_zero
    assert found.p < 0.001
    assert 0 < found.detectable < 0.02


def test_detectable_difference_is_the_textbook_formula() -> None:
    """2.80 standard errors: 1.96 for the test, 0.84 for a power of 80 %."""
    values = np.array([0.0, 1.0] * 50)
    found = stats.paired(values, np.zeros(100), stats.resample(100, 0, 10), 0)
    assert found.detectable == pytest.approx(2.8016 * values.std(ddof=1) / 10, rel=1e-4)


def test_holm_by_hand() -> None:
    """The worked example: 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06; an unknown one stays."""
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    found = stats.holm([0.5, math.nan, 0.02])
    assert found[0] == 0.5
    assert math.isnan(found[1])
    assert found[2] == pytest.approx(0.04)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_raises_only(ps: list[float]) -> None:
    """No corrected value is below its own, none above 1, and smaller stays smaller."""
    found = stats.holm(ps)
    assert all(p <= q <= 1 for p, q in zip(ps, found, strict=True))
    ranked = sorted(zip(ps, found, strict=True))
    assert [q for _, q in ranked] == sorted(q for _, q in ranked)


def test_replicates_on_one_side_give_a_small_p() -> None:
    """All above zero is the smallest p there is; half and half is 1."""
    assert stats.replicate_p(np.linspace(1, 999, 999)) == pytest.approx(2 / 1000)
    assert stats.replicate_p(np.array([-1.0, 1.0])) == 1.0
    assert stats.replicate_p(np.zeros(50)) == 1.0


@pytest.mark.parametrize(("problems", "count"), [(0, 10), (5, 0)])
def test_empty_resamples_are_refused(problems: int, count: int) -> None:
    """There is nothing to resample, or nothing to do it for."""
    with pytest.raises(InvalidInput):
        stats.resample(problems, 0, count)


def test_a_band_holds_its_curve() -> None:
    """At every point the mean lies between the ends."""
    curve = np.random.default_rng(0).random((30, 4))
    mean, low, high = stats.curve_band(curve, stats.resample(30, 0, 200))
    assert mean == pytest.approx(curve.mean(axis=0))
    assert (low <= mean).all()
    assert (mean <= high).all()


def test_the_frontier_drops_what_is_beaten() -> None:
    """A point inside, one beaten in both, and one below the line between its neighbours."""
    quality = np.array([0.1, 0.2, 0.3, 0.05, 0.2])
    gain = np.array([10.0, 9.0, 5.0, 8.0, 6.0])
    q, g = frontier.frontier(quality, gain)
    assert q.tolist() == [0.1, 0.2, 0.3]
    assert g.tolist() == [10.0, 9.0, 5.0]
    q, g = frontier.frontier(np.array([0.1, 0.2, 0.3]), np.array([10.0, 6.0, 5.0]))
    assert q.tolist() == [0.1, 0.3]


@given(
    st.lists(
        st.tuples(st.floats(0, 1, width=16), st.floats(1, 9, width=16)), min_size=1, max_size=7
    )
)
def test_no_point_lies_above_its_frontier(points: list[tuple[float, float]]) -> None:
    """The frontier is concave, falls, and is nowhere below a point that it stands for."""
    quality, gain = (np.array(part, dtype=float) for part in zip(*points, strict=True))
    q, g = frontier.frontier(quality, gain)
    assert (np.diff(q) > 0).all()
    assert (np.diff(g) < 0).all()
    assert (np.interp(quality, q, g) >= gain - 1e-9).all()


def test_a_family_equals_itself() -> None:
    """The distance of a frontier from itself is zero, in every resample."""
    dice = np.random.default_rng(0)
    quality, gain = dice.random((3, 20)), dice.random((3, 20))
    found = frontier.compare(quality, gain, quality, gain, stats.resample(20, 0, 50))
    assert (found.interval.value, found.interval.low, found.interval.high) == (0, 0, 0)
    assert found.p == 1.0


def test_more_diversity_at_the_same_quality_is_found() -> None:
    """A constant gain over all temperatures is that gain, whatever the quality does."""
    dice = np.random.default_rng(1)
    quality = np.sort(dice.random((4, 50)), axis=0)
    gain = 9 - 4 * quality + dice.normal(0, 0.1, (4, 50))
    found = frontier.compare(quality, gain + 1.5, quality, gain, stats.resample(50, 0, 200))
    assert found.interval.value == pytest.approx(1.5)
    assert found.interval.excludes_zero
    assert found.p < 0.02


def test_a_sharper_sampler_gains_nothing_at_matched_quality() -> None:
    """What only moves along the frontier, as a lower temperature does, is no gain."""
    heat = np.linspace(0, 1, 5)
    quality = np.repeat((0.4 - 0.3 * heat)[:, None], 30, axis=1)
    gain = np.repeat((4 + 4 * heat)[:, None], 30, axis=1)
    found = frontier.compare(
        quality[:4], gain[:4], quality[1:], gain[1:], stats.resample(30, 0, 20)
    )
    assert abs(found.interval.value) < 0.6
    value, overlap = frontier.distance(quality[:4, 0], gain[:4, 0], quality[:, 0], gain[:, 0])
    assert overlap[1] == pytest.approx(0.4)
    assert value <= 0


def test_the_best_setting_is_chosen_again_in_each_resample() -> None:
    """Two families of noise: the difference of their best is not shown."""
    dice = np.random.default_rng(5)
    one, two = ((dice.random((5, 60)) < 0.3).astype(float) for _ in range(2))
    found = frontier.compare_best(one, two, stats.resample(60, 0, 400))
    assert found.p > 0.05
    assert found.interval.low < found.interval.value < found.interval.high
