"""Importance weights of off-policy policy gradients (Chen et al. 2019, arXiv 1812.02353)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def importance_weight(
    log_pi: Float[Tensor, "*B"], log_beta: Float[Tensor, "*B"], *, cap: float = math.inf
) -> Float[Tensor, "*B"]:
    """ω = min(π/β, cap), without gradient (eq. 3 and sec. 4.4: weight capping).

    Args:
        log_pi: single-draw log-probability of the item under the policy that learns.
        log_beta: the same under the policy that wrote the log.
        cap: c, above 0; infinity leaves the ratio as it is.
    """
    return torch.exp((log_pi - log_beta).detach().clamp(max=math.log(cap)))


def top_k_multiplier(log_pi: Float[Tensor, "*B"], k: int) -> Float[Tensor, "*B"]:
    """λ_K = K (1 − π)^(K−1): weight of ∇ log π for a set of K draws, relative to a single draw.

    Derivative of α = 1 − (1 − π)^K with respect to π (eq. 7). K = 1 gives 1 everywhere.

    Args:
        log_pi: log-probability of the item in one draw, ≤ 0.
        k: number of draws, ≥ 1.
    """
    if k == 1:
        return torch.ones_like(log_pi)
    # log(−expm1(x)) keeps the digits that log1p(−exp(x)) loses for x near 0; π = 1 gives −inf → λ = 0
    log_miss = torch.log(-torch.expm1(log_pi))
    return k * torch.exp((k - 1) * log_miss)


def self_normalised(weight: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Weights divided by their mean over the batch (NIS, sec. 4.4); an all-zero batch stays zero."""
    mean = weight.mean() if weight.numel() else weight.sum()
    return torch.where(mean > 0, weight / mean.clamp_min(torch.finfo(weight.dtype).tiny), weight)


def self_normalised_baseline(weight: Float[Tensor, " P"], returns: Float[Tensor, " P"]) -> Float[Tensor, ""]:
    """The baseline b = Σ ω R / Σ ω, an estimate of the learning policy's value from the batch; 0 for an all-zero batch.

    Σ ω b ∇ log π has mean 0 under the logging policy, so ω (R − b) has the same mean gradient as ω R. With the top-K
    factor the term to subtract is still ω b, not ω λ b: Σ π λ ∇ log π is not 0.
    """
    total = weight.sum()
    return torch.where(total > 0, (weight * returns).sum() / total.clamp_min(torch.finfo(weight.dtype).tiny), 0.0)


def divergence_weight(log_pi: Float[Tensor, "*B"], log_beta: Float[Tensor, "*B"], *, cap: float) -> Float[Tensor, "*B"]:
    """ω log(π/β): the weight of ∇ log π(a|s) in ∇ KL(π‖β), for items a drawn by β (sec. 4.4: TRPO).

    KL(π‖β) = Σ_a π log(π/β); the derivative of the logarithm sums to 0, and π = ω β turns the sum into a mean over β.

    Args:
        log_pi: single-draw log-probability of the item under the policy that learns.
        log_beta: the same under the policy that wrote the log.
        cap: upper limit of ω; the logarithm is not capped.
    """
    return importance_weight(log_pi, log_beta, cap=cap) * (log_pi - log_beta).detach()
