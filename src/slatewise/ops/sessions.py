"""Sums and autocorrelations within sessions of different lengths, and Gaussian mixtures."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def sum_since_reset(amount: Float[Tensor, "B T *P"], reset: Bool[Tensor, "B T"]) -> Float[Tensor, "B T *P"]:
    """Cumulative sum of the amounts, each step included, starting again after every step that resets.

    Args:
        amount: one or several numbers per step.
        reset: True on the last step of a session.
    """
    total = torch.cumsum(amount, dim=1)
    column = torch.arange(1, reset.shape[1] + 1, device=reset.device)
    last = torch.cummax(column * reset, dim=1).values  # column after the last reset, 0 before the first
    last = torch.nn.functional.pad(last[:, :-1], (1, 0))
    sum_before = torch.cat([torch.zeros_like(total[:, :1]), total], dim=1)
    index = last.reshape(last.shape + (1,) * (total.ndim - 2)).expand_as(total)
    return total - sum_before.gather(1, index)


def fit_wear(
    squares: Float[Tensor, "P P"], sums: Float[Tensor, " P"], prior: Float[Tensor, " P"], *, ridge: float = 1.0
) -> Float[Tensor, " P"]:
    """Least-squares wear w per unit of φ, so that Σ φ·w over a session is close to 1:

        min_w Σ_sessions (1 − φ·w)² + ridge |w − prior|²

    Args:
        squares: Σ φ φᵀ over complete sessions; φ counts the choices of a session.
        sums: Σ φ.
        prior: w without any session.
        ridge: above 0.
    """
    matrix = squares + ridge * torch.eye(len(sums), dtype=squares.dtype)
    step: Tensor = torch.linalg.solve(matrix, sums - squares @ prior)
    return prior + step


def autocorrelation(values: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], lag: int) -> float:
    """Correlation of steps with those `lag` later in the same session, around the overall mean.

    Args:
        values: one session a row.
        mask: True where a step exists.
        lag: steps between the two, ≥ 1.

    Returns:
        a number in [−1, 1]; NaN where the values are constant or no session is long enough.
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
    """Log Σ_m softmax(logits)_m N(values; mean_m, std_m²) (mixture density network, Bishop 1994).

    Args:
        values: where the density is evaluated.
        logits: of the M components.
        mean: of each component.
        log_std: log standard deviation of each component.
    """
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
    """Draw one value from each mixture, from one uniform number (the component) and one normal number (within it).

    Args:
        logits: of the M components.
        mean: of each component.
        log_std: log standard deviation of each component.
        uniform: numbers in [0, 1).
        normal: standard normal numbers.
    """
    edges = torch.cumsum(torch.softmax(logits, dim=-1), dim=-1)
    component = (uniform.unsqueeze(-1) >= edges).sum(dim=-1, keepdim=True).clamp(max=logits.shape[-1] - 1)
    return mean.gather(-1, component).squeeze(-1) + log_std.gather(-1, component).squeeze(-1).exp() * normal
