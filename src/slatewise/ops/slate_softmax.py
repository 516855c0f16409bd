"""Sampled softmax of all items of a slate: they share a state, and therefore the sum over the negatives.

The values are those of `slatewise.ops.sampled_softmax`, with K times fewer matrix products for slates of K items.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_MOST = 1 - 1e-6
"""Largest share of the sum that may be subtracted from it: beyond, cancellation would leave no digit."""


def sampled_log_softmax_slate(
    state: Float[Tensor, "P D"],
    positive: Float[Tensor, "P K D"],
    negative: Float[Tensor, "M D"],
    *,
    log_weight: Float[Tensor, " M"],
    hit: Int[Tensor, "P K"],
    positive_bias: Float[Tensor, "P K"],
    negative_bias: Float[Tensor, " M"],
    temperature: float = 1.0,
) -> Float[Tensor, "P K"]:
    """Estimate log π(a|s) of K items per state: log π̂ = x_a − log(exp x_a + Σ_{j ≠ a} exp(x_j + log_weight_j)).

    Args:
        state: s of each slate.
        positive: rows of the slate's items.
        negative: rows of the negatives, shared by all slates.
        log_weight: log of how many items each negative stands for (`slatewise.ops.negatives`).
        hit: column of the negative that is the item itself; −1 for none.
        positive_bias: b of the slate's items.
        negative_bias: b of each negative.
        temperature: τ, above 0.
    """
    state = state / temperature
    scores = torch.addmm(log_weight + negative_bias, state, negative.t())
    total: Tensor = _LogSum.apply(scores)  # type: ignore[no-untyped-call]
    rest = total.unsqueeze(1)
    chosen = torch.einsum("pd,pkd->pk", state, positive) + positive_bias
    # the item itself may be among the negatives: its share of the sum is subtracted
    hit_share = torch.exp(scores.gather(1, hit.clamp(min=0)) - rest).clamp(max=_MOST)
    rest = rest + torch.where(hit >= 0, torch.log1p(-hit_share), 0.0)
    return chosen - torch.logaddexp(chosen, rest)


class _LogSum(torch.autograd.Function):
    """logsumexp over the last axis that saves its softmax for the backward pass: three passes over the scores fewer."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor) -> Tensor:
        share = torch.softmax(scores, dim=1)
        ctx.save_for_backward(share)
        # log Σ exp x = x_j − log p_j for every j; at the largest no digit is lost
        return scores.amax(dim=1) - share.amax(dim=1).log_()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (share,) = ctx.saved_tensors
        scaled: Tensor = share * grad.unsqueeze(1)
        return scaled
