"""Running sums and autocorrelations within sessions of different lengths, and densities of what moves in them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def since_reset(amount: Float[Tensor, "B T *P"], reset: Bool[Tensor, "B T"]) -> Float[Tensor, "B T *P"]:
    """Σ of the amounts up to and with each step, beginning anew after every step that resets.

    Args:
        amount: one number or several a step.
        reset: True on the last step of a session.
    """
    total = torch.cumsum(amount, dim=1)
    column = torch.arange(1, reset.shape[1] + 1, device=reset.device)
    last = torch.cummax(column * reset, dim=1).values  # place after the last reset, 0 before the first
    last = torch.nn.functional.pad(last[:, :-1], (1, 0))
    before = torch.cat([torch.zeros_like(total[:, :1]), total], dim=1)
    index = last.reshape(last.shape + (1,) * (total.ndim - 2)).expand_as(total)
    return total - before.gather(1, index)


def fitted_wear(
    squares: Float[Tensor, "P P"], sums: Float[Tensor, " P"], prior: Float[Tensor, " P"], *, ridge: float = 1.0
) -> Float[Tensor, " P"]:
    """The wear w per unit of φ for which Σ φ·w over a session is as near to 1 as can be: least squares over sessions.

        min_w Σ_sessions (1 − φ·w)² + ridge |w − prior|²

    Args:
        squares: Σ φ φᵀ over complete sessions; φ counts what was picked in one.
        sums: Σ φ.
        prior: w before anything was seen.
        ridge: above 0.
    """
    matrix = squares + ridge * torch.eye(len(sums), dtype=squares.dtype)
    step: Tensor = torch.linalg.solve(matrix, sums - squares @ prior)
    return prior + step


def autocorrelation(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], lag: int) -> float:
    """Correlation of a session's steps with those `lag` later, around the overall mean; pairs within a row alone.

    Args:
        values: one session a row.
        mask: True where a step exists.
        lag: steps between the two, ≥ 1.

    Returns:
        a number in [−1, 1]; NaN where nothing varies or no session is long enough.
    """
    if values.shape[1] <= lag or not bool(mask.any()):
        return math.nan
    centred = (values.double() - values[mask].double().mean()).masked_fill(~mask, 0.0)
    both = mask[:, :-lag] & mask[:, lag:]
    first, second = centred[:, :-lag][both], centred[:, lag:][both]
    scale = float((first.square().sum() * second.square().sum()).sqrt())
    return float((first * second).sum()) / scale if scale > 1e-12 else math.nan


def mixture_log_density(
    values: Float[Tensor, "*B"],
    logits: Float[Tensor, "*B M"],
    mean: Float[Tensor, "*B M"],
    log_std: Float[Tensor, "*B M"],
) -> Float[Tensor, "*B"]:
    """Log Σ_m softmax(logits)_m N(values; mean_m, std_m²) (mixture density network, Bishop 1994)."""
    score = (values.unsqueeze(-1) - mean) * torch.exp(-log_std)
    density = -0.5 * score.square() - log_std - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(torch.log_softmax(logits, dim=-1) + density, dim=-1)


def mixture_draw(
    logits: Float[Tensor, "*B M"],
    mean: Float[Tensor, "*B M"],
    log_std: Float[Tensor, "*B M"],
    uniform: Float[Tensor, "*B"],
    normal: Float[Tensor, "*B"],
) -> Float[Tensor, "*B"]:
    """One value of each mixture from one uniform number (which part) and one normal number (where in it)."""
    edges = torch.cumsum(torch.softmax(logits, dim=-1), dim=-1)
    part = (uniform.unsqueeze(-1) >= edges).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return mean.gather(-1, part).squeeze(-1) + log_std.gather(-1, part).squeeze(-1).exp() * normal
