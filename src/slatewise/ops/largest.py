"""The largest scores of every row in a defined order: equal ones in the order of their columns."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

DECIMALS = 9
"""Of double-precision scores that are compared: sums that should be equal differ only in later digits."""


def largest_columns(scores: Float[Tensor, "B C"], number: int) -> Int[Tensor, "B M"]:
    """Columns of the largest scores, the largest first, ties by column.

    Scores in double precision are compared after rounding to 1e-9; those in single precision, which has no digits to
    spare, as they are. −inf comes last, in any order.

    Args:
        scores: no NaN.
        number: how many, at most C.
    """
    compared = torch.round(scores, decimals=DECIMALS) if scores.dtype == torch.float64 else scores
    # one more than wanted: if the last two are equal, topk chose among equals
    values, columns = torch.topk(compared, min(number + 1, scores.shape[1]), dim=1)
    if 0 < number < scores.shape[1]:
        last = values[:, number - 1]
        tied = (last == values[:, number]) & (last > -torch.inf)
        columns = columns[:, :number]
        if bool(tied.any()):
            columns = columns.masked_scatter(tied.unsqueeze(1), _first_of_equals(compared[tied], last[tied], number))
    columns = torch.sort(columns[:, :number], dim=1).values
    order = torch.sort(compared.gather(1, columns), dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)


def _first_of_equals(scores: Float[Tensor, "T C"], least: Float[Tensor, " T"], number: int) -> Int[Tensor, "T M"]:
    """Columns of the scores above `least` and of the first ones equal to it, ascending; `number` in every row."""
    above, equal = scores > least.unsqueeze(1), scores == least.unsqueeze(1)
    room = number - above.sum(dim=1, keepdim=True)
    chosen: Bool[Tensor, "T C"] = above | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].view(-1, number)
