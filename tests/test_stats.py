from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers

from slatewise.stats import Z95, Measurement, jackknife, mean_interval, ratio, student_t, wilson


def test_the_mean_and_its_interval_by_hand() -> None:
    # mean 3, variance (4 + 0 + 4) / 2 = 4, standard error 2/√3
    value, low, high = mean_interval(torch.tensor([1.0, 3.0, 5.0]))
    assert value == 3.0
    assert high - value == pytest.approx(1.959964 * 2 / math.sqrt(3))
    assert value - low == pytest.approx(high - value)


def test_one_number_has_no_interval_and_none_no_mean() -> None:
    assert mean_interval(torch.tensor([2.0])) == (2.0, -math.inf, math.inf)
    assert all(math.isnan(border) for border in mean_interval(torch.zeros(0)))


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
    assert wilson(5, 5)[1] == 1.0


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


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    # leaving one of 1, 3, 5 out gives 4, 3, 2: √(2/3 · 2) = 2/√3
    low, high = jackknife(3.0, torch.tensor([4.0, 3.0, 2.0]))
    assert high - 3.0 == pytest.approx(1.959964 * 2 / math.sqrt(3))
    assert 3.0 - low == pytest.approx(high - 3.0)


def test_a_measurement_without_bounds_has_no_interval() -> None:
    assert not Measurement(name="loss", value=1.0).has_interval
    assert not Measurement(name="loss", value=1.0, low=-math.inf, high=math.inf).has_interval
    assert Measurement(name="loss", value=1.0, low=0.5, high=1.5).has_interval
