"""How far importance weights can be trusted: their effective number and the tail of their distribution.

    ESS = (Σ w)² / Σ w²                                                     Kish 1965; Kong 1992
    k̂   = shape of a generalised Pareto distribution of the largest w       Zhang & Stephens 2009; Vehtari et al. 2024

With k ≥ ½ the weights have no variance, with k ≥ 1 no mean.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

FEWEST_IN_TAIL = 5
"""A tail of fewer different weights has no shape that a fit could find."""


def effective_number(weight: Float[Tensor, " M"]) -> float:
    """(Σ w)² / Σ w², the number of equal weights that would be as informative; 0 where all weights are 0."""
    square = float(weight.square().sum())
    return float(weight.sum()) ** 2 / square if square > 0 else 0.0


def largest_share(weight: Float[Tensor, " M"]) -> float:
    """Share of the sum that the largest weight has; 0 where all weights are 0."""
    total = float(weight.sum())
    return float(weight.max()) / total if total > 0 else 0.0


def pareto_k(weight: Float[Tensor, " M"]) -> float:
    """Shape k̂ of the tail of the weights, from the largest min(M/5, 3√M) of them; −∞ where they are too few or equal.

    The threshold is the largest weight below the tail, and the prior pulls k̂ towards ½ as ten weights would (Vehtari,
    Simpson, Gelman, Yao & Gabry, "Pareto smoothed importance sampling", JMLR 2024, sec. 3 and app. C).
    """
    ordered = _six_digits(weight.double().sort().values)
    size = math.ceil(min(0.2 * len(ordered), 3 * math.sqrt(len(ordered))))
    if size < FEWEST_IN_TAIL:
        return -math.inf
    excess = ordered[-size:] - ordered[-size - 1]
    excess = excess[excess > 0]
    if len(torch.unique(excess)) < FEWEST_IN_TAIL:
        return -math.inf
    return (len(excess) * generalised_pareto_shape(excess) + 10 * 0.5) / (len(excess) + 10)


def _six_digits(weight: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Weights to six significant digits: those that only the rounding of propensities tells apart become equal."""
    mantissa, exponent = torch.frexp(weight)
    return torch.ldexp((mantissa * 2**20).round() / 2**20, exponent)


def generalised_pareto_shape(excess: Float[Tensor, " M"]) -> float:
    """Shape k of a generalised Pareto distribution with location 0: P(X > x) = (1 + k x / σ)^(−1/k).

    The mean of θ = −k/σ under a weakly informative prior, on a grid of 30 + √M values (Zhang & Stephens, "A new and
    efficient estimation method for the generalized Pareto distribution", Technometrics 2009); no search, no start.

    Args:
        excess: numbers above 0, in ascending order.
    """
    count = len(excess)
    grid = 30 + math.isqrt(count)
    step = torch.arange(1, grid + 1, dtype=torch.float64)
    quartile = excess[int(count / 4 + 0.5) - 1]
    theta = 1 / excess[-1] + (1 - (grid / (step - 0.5)).sqrt()) / (3 * quartile)
    shape = torch.log1p(-theta.unsqueeze(1) * excess).mean(dim=1)
    likelihood = count * ((-theta / shape).log() - shape - 1)
    mean_theta = (likelihood.softmax(dim=0) * theta).sum()
    return float(torch.log1p(-mean_theta * excess).mean())
