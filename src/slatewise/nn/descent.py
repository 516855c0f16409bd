"""A gradient step with norm clipping, at a rate that may change from update to update."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slatewise.schedules import Schedule


def descend(
    loss: Float[Tensor, ""],
    parameters: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    clip_norm: float,
    *,
    lr: float | Schedule | None = None,
) -> None:
    """Take one gradient step on the loss, with the gradient's norm clipped.

    Args:
        loss: scalar to minimise.
        parameters: the parameters whose gradient norm is clipped.
        optimiser: takes the step.
        clip_norm: upper limit of the gradient's norm.
        lr: learning rate of all parameters where it follows a schedule; else the optimiser's own stands.

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
    if isinstance(lr, Schedule):
        rate = lr.at(num_steps(optimiser))
        for group in optimiser.param_groups:
            group["lr"] = rate
    optimiser.step()


def num_steps(optimiser: torch.optim.Optimizer) -> int:
    """Steps that an optimiser has taken, by its own count: its state keeps it, so a resumed learner goes on from it."""
    return max((int(state["step"]) for state in optimiser.state.values() if "step" in state), default=0)
