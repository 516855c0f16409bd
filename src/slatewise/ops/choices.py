"""Values at the chosen position of slates, and buckets of rewards."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


def at_choice(values: Shaped[Tensor, "*B K"], choice: Int[Tensor, "*B"]) -> Shaped[Tensor, "*B"]:
    """The value at the chosen position; 0 without a choice (−1)."""
    chosen = values.gather(-1, choice.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return torch.where(choice >= 0, chosen, torch.zeros_like(chosen))


def bucket(values: Float[Tensor, "*B"], edges: Float[Tensor, " E"]) -> Int[Tensor, "*B"]:
    """Number of the bucket of each value: how many edges are ≤ it (0 … E)."""
    return torch.bucketize(values.contiguous(), edges, right=True)


def bucket_edges(values: Float[np.ndarray, " P"], most: int = 8) -> tuple[float, ...]:
    """Edges that give every value a bucket of its own, or quantiles that make about `most` buckets of equal size.

    The lowest value (quantile) has no edge: what lies below the first edge is a bucket of its own.
    """
    edges = np.unique(values)
    if len(edges) > most:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, most + 1)[:-1]))
    return tuple(float(edge) for edge in edges[1:])
