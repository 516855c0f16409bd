"""Exact maximum inner product search: for small catalogs, for tests, and as the reference for recall."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from slatewise.retrieval import _items

BLOCK = 65_536
"""Items scored at a time: memory is (B, 65,536) scores, whatever the catalog."""


class Exact:
    """Inner products of the query with all vectors, in float32."""

    def __init__(self) -> None:
        self.vectors = torch.zeros(0, 0)
        self.items = torch.zeros(0, dtype=torch.int64)
        self._positions = _items.ItemPositions()

    def __len__(self) -> int:
        return self._positions.count

    def fit(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"] | None = None) -> Exact:
        """Replace the index by these vectors.

        Args:
            vectors: (N, E) one per item; copied.
            items: (N,) their numbers; None = 0 … N − 1.

        Raises:
            ValueError: NaN, a repeated or negative number, or different lengths.
        """
        array, numbers = _items.checked_pair(vectors, items)
        self.vectors, self.items = torch.from_numpy(array.copy()), torch.from_numpy(numbers.copy())
        self._positions = _items.ItemPositions()
        self._positions.put(numbers, np.arange(len(numbers)))
        return self

    def search(self, query: Float[Tensor, "B E"], c: int) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]:
        """The c items with the largest inner product, best first, and their inner products.

        Raises:
            ValueError: empty index, another width, NaN, or c outside 1 … number of items.
        """
        count = len(self)
        query = torch.from_numpy(_items.checked_search(query, c, count=count, width=self.vectors.shape[1]))
        best = query.new_empty(len(query), 0)
        position = torch.empty(len(query), 0, dtype=torch.int64)
        # block by block, merging the best so far: memory does not grow with the catalog
        for start in range(0, count, BLOCK):
            scores = query @ self.vectors[start : min(start + BLOCK, count)].t()
            block_best, column = torch.topk(scores, min(c, scores.shape[1]), dim=1)
            best, position = torch.cat([best, block_best], dim=1), torch.cat([position, column + start], dim=1)
            best, order = torch.topk(best, min(c, best.shape[1]), dim=1)
            position = position.gather(1, order)
        return self.items[position], best

    def add(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]) -> None:
        """Add items to the index.

        Raises:
            ValueError: NaN, another width, or an item that is in the index already or repeated.
        """
        array, numbers = self._check_pair(vectors, items)
        _items.refuse_present(self._positions, numbers)
        start = len(self)
        self._reserve(start + len(numbers))
        self.vectors[start : start + len(numbers)] = torch.from_numpy(array)
        self.items[start : start + len(numbers)] = torch.from_numpy(numbers)
        self._positions.put(numbers, np.arange(start, start + len(numbers)))

    def remove(self, items: Int[Tensor, " N"]) -> None:
        """Remove items; the last rows move into the gaps.

        Raises:
            ValueError: an item is not in the index; then none is removed.
        """
        numbers = _items.checked_items(items)
        removed = np.sort(_items.positions_of(self._positions, numbers))
        remaining = len(self) - len(numbers)
        holes = removed[removed < remaining]
        tail = np.setdiff1d(np.arange(remaining, len(self)), removed)
        self._positions.drop(numbers)
        self.vectors[holes] = self.vectors[tail]
        self.items[holes] = self.items[tail]
        self._positions.put(self.items[holes].numpy(), holes)

    def replace(self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]) -> None:
        """Give items of the index new vectors.

        Raises:
            ValueError: NaN, another width, or an item that is not in the index or repeated; then nothing changes.
        """
        array, numbers = self._check_pair(vectors, items)
        self.vectors[_items.positions_of(self._positions, numbers)] = torch.from_numpy(array)

    def _check_pair(
        self, vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        if vectors.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"vectors have width {vectors.shape[1]}, the index has {self.vectors.shape[1]}")
        return _items.checked_pair(vectors, items)

    def _reserve(self, size: int) -> None:
        if size <= len(self.items):
            return
        grown = max(size, len(self.items) * 3 // 2)
        vectors, items = torch.zeros(grown, self.vectors.shape[1]), torch.zeros(grown, dtype=torch.int64)
        vectors[: len(self)], items[: len(self)] = self.vectors[: len(self)], self.items[: len(self)]
        self.vectors, self.items = vectors, items
