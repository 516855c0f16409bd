"""Shown items of a batch as flat rows: one per (user, step, position) to learn from."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM


def shown_rows(slate: Int[Tensor, "B T K"], learn: Bool[Tensor, "B T"]) -> Int[Tensor, "P 3"]:
    """Indices (user, step, position) of the real items in steps to learn from."""
    return (learn.unsqueeze(2) & (slate >= FIRST_ITEM)).nonzero()


def at_rows(values: Float[Tensor, "B S D"], rows: Int[Tensor, "P 3"]) -> Float[Tensor, "P D"]:
    """The state of each row's step."""
    steps = values.shape[1]
    return values.flatten(0, 1).index_select(0, rows[:, 0] * steps + rows[:, 1])


def at_steps(states: Float[Tensor, "B S D"], steps: Bool[Tensor, "B T"]) -> Float[Tensor, "P D"]:
    """The state before each marked step, user by user.

    Whole rows are gathered by index: the backward pass of a boolean mask is ten times slower.
    """
    user, step = steps.nonzero().unbind(dim=1)
    return states.flatten(0, 1).index_select(0, user * states.shape[1] + step)
