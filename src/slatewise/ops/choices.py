"""What the user picked from each slate, and the order of the steps that move a state."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


def picked(values: Shaped[Tensor, "*B K"], choice: Int[Tensor, "*B"]) -> Shaped[Tensor, "*B"]:
    """The value at the picked position; 0 where nothing was picked (choice −1)."""
    found = values.gather(-1, choice.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(choice >= 0, found, torch.zeros_like(found))


def compacted(moves: Bool[Tensor, "B T"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B S"]]:
    """Where the steps that move the state stand, pushed together to the left.

    Returns:
        order: column of the j-th moving step of each row; rows with fewer than L moving steps repeat other columns.
        count: number of moving steps before each step, and after the last (S = T + 1): the state to read there.
    """
    count = torch.nn.functional.pad(torch.cumsum(moves, dim=1), (1, 0))
    longest = int(count[:, -1].max()) if moves.numel() else 0
    order = torch.argsort((~moves).to(torch.int8), dim=1, stable=True)[:, :longest]
    return order, count


def at_count(states: Float[Tensor, "B M D"], count: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
    """The state after the first `count` moving steps: states[b, count[b, t]].

    Args:
        states: before the first moving step and after each.
        count: as `compacted` gives it.
    """
    batch, length, width = states.shape
    row = count + torch.arange(0, batch * length, length, device=count.device).unsqueeze(1)
    # whole rows: the gradient of a gather would go through one number at a time
    return states.reshape(-1, width).index_select(0, row.flatten()).view(*count.shape, width)


def bucket(values: Float[Tensor, "*B"], edges: Float[Tensor, " E"]) -> Int[Tensor, "*B"]:
    """Number of the bucket of each value: how many edges are ≤ it (0 … E)."""
    return torch.bucketize(values, edges, right=True)


def bucket_edges(values: Float[np.ndarray, " P"], most: int = 8) -> tuple[float, ...]:
    """Edges that give every value a bucket of its own, or quantiles that make about `most` buckets of equal size.

    The lowest value (quantile) has no edge: what lies below the first edge is a bucket of its own.
    """
    edges = np.unique(values)
    if len(edges) > most:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, most + 1)[:-1]))
    return tuple(float(edge) for edge in edges[1:])
