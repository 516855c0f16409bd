from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, floats, integers, lists
from torch import Tensor

from slatewise.evaluation import metrics

# Three lists of four: hits at 2 and 3 of 3 relevant items; none of 1; the first of 6 relevant items.
HITS = torch.tensor([[False, True, True, False], [False] * 4, [True, False, False, False]])
RELEVANT = torch.tensor([3, 1, 6])


def double(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def test_figures_of_a_list_by_hand() -> None:
    assert metrics.hit(HITS).tolist() == [1.0, 0.0, 1.0]
    assert metrics.precision(HITS).tolist() == [0.5, 0.0, 0.25]
    torch.testing.assert_close(metrics.recall(HITS, RELEVANT), double(2 / 3, 0.0, 1 / 6))
    # 2 · 2 / (4 + 3), 2 · 1 / (4 + 6)
    torch.testing.assert_close(metrics.f1(HITS, RELEVANT), double(4 / 7, 0.0, 0.2))
    assert metrics.mrr(HITS).tolist() == [0.5, 0.0, 1.0]


def test_ndcg_by_hand() -> None:
    third = 1 / math.log2(3)
    # hits at 2 and 3 against the best, 1 to 3; and 1 against the best of a list of four, 1 to 4
    best = [1 + third + 1 / 2, 1.0, 1 + third + 1 / 2 + 1 / math.log2(5)]
    expected = double((third + 1 / 2) / best[0], 0.0, 1 / best[2])
    torch.testing.assert_close(metrics.ndcg(HITS, RELEVANT), expected)


def test_average_precision_by_hand() -> None:
    # (1/2 + 2/3) / 3; 1 of the 4 that a list of four can find
    expected = double((1 / 2 + 2 / 3) / 3, 0.0, 1 / 4)
    torch.testing.assert_close(metrics.average_precision(HITS, RELEVANT), expected)


def test_where_nothing_is_relevant_there_is_no_value() -> None:
    hits, relevant = torch.zeros(1, 3, dtype=torch.bool), torch.tensor([0])
    for metric in (metrics.recall, metrics.f1, metrics.ndcg, metrics.average_precision):
        assert metric(hits, relevant).isnan().all()
    assert math.isnan(metrics.gini(torch.zeros(3)))


@settings(max_examples=30, deadline=None)
@given(row=lists(booleans(), min_size=1, max_size=6), missed=integers(0, 4))
def test_f1_is_the_harmonic_mean(row: list[bool], missed: int) -> None:
    hits, relevant = torch.tensor([row]), torch.tensor([max(sum(row) + missed, 1)])
    p, r = float(metrics.precision(hits)), float(metrics.recall(hits, relevant))
    expected = 2 * p * r / (p + r) if p + r else 0.0
    assert float(metrics.f1(hits, relevant)) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(row=lists(booleans(), min_size=2, max_size=6), missed=integers(0, 3))
def test_a_hit_further_up_never_hurts(row: list[bool], missed: int) -> None:
    better = sorted(row, reverse=True)
    relevant = torch.tensor([max(sum(row) + missed, 1)])
    for figure in (metrics.ndcg, metrics.average_precision):
        low, high = (float(figure(torch.tensor([hits]), relevant)) for hits in (row, better))
        assert 0.0 <= low <= high <= 1.0 + 1e-6
        if not missed and any(row):
            assert high == pytest.approx(1.0)


def test_coverage_and_gini_by_hand() -> None:
    exposure = torch.tensor([3.0, 0.0, 1.0, 0.0])
    assert metrics.coverage(exposure) == 0.5
    # ordered 0, 0, 1, 3: (2·3 − 5)·1 + (2·4 − 5)·3 = 10; / (4 · 4)
    assert metrics.gini(exposure) == 0.625
    assert metrics.gini(torch.ones(5)) == 0.0
    assert metrics.gini(torch.tensor([0.0, 7.0, 0.0, 0.0])) == 0.75  # 1 − 1/4


@settings(max_examples=30, deadline=None)
@given(exposure=lists(integers(0, 9), min_size=1, max_size=8), factor=integers(1, 5))
def test_gini_is_the_mean_difference_of_pairs(exposure: list[int], factor: int) -> None:
    number, total = len(exposure), sum(exposure)
    pairs = sum(abs(one - other) for one in exposure for other in exposure)
    expected = pairs / (2 * number * total) if total else math.nan
    assert metrics.gini(torch.tensor(exposure).float() * factor) == pytest.approx(expected, nan_ok=True)


def test_avg_popularity_by_hand() -> None:
    count = torch.tensor([0, 0, 10, 4, 1])
    values = metrics.avg_popularity(torch.tensor([[2, 3], [4, 4], [3, 0], [0, 0]]), count).tolist()
    assert values[:3] == [7.0, 1.0, 4.0]  # a list that ran out of items is as popular as the items it has
    assert math.isnan(values[3])


def test_errors_of_a_rating_by_hand() -> None:
    predicted, actual = torch.tensor([1.0, 4.0]), torch.tensor([2.0, 1.0])
    assert metrics.rmse(predicted, actual) == pytest.approx(math.sqrt(5))  # (1 + 9) / 2
    assert metrics.mae(predicted, actual) == 2.0


@settings(max_examples=20, deadline=None)
@given(errors=lists(floats(-9, 9, width=32), min_size=1, max_size=6))
def test_the_mean_error_is_at_most_the_root_of_the_mean_square(errors: list[float]) -> None:
    predicted, actual = torch.tensor(errors), torch.zeros(len(errors))
    assert metrics.mae(predicted, actual) <= metrics.rmse(predicted, actual) + 1e-5
