"""Scores with a bias as plain inner products, as indices want them: ⟨q, v⟩ + b = ⟨[q ; 1], [v ; b]⟩."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

LANES = 16
"""Width of a vector register in floats: vectors are padded with zeros to a multiple, which changes no product."""


def fold_bias(vectors: Float[Tensor, "N E"], bias: Float[Tensor, " N"] | None) -> Float[Tensor, "N F"]:
    """[v ; b], padded; the vectors as they are without a bias."""
    if bias is None:
        return vectors
    width = vectors.shape[1]
    filled = vectors.new_zeros(len(vectors), _padded_width(width + 1))
    filled[:, :width] = vectors
    filled[:, width] = bias
    return filled


def extend_query(query: Float[Tensor, "B E"], *, width: int) -> Float[Tensor, "B F"]:
    """[q ; 1], padded to the width of `fold_bias`; the query as it is where that width is its own."""
    if query.shape[1] == width:
        return query
    extended = query.new_zeros(len(query), width)
    extended[:, : query.shape[1]] = query
    extended[:, query.shape[1]] = 1.0
    return extended


def _padded_width(width: int) -> int:
    """The smallest multiple of LANES that is at least the width."""
    return -(-width // LANES) * LANES
