"""What items are like, as vectors: the ratings themselves, factors of them, or a variational code of them.

Everything here reads `Ratings`, so that whoever holds users out gives the ratings of the others. Rows belong to item
numbers: row i is item i, the two reserved rows are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.data.ratings import Ratings
from slatewise.ops.initial import normal_

OUTER = 1 << 23
"""Numbers that the normal equations of some users or items take at a time."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """A rating as mean + user's bias + item's bias + ⟨user's factors, item's factors⟩, clipped to the scale."""

    mean: float
    scale: tuple[float, float]
    user_bias: Float[Tensor, "U"]
    item_bias: Float[Tensor, "rows"]
    user: Float[Tensor, "U E"]
    item: Float[Tensor, "rows E"]

    def of(self, users: Int[Tensor, "B"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Ratings that users would give to items."""
        taste = torch.einsum("be,bae->ba", self.user[users], self.item[items])
        value = self.mean + self.user_bias[users].unsqueeze(1) + self.item_bias[items] + taste
        return value.clamp(*self.scale)


def factorise(
    given: Ratings,
    *,
    width: int = 8,
    rounds: int = 12,
    damping: float = 10.0,
    penalty: float = 0.1,
    generator: Generator,
) -> Factors:
    """Biases by damped means, then factors of what they leave by alternating least squares (Zhou et al. 2008).

    Args:
        given: the ratings.
        width: E.
        rounds: times that both sides are solved.
        damping: ratings of value 0 that every bias starts from.
        penalty: on the squared norm of a row, per rating of it.
        generator: of the first item factors.

    Raises:
        ValueError: a width below 1.
    """
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1 factor")
    mean = float(given.value.double().mean())
    rest = given.value - mean
    item_bias = _damped_means(given.item, rest, given.num_rows, damping)
    rest = rest - item_bias[given.item]
    user_bias = _damped_means(given.user, rest, given.num_users, damping)
    rest = rest - user_bias[given.user]

    by_item = torch.argsort(given.item, stable=True)
    item_offsets = torch.nn.functional.pad(given.counts().cumsum(0), (1, 0))
    item = torch.zeros(given.num_rows, width)
    normal_(item, 0.1, generator)
    user = torch.zeros(given.num_users, width)
    for _ in range(rounds):
        user = _least_squares(item, given.offsets, given.item, rest, penalty)
        item = _least_squares(user, item_offsets, given.user[by_item], rest[by_item], penalty)
    return Factors(mean=mean, scale=given.scale, user_bias=user_bias, item_bias=item_bias, user=user, item=item)


def _damped_means(
    row: Int[Tensor, "R"], value: Float[Tensor, "R"], num_rows: int, damping: float
) -> Float[Tensor, "rows"]:
    total = torch.zeros(num_rows).index_add_(0, row, value)
    return total / (torch.bincount(row, minlength=num_rows) + damping)


def _least_squares(
    other: Float[Tensor, "M E"],
    offsets: Int[Tensor, "N1"],
    column: Int[Tensor, "R"],
    value: Float[Tensor, "R"],
    penalty: float,
) -> Float[Tensor, "N E"]:
    """x_n = (Σ y yᵀ + penalty · count · I)⁻¹ Σ value · y for every row n; 0 where it has no entry."""
    width = other.shape[1]
    found = other.new_zeros(len(offsets) - 1, width)
    for first, last in _stretches(offsets, OUTER // (width * width)):
        at = slice(int(offsets[first]), int(offsets[last]))
        count = offsets[first : last + 1].diff()
        row = torch.repeat_interleave(torch.arange(last - first), count)
        y = other[column[at]]
        outer = (y.unsqueeze(2) * y.unsqueeze(1)).flatten(1)
        matrix = outer.new_zeros(last - first, width * width).index_add_(0, row, outer).view(-1, width, width)
        right = y.new_zeros(last - first, width).index_add_(0, row, y * value[at].unsqueeze(1))
        matrix = matrix + torch.eye(width) * (penalty * count.clamp(min=1)).view(-1, 1, 1)
        found[first:last] = torch.linalg.solve(matrix, right)
    return found


def _stretches(offsets: Int[Tensor, "N1"], most: int) -> Iterator[tuple[int, int]]:
    """Rows first … last − 1 with at most about so many entries, and never more rows than that."""
    first, rows = 0, len(offsets) - 1
    while first < rows:
        last = int(torch.searchsorted(offsets, offsets[first] + most, right=True)) - 1
        last = max(first + 1, min(last, first + most, rows))
        yield first, last
        first = last
