from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, lists

from slatewise.errors import InputError
from slatewise.ops.choices import at_choice, bucket, choice_rows


def test_picked_by_hand() -> None:
    values = torch.tensor([[[5, 6, 7], [8, 9, 10]], [[2, 3, 4], [1, 1, 1]]])
    choice = torch.tensor([[2, -1], [0, 1]])
    assert at_choice(values, choice).tolist() == [[7, 0], [2, 1]]
    assert at_choice(values[0].float(), choice[0]).tolist() == [7.0, 0.0]


def test_choices_of_steps_by_hand() -> None:
    used = torch.tensor([[[True, False, True], [False, False, False]], [[False, True, False], [True, True, True]]])
    choice = torch.tensor([[2, -1], [1, 0]])
    steps = torch.tensor([[True, True], [True, False]])
    assert choice_rows(used, choice, steps, "largest").tolist() == [[0, 0, 2], [0, 1, -1], [1, 0, 1]]
    assert choice_rows(used, choice, steps, "each").tolist() == [[0, 0, 0], [0, 0, 2], [0, 1, -1], [1, 0, 1]]
    with pytest.raises(InputError, match="1 slate of a batch has several used items"):
        choice_rows(used, choice, steps, "refuse")
    assert choice_rows(used[1:], choice[1:], steps[1:], "refuse").tolist() == [[0, 0, 1]]


def test_bucket_by_hand() -> None:
    edges = torch.tensor([1.0, 3.0])
    # a value at an edge lies above it
    assert bucket(torch.tensor([0.5, 1.0, 2.9, 3.0, 9.0]), edges).tolist() == [0, 1, 1, 2, 2]
    assert bucket(torch.tensor([-1.0, 7.0]), torch.zeros(0)).tolist() == [0, 0]


@settings(max_examples=25, deadline=None)
@given(values=lists(floats(-9, 9, width=32), min_size=1, max_size=6), edges=lists(floats(-9, 9, width=32), max_size=4))
def test_bucket_counts_the_edges_below(values: list[float], edges: list[float]) -> None:
    buckets = bucket(torch.tensor(values), torch.tensor(sorted(edges), dtype=torch.float32))
    assert buckets.tolist() == [sum(edge <= value for edge in edges) for value in values]
