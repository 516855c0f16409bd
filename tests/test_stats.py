from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists

from slatewise.stats import (
    Z95,
    Measurement,
    jackknife_of_share,
    mean_interval,
    paired_difference,
    ratio,
    share_interval,
    student_t,
    wilson,
)


def test_the_mean_and_its_interval_by_hand() -> None:
    # mean 3, variance (4 + 0 + 4) / 2 = 4, standard error 2/√3
    value, low, high = mean_interval(torch.tensor([1.0, 3.0, 5.0]))
    assert value == 3.0
    assert high - value == pytest.approx(1.959964 * 2 / math.sqrt(3))
    assert value - low == pytest.approx(high - value)


def test_one_number_has_no_interval_and_none_no_mean() -> None:
    for interval in (mean_interval, share_interval):
        value, *bounds = interval(torch.tensor([0.5]))
        assert value == 0.5
        assert all(math.isnan(bound) for bound in bounds)
        assert all(math.isnan(number) for number in interval(torch.zeros(0)))


def test_the_interval_of_a_mean_ends_at_the_smallest_possible_value() -> None:
    values = torch.tensor([0.0, 0.0, 9.0])
    assert mean_interval(values)[1] < 0
    assert mean_interval(values, least=0.0)[1] == 0.0


def test_the_interval_of_a_share_by_hand() -> None:
    # zeros and ones are trials: 8 of 10
    value, low, high = share_interval(torch.tensor([1.0] * 8 + [0.0] * 2))
    assert value == pytest.approx(0.8)
    assert (low, high) == pytest.approx(wilson(8, 10))
    # mean .4, variance .01, so 2 · .4 · .6 / .01 = 48 trials
    value, low, high = share_interval(torch.tensor([0.3, 0.5], dtype=torch.float64))
    assert value == pytest.approx(0.4)
    # centre (.4 + z²/96) / (1 + z²/48) = .40741, half 1.959964 √(.24/48 + z²/9216) / 1.08003 = .13355
    assert (low, high) == pytest.approx((0.2739, 0.5410), abs=1e-4)


def test_equal_values_count_as_one_trial_each() -> None:
    assert share_interval(torch.zeros(7)) == (0.0, *wilson(0, 7))
    assert share_interval(torch.full((4,), 0.5)) == (0.5, *wilson(2, 4))


@settings(max_examples=50, deadline=None)
@given(values=lists(floats(0, 1, width=32), min_size=2, max_size=9))
def test_the_interval_of_a_share_stays_within_its_range(values: list[float]) -> None:
    value, low, high = share_interval(torch.tensor(values))
    assert 0.0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1.0


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(2000, 50, generator=generator) + 1.0
    covered = sum(low <= 1.0 <= high for _, low, high in map(mean_interval, samples))
    assert abs(covered / 2000 - 0.95) < 0.02  # 4 σ = 4 √(.95 · .05 / 2000); the normal quantile costs half a point


