"""Sampled softmax over a catalog too large to score: the item itself and negatives that stand for the rest.

    log π̂(a|s) = x_a − log( exp x_a + Σ_{j ∈ negatives, j ≠ a} exp(x_j + log_weight_j) ),   x_b = sᵀv_b / τ + b_b

The sum over the negatives is an unbiased estimate of the sum over all items except a (Bengio & Senécal 2008), so π̂
tends to π as the number of negatives grows, and equals π where they are the whole catalog. An accidental hit, the item
among its own negatives, is left out: its term is in the sum already, exactly.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from slatewise.ops.products import product

_ROWS = 256
"""Positions processed at a time: 256 × 2,048 scores stay in a core's cache between product, softmax and product."""

_COLUMNS = 64
"""Negatives are padded to a multiple of this with columns of weight 0: samplers return a varying number of distinct
items (2,033, then 2,041), and oneDNN compiles a kernel for every new shape."""

_LEFT_OUT = -1e30
"""Score of an accidental hit: finite, so that a row whose negatives are all hits stays free of NaN."""


def sampled_log_softmax(
    state: Float[Tensor, "P D"],
    positive: Float[Tensor, "P D"],
    negative: Float[Tensor, "M D"],
    *,
    log_weight: Float[Tensor, " M"],
    hit: Int[Tensor, " P"],
    positive_bias: Float[Tensor, " P"] | None = None,
    negative_bias: Float[Tensor, " M"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, " P"]:
    """Estimate log π(a|s) of one item per position; differentiable once, by states and the given rows and biases only.

    Multiply the result by weights per position (importance × return) to scale its gradient. The backward pass costs one
    matrix product, because the forward pass computes the other while the scores are in the cache; the memory is one
    (P, M) block.

    Args:
        state: s of each position.
        positive: row of the item at each position.
        negative: rows of the negatives, shared by all positions.
        log_weight: log of how many items each negative stands for (`slatewise.ops.negatives`).
        hit: column of the negative that is the position's own item; −1 for none.
        positive_bias: b of the item at each position; None = 0.
        negative_bias: b of each negative; None = 0.
        temperature: τ, above 0.
    """
    if temperature != 1:
        state = state / temperature
    bias = state.new_zeros(len(state)) if positive_bias is None else positive_bias
    offset = log_weight if negative_bias is None else log_weight + negative_bias
    log_pi: Tensor = _SampledLogSoftmax.apply(state, positive, negative, bias, offset, hit)  # type: ignore[no-untyped-call]
    return log_pi


class _SampledLogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        state, positive, negative, bias, offset, hit = arguments
        ctx.count, fill = len(negative), -len(negative) % _COLUMNS
        negative = nn.functional.pad(negative, (0, 0, 0, fill))
        offset = nn.functional.pad(offset, (0, fill), value=_LEFT_OUT)
        count, learns, moves_state = len(state), any(ctx.needs_input_grad), ctx.needs_input_grad[0]
        share = state.new_empty(count if learns else min(_ROWS, count), len(negative))
        mean = torch.empty_like(state) if moves_state else state
        rest = state.new_empty(count)
        for start in range(0, count, _ROWS):
            rows = slice(start, min(start + _ROWS, count))
            x = product(state[rows], negative, offset)
            column = hit[rows, None].clamp(min=0)
            x.scatter_(1, column, torch.where(hit[rows, None] >= 0, _LEFT_OUT, x.gather(1, column)))
            p = torch.softmax(x, dim=1, out=share[rows] if learns else share[: len(x)])
            # log Σ exp x = x_j − log p_j for every j; at the largest no digit is lost
            torch.sub(x.amax(dim=1), p.amax(dim=1).log_(), out=rest[rows])
            if moves_state:
                mean[rows] = product(p, negative.t())
        chosen = torch.linalg.vecdot(state, positive).add_(bias)
        log_pi: Tensor = chosen - torch.logaddexp(chosen, rest)
        ctx.save_for_backward(state, positive, share, mean, log_pi)
        return log_pi

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        state, positive, share, mean, log_pi = ctx.saved_tensors
        by_state, by_positive, by_negative, by_bias, by_offset, _ = ctx.needs_input_grad
        # ∇ log π̂ = (1 − π̂) (∇x_a − Σ_j share_j ∇x_j), share normalised over the negatives alone
        scale = -torch.expm1(log_pi) * grad
        grad_positive = scale.unsqueeze(1) * state
        return (
            scale.unsqueeze(1) * (positive - mean) if by_state else None,
            grad_positive if by_positive else None,
            -(grad_positive.t() @ share)[:, : ctx.count].t() if by_negative else None,
            scale if by_bias else None,
            -(scale @ share)[: ctx.count] if by_offset else None,
            None,
        )
