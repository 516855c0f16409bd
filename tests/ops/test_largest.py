from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, lists

from slatewise.ops.largest import largest_columns


def test_ties_by_hand() -> None:
    scores = torch.tensor([[1.0, 3.0, 1.0, 3.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0]])
    assert largest_columns(scores, 3).tolist() == [[1, 3, 0], [0, 1, 2]]
    assert largest_columns(scores, 5).tolist() == [[1, 3, 0, 2, 4], [0, 1, 2, 3, 4]]
    assert largest_columns(torch.zeros(1, 7), 2).tolist() == [[0, 1]]


def test_double_precision_is_compared_to_nine_decimals() -> None:
    scores = torch.tensor([[0.1, 0.1 + 4e-10, 0.1 + 2e-9]], dtype=torch.float64)
    assert largest_columns(scores, 2).tolist() == [[2, 0]]
    # .1 + .2 and .3 differ in the last digit
    assert largest_columns(torch.tensor([[0.3, 0.1 + 0.2]], dtype=torch.float64), 1).tolist() == [[0]]


def test_what_is_not_available_comes_last() -> None:
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 1.0]])
    assert largest_columns(scores, 2).tolist() == [[1, 3]]
    assert largest_columns(scores, 3)[:, :2].tolist() == [[1, 3]]


def test_no_rows() -> None:
    assert largest_columns(torch.zeros(0, 4), 2).shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(rows=lists(lists(integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4), number=integers(1, 6))
def test_it_is_a_stable_sort(rows: list[list[int]], number: int) -> None:
    expected = [sorted(range(6), key=lambda column: -row[column])[:number] for row in rows]
    for dtype in (torch.float32, torch.float64):
        assert largest_columns(torch.tensor(rows, dtype=dtype), number).tolist() == expected
