from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import floats
from scipy.stats import t as student
from torch import Tensor

from slatewise.ope.intervals import (
    combined_variance,
    estimate_ratio,
    independent_variance,
    jackknife_variance,
    range_interval,
    symmetric_interval,
)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_jackknife_leaves_each_trajectory_out() -> None:
    earned, total = numbers(4.0, 4.0, 1.0), numbers(2.5, 0.8, 1.7)
    value = 9 / 5
    left_out = [5 / 2.5, 5 / 4.2, 8 / 3.3]
    assert jackknife_variance(earned, total) == pytest.approx(2 / 3 * sum((one - value) ** 2 for one in left_out))


def test_one_trajectory_with_all_the_weight_leaves_nothing_to_compare() -> None:
    assert jackknife_variance(numbers(1.0), numbers(2.0)) == math.inf
    assert jackknife_variance(numbers(1.0, 0.0), numbers(2.0, 0.0)) == math.inf


def test_the_variance_of_independent_steps_by_hand() -> None:
    # value (2 + 0 + 1)/4 = ¾; s² = (2 · 1/16 + 9/16 + 1/16)/4 = 3/16; Σ w²/(Σ w)² = 6/16
    assert independent_variance(numbers(2.0, 1.0, 1.0), numbers(1.0, 0.0, 1.0)) == pytest.approx(3 / 16 * 6 / 16)
    # equal weights: the variance of a mean
    reward = numbers(1.0, 2.0, 6.0)
    assert independent_variance(torch.ones_like(reward), reward) == pytest.approx(float(reward.var(correction=0)) / 3)


def test_the_jackknife_counts_for_as_many_trajectories_as_it_rests_on() -> None:
    residual = numbers(1.0, -1.0, 1.0, -1.0, 1.0)
    assert combined_variance(2.0, 4.0, residual) == pytest.approx(3.0)  # five residuals against five
    assert combined_variance(2.0, 1.0, residual) == 2.0  # never below the jackknife
    assert combined_variance(2.0, 4.0, numbers(3.0, 0.0)) == pytest.approx((2 + 5 * 4) / 6)
    assert combined_variance(0.0, 4.0, numbers(0.0, 0.0)) == 4.0


def test_the_interval_of_a_share_is_wilsons() -> None:
    # 3 of 10 successes have variance .3 · .7 / 10; Wilson's with t of 9 degrees of freedom, 2.262157
    t2 = 2.262157**2
    centre, half = (0.3 + t2 / 20) / (1 + t2 / 10), math.sqrt(t2 * 0.021 + t2**2 / 400) / (1 + t2 / 10)
    expected = pytest.approx((centre - half, centre + half), abs=1e-6)
    assert range_interval(0.3, 0.021, freedom=9.0, low=0.0, high=1.0, number=10.0) == expected
    # rewards 1 … 5 are the same on another scale
    low, high = range_interval(2.2, 0.021 * 16, freedom=9.0, low=1.0, high=5.0, number=10.0)
    assert ((low - 1) / 4, (high - 1) / 4) == expected


def test_no_success_is_not_certainty() -> None:
    t2 = float(student.ppf(0.975, 19)) ** 2
    low, high = range_interval(0.0, 0.0, freedom=19.0, low=0.0, high=1.0, number=20.0)
    assert low == 0.0
    assert high == pytest.approx(t2 / (20 + t2))


@pytest.mark.parametrize(("variance", "freedom"), [(math.inf, 9.0), (0.1, 0.0), (0.1, 1e-6)])
def test_without_a_variance_only_the_range_is_known(variance: float, freedom: float) -> None:
    assert range_interval(0.3, variance, freedom=freedom, low=0.0, high=2.0, number=5.0) == pytest.approx((0.0, 2.0))


@given(value=floats(-2, 3), variance=floats(1e-12, 1e6), freedom=floats(1e-3, 1e6))
def test_the_interval_never_leaves_the_range(value: float, variance: float, freedom: float) -> None:
    low, high = range_interval(value, variance, freedom=freedom, low=-2.0, high=3.0, number=10.0)
    assert -2 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 3


def test_plain_scoring_may_leave_it() -> None:
    low, high = symmetric_interval(1.0, 4.0, freedom=5.0)
    assert (low, high) == pytest.approx((1 - 2.570582 * 2, 1 + 2.570582 * 2), abs=1e-5)
    assert symmetric_interval(1.0, 4.0, freedom=0.0) == (-math.inf, math.inf)


def test_no_weight_no_estimate() -> None:
    estimate = estimate_ratio(torch.zeros(2), torch.ones(2), torch.tensor([0, 1]), rewards=(0.0, 1.0))
    assert math.isnan(estimate.value)
    assert math.isnan(estimate.low)
