"""Log softmax of one item per state over the whole catalog, without storing a (states × items) matrix.

A chunk of rows is scored and normalised while it is in the cache; the backward pass scores it again, which costs one
more matrix product and saves five passes over memory.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.ops.products import product

CHUNK_ELEMENTS = 1 << 19
"""Scores computed at a time: 2 MB of float32, the size of a core's L2 cache."""


def log_softmax_at(
    state: Float[Tensor, "P D"], weight: Float[Tensor, "N D"], bias: Float[Tensor, " N"], target: Int[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """The log softmax of state · weightᵀ + bias at one column per row.

    Args:
        state: rows.
        weight: one row per item.
        bias: one number per item.
        target: column of each row, in [0, N).
    """
    result: Tensor = _LogSoftmaxAt.apply(state, weight, bias, target)  # type: ignore[no-untyped-call]
    return result


class _LogSoftmaxAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, weight: Tensor, bias: Tensor, target: Tensor) -> Tensor:
        chosen = state.new_empty(len(state))
        for rows in _chunks(len(state), len(weight)):
            log_p = torch.log_softmax(product(state[rows], weight, bias), dim=1)
            chosen[rows] = log_p.gather(1, target[rows, None])[:, 0]
        ctx.save_for_backward(state, weight, bias, target)
        return chosen

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, bias, target = ctx.saved_tensors
        grad = grads[0]
        d_state = torch.empty_like(state) if ctx.needs_input_grad[0] else None
        # (D, N), the layout that `product` returns: few long rows
        d_columns, d_bias = state.new_zeros(state.shape[1], len(weight)), torch.zeros_like(bias)
        for rows in _chunks(len(state), len(weight)):
            # d log p_a / d score_j = [j = a] − p_j
            d_scores = torch.softmax(product(state[rows], weight, bias), dim=1).mul_(-grad[rows, None])
            d_scores.scatter_add_(1, target[rows, None], grad[rows, None])
            if d_state is not None:
                d_state[rows] = product(d_scores, weight.t())
            d_columns += product(state[rows].t().contiguous(), d_scores.t())
            d_bias += d_scores.sum(dim=0)
        return d_state, d_columns.t(), d_bias, None


def _chunks(rows: int, columns: int) -> list[slice]:
    size = max(1, CHUNK_ELEMENTS // max(1, columns))
    return [slice(at, min(at + size, rows)) for at in range(0, rows, size)]
