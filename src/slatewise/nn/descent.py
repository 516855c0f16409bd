"""A gradient step with norm clipping."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def descend(
    loss: Float[Tensor, ""], parameters: list[nn.Parameter], optimiser: torch.optim.Optimizer, clip_norm: float
) -> None:
    """Take one gradient step on the loss, with the gradient's norm clipped.

    Args:
        loss: scalar to minimise.
        parameters: the parameters whose gradient norm is clipped.
        optimiser: takes the step.
        clip_norm: upper limit of the gradient's norm.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; no weight has changed.
    """
    advice = "lower method.lr, or look for extreme rewards (`slatewise data validate`)"
    if not bool(torch.isfinite(loss)):
        raise FloatingPointError(f"the loss is {loss.item()}: {advice}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    if not bool(torch.isfinite(norm)):
        raise FloatingPointError(f"the gradient's norm is {norm.item()}: {advice}")
    optimiser.step()
