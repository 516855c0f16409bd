from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, floats, lists

from slatewise.ops.choices import bucket, compacted, picked


def test_picked_by_hand() -> None:
    values = torch.tensor([[[5, 6, 7], [8, 9, 10]], [[2, 3, 4], [1, 1, 1]]])
    choice = torch.tensor([[2, -1], [0, 1]])
    assert picked(values, choice).tolist() == [[7, 0], [2, 1]]
    assert picked(values[0].float(), choice[0]).tolist() == [7.0, 0.0]


def test_compacted_by_hand() -> None:
    moves = torch.tensor([[False, True, False, True], [True, False, False, False]])
    order, count = compacted(moves)
    # row 0 moves at 1 and 3; row 1 at 0, its second place is filled with any other column
    assert order[0].tolist() == [1, 3]
    assert order[1, 0].item() == 0
    assert count.tolist() == [[0, 0, 1, 1, 2], [0, 1, 1, 1, 1]]


def test_compacted_without_a_move_and_without_a_step() -> None:
    order, count = compacted(torch.zeros(2, 3, dtype=torch.bool))
    assert order.shape == (2, 0)
    assert count.tolist() == [[0] * 4] * 2
    order, count = compacted(torch.zeros(2, 0, dtype=torch.bool))
    assert order.shape == (2, 0)
    assert count.tolist() == [[0], [0]]


@settings(max_examples=25, deadline=None)
@given(rows=lists(lists(booleans(), min_size=5, max_size=5), min_size=1, max_size=4))
def test_compacted_keeps_the_moving_steps_in_their_order(rows: list[list[bool]]) -> None:
    moves = torch.tensor(rows)
    order, count = compacted(moves)
    for row, moving in enumerate(rows):
        where = [t for t, moved in enumerate(moving) if moved]
        assert order[row, : len(where)].tolist() == where
        assert count[row].tolist() == [sum(moving[:t]) for t in range(6)]


def test_bucket_by_hand() -> None:
    edges = torch.tensor([1.0, 3.0])
    # a value at an edge lies above it
    assert bucket(torch.tensor([0.5, 1.0, 2.9, 3.0, 9.0]), edges).tolist() == [0, 1, 1, 2, 2]
    assert bucket(torch.tensor([-1.0, 7.0]), torch.zeros(0)).tolist() == [0, 0]


@settings(max_examples=25, deadline=None)
@given(values=lists(floats(-9, 9, width=32), min_size=1, max_size=6), edges=lists(floats(-9, 9, width=32), max_size=4))
def test_bucket_counts_the_edges_below(values: list[float], edges: list[float]) -> None:
    found = bucket(torch.tensor(values), torch.tensor(sorted(edges), dtype=torch.float32))
    assert found.tolist() == [sum(edge <= value for edge in edges) for value in values]
