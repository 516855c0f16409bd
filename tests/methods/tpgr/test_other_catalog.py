"""A trained tree under another catalog, on trees small enough to be drawn."""

from __future__ import annotations

import pytest
import torch

from slatewise.methods.tpgr.other_catalog import move_leaves, move_nodes
from slatewise.methods.tpgr.tree_softmax import TreeSoftmax


def shape(arity: int, num_rows: int) -> TreeSoftmax:
    return TreeSoftmax(2, num_rows, depth=2, arity=arity, hidden=0)


def test_nodes_keep_their_path_where_there_are_more_children() -> None:
    # nodes of level 2 under two children each: 00, 01, 10, 11 → of three children: 0, 1, 3, 4
    rows = torch.tensor([1.0, 2.0, 3.0, 4.0])
    moved = move_nodes(rows, torch.zeros(9), level=2, arity=2, new_arity=3)
    assert moved.tolist() == [1, 2, 0, 3, 4, 0, 0, 0, 0]
    # the root: two children with one number each beside a third one
    moved = move_nodes(torch.tensor([[5.0, 6.0]]), torch.tensor([[7.0, 8.0, 9.0]]), level=0, arity=2, new_arity=3)
    assert moved.tolist() == [[5, 6, 9]]


def test_an_item_keeps_its_leaf_and_a_new_one_goes_to_its_like() -> None:
    # items 2, 3 | 4 stood below two nodes; 3 is gone, the others are 2 → 3 and 4 → 2 now; 4 is new and like the old 4
    source = torch.tensor([0, 1, 4, 2, 1])
    vectors = torch.tensor([[0.0], [0.0], [9.0], [1.0], [8.0]])
    leaf_item = torch.tensor([2, 3, 4, 0])
    assert move_leaves(leaf_item, source, shape(2, 5), arity=2, vectors=vectors).tolist() == [3, 0, 2, 4]
    # without vectors it goes where the fewest are: to the first of two nodes with one item each
    assert move_leaves(leaf_item, source, shape(2, 5), arity=2, vectors=None).tolist() == [3, 4, 2, 0]
    wide = move_leaves(leaf_item, source, shape(3, 5), arity=2, vectors=vectors)
    assert wide.tolist() == [3, 0, 0, 2, 4, 0, 0, 0, 0]


def test_fewer_children_than_the_tree_has_are_refused() -> None:
    with pytest.raises(ValueError, match="its tree has 3 children per node, and this catalog takes 2"):
        move_leaves(
            torch.tensor([2, 3, 0, 0, 0, 0, 0, 0, 0]), torch.tensor([0, 1, 2, 3]), shape(2, 4), arity=3, vectors=None
        )