def test_ratio_by_hand() -> None:
    # 12 / 6 = 2; residuals 1 − 2, 5 − 4, 6 − 6 = −1, 1, 0; √(2 · 3/2) / 6
    value, stderr = ratio(torch.tensor([1.0, 5.0, 6.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert value == 2.0
    assert stderr == pytest.approx(math.sqrt(3) / 6)


def test_a_ratio_of_nothing() -> None:
    value, stderr = ratio(torch.tensor([1.0]), torch.tensor([2.0]))
    assert (value, stderr) == (0.5, math.inf)
    assert all(math.isnan(number) for number in ratio(torch.ones(2), torch.zeros(2)))


def test_a_ratio_over_ones_is_the_mean() -> None:
    values = torch.tensor([1.0, 3.0, 5.0])
    value, stderr = ratio(values, torch.ones(3))
    mean, low, _ = mean_interval(values)
    assert value == mean
    assert stderr == pytest.approx((mean - low) / Z95)


def test_the_delta_method_says_how_far_ratios_scatter() -> None:
    generator = torch.Generator().manual_seed(0)
    bottom = torch.rand(4000, 100, generator=generator) + 0.5
    top = bottom * 2 + torch.randn(4000, 100, generator=generator)
    ratios = [ratio(numerator, denominator) for numerator, denominator in zip(top, bottom, strict=True)]
    spread = float(torch.tensor([value for value, _ in ratios]).std())
    said = float(torch.tensor([stderr for _, stderr in ratios]).mean())
    assert said == pytest.approx(spread, rel=0.05)


def test_wilson_by_hand() -> None:
    # 8 of 10 with z² = 3.841459: centre (.8 + .19207) / 1.38415 = .71674, half 1.959964 √(.016 + .0096036) / 1.38415
    low, high = wilson(8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0
    assert all(wilson(trials, trials)[1] == 1.0 for trials in range(1, 20))


@settings(max_examples=30, deadline=None)
@given(trials=integers(1, 500), hits=integers(0, 500))
def test_wilson_borders_are_where_the_test_of_a_proportion_turns(trials: int, hits: int) -> None:
    hits = min(hits, trials)
    share = hits / trials
    for border in wilson(hits, trials):
        assert 0.0 <= border <= 1.0
        if 1e-6 < border < 1 - 1e-6:
            # Wilson's interval holds the p with |share − p| ≤ z √(p (1 − p) / n)
            assert abs(share - border) == pytest.approx(Z95 * math.sqrt(border * (1 - border) / trials), abs=1e-9)


def test_students_interval_by_hand() -> None:
    # mean 2, standard deviation 1, t(.975; 2) = 4.302653
    mean, low, high = student_t([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == pytest.approx(4.302653 / 3**0.5)
    assert mean - low == pytest.approx(high - mean)
    assert student_t([5.0]) == (5.0, -math.inf, math.inf)
    # t of one degree of freedom is 12.7: the interval of .6 and .8 is .7 ± 1.27
    assert list(student_t([0.6, 0.8], within=(0.0, 1.0))) == pytest.approx([0.7, 0.0, 1.0])


def test_the_jackknife_of_a_share_by_hand() -> None:
    # sin² of π/6, π/4, π/3 is 1/4, 1/2, 3/4: on the angles ± π/12, √(2/3 · 2 (π/12)²) = π/12 · 2/√3
    low, high = jackknife_of_share(0.5, torch.tensor([0.25, 0.5, 0.75]))
    half = 1.959964 * math.pi / 12 * 2 / math.sqrt(3)
    assert low == pytest.approx(math.sin(math.pi / 4 - half) ** 2, abs=1e-6)
    assert high == pytest.approx(math.sin(math.pi / 4 + half) ** 2, abs=1e-6)


def test_the_jackknife_of_a_share_stays_within_its_range() -> None:
    for value, others in ((1.0, [1.0, 0.8]), (0.0, [0.0, 0.3]), (0.97, [1.0, 0.5]), (1.0, [1.0, 1.0])):
        low, high = jackknife_of_share(value, torch.tensor(others))
        assert 0.0 <= low <= value
        assert value <= high <= 1.0


def test_a_measurement_without_bounds_has_no_interval() -> None:
    assert not Measurement(name="loss", value=1.0).has_interval
    assert not Measurement(name="loss", value=1.0, low=-math.inf, high=math.inf).has_interval
    assert Measurement(name="loss", value=1.0, low=0.5, high=1.5).has_interval


def test_a_paired_difference_is_over_the_cases_that_have_both() -> None:
    first = torch.tensor([1.0, 2.0, 4.0, math.nan, 5.0], dtype=torch.float64)
    second = torch.tensor([0.0, 2.0, 1.0, 3.0, math.nan], dtype=torch.float64)
    # differences 1, 0, 3: mean 4/3, standard deviation √(7/3), t of two degrees of freedom 4.302653
    mean, low, high = paired_difference(first, second)
    half = 4.302653 * math.sqrt(7 / 3) / math.sqrt(3)
    assert [mean, low, high] == pytest.approx([4 / 3, 4 / 3 - half, 4 / 3 + half], abs=1e-5)
    assert paired_difference(first, first) == (0.0, 0.0, 0.0)
    assert math.isnan(paired_difference(first[3:], second[3:]).mean)
