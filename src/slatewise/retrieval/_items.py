"""Positions of item numbers in a retriever, and the checks of its arguments."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor


class ItemPositions:
    """Position of each item number in an index; −1 for items that are not in it.

    One array up to the largest number: 8 MB at 10⁶ items, and no hashing on lookup.
    """

    def __init__(self) -> None:
        self._position = np.full(0, -1, np.int64)
        self.count = 0

    def positions(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Position of each item; −1 where it is not in the index."""
        in_range = (items >= 0) & (items < len(self._position))
        positions = np.full(len(items), -1, np.int64)
        positions[in_range] = self._position[items[in_range]]
        return positions

    def put(self, items: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        """Set the positions of items, new or present."""
        if not len(items):
            return
        largest = int(items.max())
        if largest >= len(self._position):
            # doubling keeps the cost of adding one item at a time linear
            grown = np.full(max(largest + 1, 2 * len(self._position)), -1, np.int64)
            grown[: len(self._position)] = self._position
            self._position = grown
        self.count += int((self._position[items] < 0).sum())
        self._position[items] = positions

    def drop(self, items: NDArray[np.int64]) -> None:
        """Remove items."""
        self._position[items] = -1
        self.count -= len(items)


def checked_items(items: Int[Tensor, " N"]) -> NDArray[np.int64]:
    """Item numbers as an array.

    Raises:
        ValueError: a number below 0, or a repeated one.
    """
    numbers: NDArray[np.int64] = np.ascontiguousarray(items.numpy(), dtype=np.int64)
    if len(numbers):
        if numbers.min() < 0:
            row = int(numbers.argmin())
            raise ValueError(f"row {row}: item number {numbers[row]}; expected 0 or more")
        ordered = np.sort(numbers)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            rows = np.flatnonzero(numbers == twice[0])[:2]
            raise ValueError(f"item {twice[0]} comes twice (rows {rows[0]} and {rows[1]}); keep one row an item")
    return numbers


def checked_vectors(vectors: Float[Tensor, "N E"], *, what: str) -> NDArray[np.float32]:
    """Vectors as a contiguous float32 array.

    Raises:
        ValueError: a number that is not finite; the message names the row.
    """
    array: NDArray[np.float32] = np.ascontiguousarray(vectors.detach().numpy(), dtype=np.float32)
    if not bool(torch.isfinite(vectors).all()):
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ValueError(f"{what} of row {row} holds NaN or infinity; the weights it came from are broken")
    return array


def checked_pair(
    vectors: Float[Tensor, "N E"], items: Int[Tensor, " M"] | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors and their item numbers, 0 … N − 1 for None.

    Raises:
        ValueError: the lengths differ, or either is invalid.
    """
    array = checked_vectors(vectors, what="the vector")
    if items is None:
        return array, np.arange(len(array))
    if len(items) != len(array):
        raise ValueError(f"{len(array)} vectors came with {len(items)} item numbers; expected one each")
    return array, checked_items(items)


def refuse_present(present: ItemPositions, items: NDArray[np.int64]) -> None:
    """Refuse to add items that are in the index already.

    Raises:
        ValueError: an item is in the index already.
    """
    held = items[present.positions(items) >= 0]
    if len(held):
        raise ValueError(
            f"item {held[0]} is in the index already ({len(held)} of {len(items)}); replace() gives it a new vector"
        )


def positions_of(present: ItemPositions, items: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of items that must be in the index.

    Raises:
        ValueError: an item is not in the index.
    """
    places = present.positions(items)
    unknown = items[places < 0]
    if len(unknown):
        raise ValueError(f"item {unknown[0]} is not in the index ({len(unknown)} of {len(items)}); nothing was changed")
    return places


def checked_search(query: Float[Tensor, "B E"], c: int, *, count: int, width: int) -> NDArray[np.float32]:
    """Queries as a contiguous float32 array.

    Args:
        query: (B, E) one vector per query.
        c: number of items to return, 1 … count.
        count: number of items in the index.
        width: E of the index.

    Raises:
        ValueError: empty index, another width, NaN, or c outside 1 … number of items.
    """
    if not count:
        raise ValueError("the index is empty; call fit() first")
    if query.shape[1] != width:
        raise ValueError(f"queries have width {query.shape[1]}, the vectors have {width}")
    if not 1 <= c <= count:
        raise ValueError(f"{c} items were asked for, the index holds {count:,}; ask for 1 to {count:,}")
    return checked_vectors(query, what="the query")
