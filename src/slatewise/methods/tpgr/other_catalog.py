"""A trained tree under another catalog: items keep their leaves, and new ones take empty leaves near their like."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM
from slatewise.methods.tpgr.tree_softmax import TreeSoftmax
from slatewise.nn.item_table import ItemTable
from slatewise.retrieval.tree import Tree


def move_tree(
    leaf_item: Int[Tensor, " M"],
    entries: Mapping[str, Mapping[str, Tensor]],
    source: Int[Tensor, " rows"],
    tree: TreeSoftmax,
    *,
    vectors: Float[Tensor, "rows E"] | None,
) -> dict[str, Tensor]:
    """The entries of a learner's state that follow the tree, in the shape of the new tree.

    Args:
        leaf_item: item of the old catalog at each leaf of the old tree; 0 = empty.
        entries: by the name of a weight of the policy, entries of the state with a row for each of its rows.
        source: the row in the old catalog of each row of the new one; 1 for a new item.
        tree: the new one, with fresh nodes.
        vectors: see `move_leaves`.

    Raises:
        ValueError: a tree of another depth or with other hidden units, or with more children per node.
    """
    tables = [table.weight.detach() for table in tree.nodes if isinstance(table, ItemTable)]
    arity = entries["tree.nodes.0.weight"]["policy.tree.nodes.0.weight"].shape[1] // (tree.inner + 1)
    if len(leaf_item) != arity**tree.depth:
        raise ValueError(f"its tree is not of depth {tree.depth} with {tree.hidden} hidden units")
    moved = {"policy.tree.leaf_item": move_leaves(leaf_item, source, tree, arity=arity, vectors=vectors)}
    for level, weight in enumerate(tables):
        for key, rows in entries[f"tree.nodes.{level}.weight"].items():
            fresh = weight if key.startswith("policy.") else torch.zeros(weight.shape[: rows.ndim])
            moved[key] = move_nodes(rows, fresh, level=level, arity=arity, new_arity=tree.arity)
    return moved


def move_leaves(
    leaf_item: Int[Tensor, " M"],
    source: Int[Tensor, " rows"],
    shape: TreeSoftmax,
    *,
    arity: int,
    vectors: Float[Tensor, "rows E"] | None,
) -> Int[Tensor, " L"]:
    """The item at each leaf of a tree of the new shape.

    Args:
        leaf_item: item of the old catalog at each leaf of the old tree; 0 = empty.
        source: the row in the old catalog of each row of the new one; 1 for a new item.
        shape: of the new tree.
        arity: children per node of the old tree.
        vectors: of the new catalog's items; a new item goes where the nearest centre has room. None: where there are
            the fewest items.

    Raises:
        ValueError: fewer children per node than the old tree has.
    """
    if shape.arity < arity:
        raise ValueError(
            f"its tree has {arity} children per node, and this catalog takes {shape.arity} (set method.tree.arity)"
        )
    has_source = source >= FIRST_ITEM
    number = torch.zeros(int(max(leaf_item.max(), source.max())) + 1, dtype=torch.int64)
    number[source[has_source]] = has_source.nonzero().squeeze(1)
    moved = torch.zeros(shape.arity**shape.depth, dtype=torch.int64)
    moved[_widen(torch.arange(len(leaf_item)), shape.depth, arity, shape.arity)] = number[leaf_item]
    tree = Tree(depth=shape.depth, arity=shape.arity, leaf_item=moved)
    if vectors is not None:
        tree.weigh(vectors)
    new = (~has_source).nonzero().squeeze(1)
    new = new[new >= FIRST_ITEM]
    tree.add(new, None if vectors is None else vectors[new])
    return tree.leaf_item


def move_nodes(rows: Tensor, fresh: Tensor, *, level: int, arity: int, new_arity: int) -> Tensor:
    """Rows of a level's nodes (weights, moments or accumulators) in a tree with as many or more children per node.

    Args:
        rows: one row per node of the old tree; where it has columns, they are those of its children, side by side.
        fresh: of the new tree; children that the old one does not have keep theirs.
        level: 0 is the root's.
        arity: children per node of the old tree.
        new_arity: of the new one.
    """
    node = _widen(torch.arange(arity**level), level, arity, new_arity)
    moved = fresh.clone()
    if rows.ndim == 1:
        moved[node] = rows
    else:
        width = rows.shape[1] // arity
        moved.view(len(fresh), new_arity, width)[node, :arity] = rows.view(len(rows), arity, width)
    return moved


def _widen(node: Int[Tensor, " M"], level: int, arity: int, new_arity: int) -> Int[Tensor, " M"]:
    """Numbers of a level's nodes in a tree with more children per node: their digits, read in its base."""
    return sum(
        (node // arity**digit % arity * new_arity**digit for digit in range(level)), start=torch.zeros_like(node)
    )
