"""Means and ratios with honest intervals."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

Z95 = 1.959964


def normal(values: Float[Tensor, " B"]) -> tuple[float, float, float]:
    """Mean of independent values and the borders of its 95 % interval (normal approximation)."""
    count = len(values)
    if count == 0:
        return math.nan, math.nan, math.nan
    mean = float(values.double().mean())
    if count == 1:
        return mean, -math.inf, math.inf
    half = Z95 * float(values.double().std()) / math.sqrt(count)
    return mean, mean - half, mean + half


def ratio(numerator: Float[Tensor, " B"], denominator: Float[Tensor, " B"]) -> tuple[float, float]:
    """Σ numerator / Σ denominator and its standard error by the delta method; B are independent clusters.

    The standard error is infinite for fewer than two clusters, both are NaN where the denominators sum to 0.
    """
    top, bottom = numerator.double(), denominator.double()
    total = float(bottom.sum())
    if total == 0:
        return math.nan, math.nan
    value = float(top.sum()) / total
    count = len(top)
    if count < 2:
        return value, math.inf
    residual = top - value * bottom
    return value, math.sqrt(float(residual.square().sum()) * count / (count - 1)) / total


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927): inside [0, 1] also for few trials; (0, 1) for none."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, Z95 * Z95
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)
