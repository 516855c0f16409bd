"""Balanced trees over items: every inner node splits its items into c clusters whose sizes differ by at most one.

Chen et al., AAAI 2019 (arXiv 1811.05869), sec. 4.1. With N items and depth d the arity is c = ⌈N^{1/d}⌉, the smallest
with N ≤ c^d leaves. A leaf holds one item or none; its number, written in base c, is the path to it from the root.

"pca" splits a node into halves recursively until there are c groups, each time sorting the items along the first
principal component of their group. "kmeans" starts from there and improves all c clusters of a node at once
(`_clusters`). "random" shuffles. All groups of the same size are split in one batch.

Items of equal vectors stay together as far as the sizes of clusters allow. Where the boundary of two clusters falls
among them, nothing but the order in which they are given parts them.

Deviations: the paper splits a node into all its c clusters along one component, which for a large c is nearly a random
tree; and its greedy k-means fills clusters in the order of their means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.log import PAD
from slatewise.retrieval import _items
from slatewise.retrieval._clusters import balanced_clusters

Cut = Literal["pca", "kmeans", "random"]
BLOCK = 1 << 24
"""Limit on the number of floats in one batch of groups."""
SAMPLE = 8192
"""Items that the principal component of a larger group is computed from."""
POWER_STEPS = 12


def arity_of(num_items: int, depth: int) -> int:
    """The arity c = ⌈N^{1/d}⌉ in integers: the smallest c with c^d ≥ N.

    Raises:
        ValueError: fewer than two items (the arity would be 1), a depth below 1, or a depth so large that fewer levels
            of the same arity would do (9 items at depth 3: c = 3, and 3² = 9).
    """
    if num_items < 2:
        raise ValueError(f"a tree over {num_items} items has the arity 1 and decides nothing; expected 2 items or more")
    if depth < 1:
        raise ValueError(f"depth is {depth}; expected at least 1")
    # the float root may be off by one either way: start below it and count up
    arity: int = max(2, round(num_items ** (1 / depth)) - 1)
    while arity**depth < num_items:
        arity += 1
    needed = next(levels for levels in range(1, depth + 1) if arity**levels >= num_items)
    if needed < depth:
        raise ValueError(
            f"depth {depth} gives {num_items} items the arity {arity}, of which {needed} levels hold them all; "
            f"choose depth {needed} or less"
        )
    return arity


class Tree:
    """A tree over items: the item at each leaf, and the centre of every inner node except the root.

    Attributes:
        depth: d, number of levels.
        arity: c, children per node.
        leaf_item: (c^d,) item numbers; 0 where the leaf is empty.
    """

    def __init__(self, *, depth: int, arity: int, leaf_item: Int[Tensor, " M"]) -> None:
        if len(leaf_item) != arity**depth:
            raise ValueError(f"{len(leaf_item)} leaves; depth {depth} and arity {arity} have {arity**depth}")
        self.depth = depth
        self.arity = arity
        self.leaf_item = leaf_item
        self.sums: list[Float[Tensor, "M E"]] | None = None
        """Sum of the vectors below each node of the levels 1 … d − 1; None where the tree was built without vectors."""
        self._positions = _items.ItemPositions()
        filled = leaf_item.nonzero().squeeze(1)
        self._positions.put(_items.checked_items(leaf_item[filled]), filled.numpy())

    def __len__(self) -> int:
        return self._positions.count

    def sizes(self, level: int) -> Int[Tensor, " M"]:
        """Number of items below each of the c^level nodes of a level; level 0 is the root, level d the leaves."""
        return (self.leaf_item != PAD).view(self.arity**level, -1).sum(dim=1)

    def leaves(self, items: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Leaf of each item; −1 for those that are not in the tree."""
        return torch.from_numpy(self._positions.positions(items.numpy()))

    def weigh(self, vectors: Float[Tensor, "rows E"]) -> None:
        """Let every node have the centre of its items.

        Args:
            vectors: row i for item number i.
        """
        self.sums = [torch.zeros(self.arity**level, vectors.shape[1]) for level in range(1, self.depth)]
        leaf = self.leaf_item.nonzero().squeeze(1)
        self._weigh(leaf, vectors[self.leaf_item[leaf]])

    def remove(self, items: Int[Tensor, " N"], vectors: Float[Tensor, "N E"] | None = None) -> None:
        """Empty the leaves of items; the others stay where they are.

        Args:
            items: (N,) items of the tree.
            vectors: (N, E) the vectors they were added with, to subtract from the centres; None leaves the centres.

        Raises:
            ValueError: an item is not in the tree or repeated; then none is removed.
        """
        numbers = _items.checked_items(items)
        leaf = torch.from_numpy(_items.positions_of(self._positions, numbers))
        if vectors is not None and self.sums is not None:
            self._weigh(leaf, -torch.from_numpy(_items.checked_vectors(vectors, what="the vector")))
        self._positions.drop(numbers)
        self.leaf_item[leaf] = PAD

    def add(self, items: Int[Tensor, " N"], vectors: Float[Tensor, "N E"] | None = None) -> None:
        """Place new items on empty leaves, one after the other: each descends to the nearest child with room.

        Siblings may then differ in size by more than one; build the tree again where that matters.

        Args:
            items: (N,) new item numbers.
            vectors: (N, E) theirs; None descends to the child with the fewest items.

        Raises:
            ValueError: an item that is in the tree already or repeated, NaN, or more items than empty leaves; then none
                is added.
        """
        numbers = _items.checked_items(items)
        _items.refuse_present(self._positions, numbers)
        free = len(self.leaf_item) - len(self)
        if len(numbers) > free:
            raise ValueError(f"{len(numbers)} items came for {free} empty leaves; build a tree of a larger arity")
        array = None
        if vectors is not None and self.sums is not None:
            array = _items.checked_pair(vectors, items)[0]
            if self.sums and array.shape[1] != self.sums[0].shape[1]:
                raise ValueError(f"vectors have width {array.shape[1]}, the tree's {self.sums[0].shape[1]}")
        sizes = [self.sizes(level).numpy() for level in range(self.depth + 1)]
        for row, item in enumerate(numbers):
            node = 0
            for level in range(self.depth):
                children = slice(node * self.arity, (node + 1) * self.arity)
                child_sizes = sizes[level + 1][children]
                badness = child_sizes.astype(np.float64)
                if array is not None and self.sums is not None and level < self.depth - 1:
                    centre = self.sums[level][children].numpy() / np.maximum(child_sizes, 1)[:, None]
                    badness = np.square(centre - array[row]).sum(axis=1)
                room = child_sizes < self.arity ** (self.depth - level - 1)
                node = node * self.arity + int(np.where(room, badness, np.inf).argmin())
                sizes[level + 1][node] += 1
            self.leaf_item[node] = int(item)
            self._positions.put(numbers[row : row + 1], np.array([node]))
            if array is not None:
                self._weigh(torch.tensor([node]), torch.from_numpy(array[row : row + 1]))

    def _weigh(self, leaf: Int[Tensor, " N"], vectors: Float[Tensor, "N E"]) -> None:
        """Add the vectors of leaves to the sums of the nodes above them."""
        for level, sums in enumerate(self.sums or (), start=1):
            sums.index_add_(0, leaf // self.arity ** (self.depth - level), vectors)


def build(
    vectors: Float[Tensor, "N E"],
    items: Int[Tensor, " N"],
    *,
    depth: int,
    arity: int | None = None,
    cut: Cut = "pca",
    generator: Generator | None = None,
) -> Tree:
    """Build a balanced tree over items from their vectors.

    Args:
        vectors: (N, E) one per item.
        items: (N,) their numbers.
        depth: d.
        arity: c; None = ⌈N^{1/d}⌉.
        cut: how a node is split.
        generator: shuffles ("random" needs it).

    Raises:
        ValueError: NaN, repeated numbers, one item, an arity of 1 or too small for the number of items.
    """
    array, numbers = _items.checked_pair(vectors, items)
    count = len(numbers)
    if arity is None:
        arity = arity_of(count, depth)
    if arity < 2 or depth < 1 or count < 2:
        raise ValueError(f"{count} items, depth {depth}, arity {arity}: expected 2 items, depth 1, arity 2 or more")
    if arity**depth < count:
        raise ValueError(f"arity {arity} and depth {depth} have {arity**depth:,} leaves for {count:,} items")
    if cut == "random" and generator is None:
        raise ValueError("a random tree needs a generator; pass generator=torch.Generator()")
    points = torch.from_numpy(array)
    order = torch.arange(count)
    leaf = _leaves(
        count,
        depth,
        arity,
        lambda start, size: _sort_nodes(points, order, start, size, arity=arity, cut=cut, generator=generator),
    )
    if cut == "random" and depth == 1:
        order = torch.randperm(count, generator=generator)
    leaf_item = torch.zeros(arity**depth, dtype=torch.int64)
    leaf_item[leaf] = torch.from_numpy(numbers)[order]
    tree = Tree(depth=depth, arity=arity, leaf_item=leaf_item)
    if cut != "random":
        tree.sums = [torch.zeros(arity**level, points.shape[1]) for level in range(1, depth)]
        # vectors in the order of the leaves: those of a node are contiguous in memory
        tree._weigh(leaf, points[order])
    return tree


def in_order(items: Int[Tensor, " N"], *, depth: int, arity: int | None = None) -> Tree:
    """Build a balanced tree whose leaves hold the items in the given order.

    Args:
        items: (N,) item numbers.
        depth: d.
        arity: c; None = ⌈N^{1/d}⌉.

    Raises:
        ValueError: repeated numbers, or as `arity_of` says.
    """
    if arity is None:
        arity = arity_of(len(items), depth)
    leaf_item = torch.zeros(arity**depth, dtype=torch.int64)
    leaf_item[_leaves(len(items), depth, arity, lambda start, size: None)] = items
    return Tree(depth=depth, arity=arity, leaf_item=leaf_item)


def _leaves(
    count: int, depth: int, arity: int, sort_nodes: Callable[[Int[Tensor, " M"], Int[Tensor, " M"]], None]
) -> Int[Tensor, " N"]:
    """Leaf of every row, in order; `sort_nodes` sorts the rows within the nodes of each level except the last.

    Args:
        count: N.
        depth: d.
        arity: c.
        sort_nodes: called with the first row and the number of rows of every node.
    """
    start, size, node = torch.zeros(1, dtype=torch.int64), torch.tensor([count]), torch.zeros(1, dtype=torch.int64)
    child = torch.arange(arity)
    for level in range(depth):
        if level < depth - 1:
            # at the last level there are no more rows than children: one each, in any order
            sort_nodes(start, size)
        each = size.unsqueeze(1) // arity + (child < (size % arity).unsqueeze(1)).long()
        first = start.unsqueeze(1) + torch.nn.functional.pad(each.cumsum(dim=1), (1, 0))[:, :-1]
        number = node.unsqueeze(1) * arity + child
        occupied = each > 0
        start, size, node = first[occupied], each[occupied], number[occupied]
    return node


def _sort_nodes(
    points: Float[Tensor, "N E"],
    order: Int[Tensor, " N"],
    start: Int[Tensor, " M"],
    size: Int[Tensor, " M"],
    *,
    arity: int,
    cut: Cut,
    generator: Generator | None,
) -> None:
    """Sort `order` within every node, in place, so that its c clusters are contiguous."""
    # groups of the same number of rows and clusters are split in one batch
    waiting: dict[tuple[int, int], list[Tensor]] = {
        (int(rows), arity): [start[size == rows]] for rows in torch.unique(size)
    }
    while waiting:
        halves: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for (rows, clusters), groups in waiting.items():
            if rows < 2 or clusters < 2:
                continue
            # the first rows % parts clusters have one more
            left_clusters = clusters // 2
            left_rows = left_clusters * (rows // clusters) + min(rows % clusters, left_clusters)
            begins = torch.cat(groups)
            for block in _blocks(begins, rows * points.shape[1]):
                position = block.unsqueeze(1) + torch.arange(rows)
                block_rows = order[position]
                order[position] = block_rows.gather(1, _order_halves(points, block_rows, left_rows, cut, generator))
            halves[left_rows, left_clusters].append(begins)
            halves[rows - left_rows, clusters - left_clusters].append(begins + left_rows)
        waiting = halves
    if cut == "kmeans":
        for rows in torch.unique(size).tolist():
            _refine(points, order, start[size == rows], rows, arity)


def _refine(
    points: Float[Tensor, "N E"], order: Int[Tensor, " N"], begins: Int[Tensor, " G"], rows: int, arity: int
) -> None:
    """Sort `order` within nodes of the same size again, by balanced k-means that starts from its current clusters."""
    child = torch.arange(arity)
    first = torch.repeat_interleave(child, rows // arity + (child < rows % arity).long())
    for block in _blocks(begins, rows * points.shape[1]):
        position = block.unsqueeze(1) + torch.arange(rows)
        block_rows = order[position]
        label = balanced_clusters(_gather(points, block_rows), first.expand(len(block), -1), arity)
        order[position] = block_rows.gather(1, label.argsort(dim=1, stable=True))


def _blocks(begins: Int[Tensor, " G"], each: int) -> Iterator[Int[Tensor, " _"]]:
    yield from torch.split(begins, max(1, BLOCK // max(1, each)))


def _order_halves(
    points: Float[Tensor, "N E"], rows: Int[Tensor, "G n"], left: int, cut: Cut, generator: Generator | None
) -> Int[Tensor, "G n"]:
    """An order of each group's rows in which the first `left` rows are one half; "kmeans" starts as "pca" does."""
    groups, count = rows.shape
    if not 0 < left < count:
        return torch.arange(count).expand(groups, -1)
    if cut == "random":
        return torch.rand(groups, count, generator=generator).argsort(dim=1)
    # an evenly spaced sample gives the direction of a large group precisely enough
    sample = _gather(points, rows[:, :: -(-count // SAMPLE)])
    sample = sample - sample.mean(dim=1, keepdim=True)
    direction = _principal(sample)
    if count <= SAMPLE:
        value = torch.bmm(sample, direction.unsqueeze(2)).squeeze(2)
    else:
        value = torch.stack([points[group_rows] @ direction[group] for group, group_rows in enumerate(rows)])
    return value.argsort(dim=1, stable=True)


def _gather(points: Float[Tensor, "N E"], rows: Int[Tensor, "G n"]) -> Float[Tensor, "G n E"]:
    return points.index_select(0, rows.flatten()).view(*rows.shape, points.shape[1])


def _principal(centred: Float[Tensor, "G n E"]) -> Float[Tensor, "G E"]:
    """First principal component of each group by power iteration from its longest row; 0 where all rows are equal."""
    longest = centred.square().sum(dim=2).argmax(dim=1)
    direction = centred[torch.arange(len(centred)), longest].unsqueeze(2)
    # the scatter matrix costs less than two products per step only where there are more rows than columns
    if centred.shape[1] > centred.shape[2]:
        scatter = torch.bmm(centred.transpose(1, 2), centred)
        for _ in range(POWER_STEPS):
            direction = torch.nn.functional.normalize(torch.bmm(scatter, direction), dim=1)
    else:
        for _ in range(POWER_STEPS):
            direction = torch.bmm(centred.transpose(1, 2), torch.bmm(centred, direction))
            direction = torch.nn.functional.normalize(direction, dim=1)
    return direction.squeeze(2)
