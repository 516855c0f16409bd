"""Balanced trees over items: every inner node parts its items into c clusters whose sizes differ by at most one.

Chen et al., AAAI 2019 (arXiv 1811.05869), sec. 4.1. With N items and depth d the arity is c = ⌈N^{1/d}⌉, the smallest
for which N ≤ c^d leaves are enough. A leaf holds one item or none; its number, written in base c, is the path to it
from the root.

"pca" parts a node by halves again and again, until there are c parts: the items of a half-way group are sorted along
its first principal component. "kmeans" starts from there and moves all c clusters of a node at once (`_clusters`).
"random" shuffles. All groups of the same size are cut at the same time.

Deviations: the paper cuts a node into all its c clusters along one component, which for a large c is nearly a random
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
"""Numbers that groups cut at the same time take."""
SAMPLE = 8192
"""Items of a larger group that its direction is found from."""
POWER_STEPS = 12


def arity_of(num_items: int, depth: int) -> int:
    """The arity c = ⌈N^{1/d}⌉, in whole numbers: the smallest c with c^d ≥ N.

    Raises:
        ValueError: fewer than two items (the arity would be 1), a depth below 1, or one so large that fewer levels of
            the same arity would do (9 items at depth 3: c = 3, and 3² = 9).
    """
    if num_items < 2:
        raise ValueError(f"a tree over {num_items} items has the arity 1 and decides nothing; expected 2 items or more")
    if depth < 1:
        raise ValueError(f"depth is {depth}; expected at least 1")
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
    """Which item stands at which leaf, and the centre of every inner node but the root.

    Attributes:
        depth: d, levels of choices.
        arity: c, children of a node.
        leaf_item: (c^d,) item numbers; 0 where the leaf is empty.
    """

    def __init__(self, *, depth: int, arity: int, leaf_item: Int[Tensor, " M"]) -> None:
        if len(leaf_item) != arity**depth:
            raise ValueError(f"{len(leaf_item)} leaves; depth {depth} and arity {arity} have {arity**depth}")
        self.depth = depth
        self.arity = arity
        self.leaf_item = leaf_item
        self.sums: list[Float[Tensor, "M E"]] | None = None
        """Sum of the vectors below each node of the levels 1 … d − 1; None where the tree was made without vectors."""
        self._held = _items.Held()
        filled = leaf_item.nonzero().squeeze(1)
        self._held.put(_items.checked_items(leaf_item[filled]), filled.numpy())

    def __len__(self) -> int:
        return self._held.count

    def sizes(self, level: int) -> Int[Tensor, " M"]:
        """Items below each of the c^level nodes of a level; level 0 is the root, level d the leaves."""
        return (self.leaf_item != PAD).view(self.arity**level, -1).sum(dim=1)

    def leaves(self, items: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Leaf of each item; −1 for those that are not in the tree."""
        return torch.from_numpy(self._held.places(items.numpy()))

    def remove(self, items: Int[Tensor, " N"], vectors: Float[Tensor, "N E"] | None = None) -> None:
        """Empty the leaves of some items; the others stay where they are.

        Args:
            items: held by the tree.
            vectors: what they were added with, so that the centres forget them; None leaves the centres.

        Raises:
            ValueError: one of them is not in the tree, or comes twice; then none is removed.
        """
        numbers = _items.checked_items(items)
        leaf = torch.from_numpy(_items.refuse_unheld(self._held, numbers))
        if vectors is not None and self.sums is not None:
            self._weigh(leaf, -torch.from_numpy(_items.checked_vectors(vectors, what="the vector")))
        self._held.drop(numbers)
        self.leaf_item[leaf] = PAD

    def add(self, items: Int[Tensor, " N"], vectors: Float[Tensor, "N E"] | None = None) -> None:
        """Give new items empty leaves: one after the other goes down to the nearest child that has room.

        Siblings may then differ by more than one; build anew where that matters.

        Args:
            items: new numbers.
            vectors: theirs; None goes down to the child with the fewest items.

        Raises:
            ValueError: an item that is there already or comes twice, NaN, or more items than empty leaves; then none is
                added.
        """
        numbers = _items.checked_items(items)
        _items.refuse_held(self._held, numbers)
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
                held = sizes[level + 1][children]
                badness = held.astype(np.float64)
                if array is not None and self.sums is not None and level < self.depth - 1:
                    centre = self.sums[level][children].numpy() / np.maximum(held, 1)[:, None]
                    badness = np.square(centre - array[row]).sum(axis=1)
                room = held < self.arity ** (self.depth - level - 1)
                node = node * self.arity + int(np.where(room, badness, np.inf).argmin())
                sizes[level + 1][node] += 1
            self.leaf_item[node] = int(item)
            self._held.put(numbers[row : row + 1], np.array([node]))
            if array is not None:
                self._weigh(torch.tensor([node]), torch.from_numpy(array[row : row + 1]))

    def _weigh(self, leaf: Int[Tensor, " N"], vectors: Float[Tensor, "N E"]) -> None:
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
    """A balanced tree over items by their vectors.

    Args:
        vectors: one an item.
        items: their numbers.
        depth: d.
        arity: c; None = ⌈N^{1/d}⌉.
        cut: how a node is parted.
        generator: shuffles ("random" needs it), and draws the samples of large groups.

    Raises:
        ValueError: NaN, repeated numbers, one item, an arity of 1 or too small for so many items.
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
        lambda start, size: _part_nodes(points, order, start, size, arity=arity, cut=cut, generator=generator),
    )
    if cut == "random" and depth == 1:
        order = torch.randperm(count, generator=generator)
    leaf_item = torch.zeros(arity**depth, dtype=torch.int64)
    leaf_item[leaf] = torch.from_numpy(numbers)[order]
    tree = Tree(depth=depth, arity=arity, leaf_item=leaf_item)
    if cut != "random":
        tree.sums = [torch.zeros(arity**level, points.shape[1]) for level in range(1, depth)]
        # the vectors in the order of the leaves, so that a node's are neighbours
        tree._weigh(leaf, points[order])
    return tree


def in_order(items: Int[Tensor, " N"], *, depth: int, arity: int | None = None) -> Tree:
    """A balanced tree that knows nothing of the items: they stand in the order they are given in.

    Raises:
        ValueError: repeated numbers, or as `arity_of` says.
    """
    if arity is None:
        arity = arity_of(len(items), depth)
    leaf_item = torch.zeros(arity**depth, dtype=torch.int64)
    leaf_item[_leaves(len(items), depth, arity, lambda start, size: None)] = items
    return Tree(depth=depth, arity=arity, leaf_item=leaf_item)


def _leaves(
    count: int, depth: int, arity: int, part: Callable[[Int[Tensor, " M"], Int[Tensor, " M"]], None]
) -> Int[Tensor, " N"]:
    """Leaf of the first, second … of some rows; `part` sorts them within the nodes of each level but the last.

    Args:
        count: N.
        depth: d.
        arity: c.
        part: is told where the rows of each node begin and how many they are.
    """
    start, size, node = torch.zeros(1, dtype=torch.int64), torch.tensor([count]), torch.zeros(1, dtype=torch.int64)
    child = torch.arange(arity)
    for level in range(depth):
        if level < depth - 1:
            # at the last level there are no more rows than children: one each, whatever the order
            part(start, size)
        each = size.unsqueeze(1) // arity + (child < (size % arity).unsqueeze(1)).long()
        first = start.unsqueeze(1) + torch.nn.functional.pad(each.cumsum(dim=1), (1, 0))[:, :-1]
        number = node.unsqueeze(1) * arity + child
        kept = each > 0
        start, size, node = first[kept], each[kept], number[kept]
    return node


def _part_nodes(
    points: Float[Tensor, "N E"],
    order: Int[Tensor, " N"],
    start: Int[Tensor, " M"],
    size: Int[Tensor, " M"],
    *,
    arity: int,
    cut: Cut,
    generator: Generator | None,
) -> None:
    """Sort `order` within every node, in place, so that its c clusters follow one another."""
    waiting: dict[tuple[int, int], list[Tensor]] = {
        (int(rows), arity): [start[size == rows]] for rows in torch.unique(size)
    }
    while waiting:
        found: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for (rows, parts), groups in waiting.items():
            if rows < 2 or parts < 2:
                continue
            # the first rows % parts clusters have one more
            left_parts = parts // 2
            left = left_parts * (rows // parts) + min(rows % parts, left_parts)
            begins = torch.cat(groups)
            for block in _blocks(begins, rows * points.shape[1]):
                place = block.unsqueeze(1) + torch.arange(rows)
                mine = order[place]
                order[place] = mine.gather(1, _halved(points, mine, left, cut, generator))
            found[left, left_parts].append(begins)
            found[rows - left, parts - left_parts].append(begins + left)
        waiting = found
    if cut == "kmeans":
        for rows in torch.unique(size).tolist():
            _refine(points, order, start[size == rows], rows, arity)


def _refine(
    points: Float[Tensor, "N E"], order: Int[Tensor, " N"], begins: Int[Tensor, " G"], rows: int, arity: int
) -> None:
    """Sort `order` within nodes of the same size anew, by balanced k-means from the clusters it has now."""
    child = torch.arange(arity)
    first = torch.repeat_interleave(child, rows // arity + (child < rows % arity).long())
    for block in _blocks(begins, rows * points.shape[1]):
        place = block.unsqueeze(1) + torch.arange(rows)
        mine = order[place]
        label = balanced_clusters(_gathered(points, mine), first.expand(len(block), -1), arity)
        order[place] = mine.gather(1, label.argsort(dim=1, stable=True))


def _blocks(begins: Int[Tensor, " G"], each: int) -> Iterator[Int[Tensor, " _"]]:
    yield from torch.split(begins, max(1, BLOCK // max(1, each)))


def _halved(
    points: Float[Tensor, "N E"], rows: Int[Tensor, "G n"], left: int, cut: Cut, generator: Generator | None
) -> Int[Tensor, "G n"]:
    """An order of each group's rows of which the first `left` are one half; "kmeans" begins as "pca" does."""
    groups, count = rows.shape
    if not 0 < left < count:
        return torch.arange(count).expand(groups, -1)
    if cut == "random":
        return torch.rand(groups, count, generator=generator).argsort(dim=1)
    # the direction of a large group is known well enough from some of its rows, evenly spread
    sample = _gathered(points, rows[:, :: -(-count // SAMPLE)])
    sample = sample - sample.mean(dim=1, keepdim=True)
    direction = _principal(sample)
    if count <= SAMPLE:
        value = torch.bmm(sample, direction.unsqueeze(2)).squeeze(2)
    else:
        value = torch.stack([points[mine] @ direction[group] for group, mine in enumerate(rows)])
    return value.argsort(dim=1, stable=True)


def _gathered(points: Float[Tensor, "N E"], rows: Int[Tensor, "G n"]) -> Float[Tensor, "G n E"]:
    return points.index_select(0, rows.flatten()).view(*rows.shape, points.shape[1])


def _principal(centred: Float[Tensor, "G n E"]) -> Float[Tensor, "G E"]:
    """First principal component of each group, by power steps from its longest row; 0 where all rows are equal."""
    long = centred.square().sum(dim=2).argmax(dim=1)
    direction = centred[torch.arange(len(centred)), long].unsqueeze(2)
    if centred.shape[1] > centred.shape[2]:
        scatter = torch.bmm(centred.transpose(1, 2), centred)
        for _ in range(POWER_STEPS):
            direction = torch.nn.functional.normalize(torch.bmm(scatter, direction), dim=1)
    else:
        for _ in range(POWER_STEPS):
            direction = torch.bmm(centred.transpose(1, 2), torch.bmm(centred, direction))
            direction = torch.nn.functional.normalize(direction, dim=1)
    return direction.squeeze(2)
