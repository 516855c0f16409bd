"""Means, ratios and proportions with their 95 % intervals; all quantiles of the package are here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

Z95 = 1.959964
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A metric with its 95 % interval and standard error; NaN where there is none."""

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan
    stderr: float = math.nan

    @property
    def has_interval(self) -> bool:
        """True where both bounds are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def quantile_t(freedom: int) -> float:
    """97.5 % quantile of Student's t distribution with that many degrees of freedom."""
    return float(student.ppf(0.975, freedom))


class MeanInterval(NamedTuple):
    """A mean and the bounds of its 95 % interval, infinite where a single value gives none."""

    mean: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the width of the interval; 0 where there is none."""
        return self.high - self.mean if math.isfinite(self.high) else 0.0

    def text(self, spec: str = ".3f", *, unit: str = "") -> str:
        """The mean with its interval, where there is one: "0.93 % [0.85, 1.01]"."""
        bounds = f" [{self.low:{spec}}, {self.high:{spec}}]" if math.isfinite(self.low) else ""
        return f"{self.mean:{spec}}{unit}{bounds}"


def student_t(values: Sequence[float]) -> MeanInterval:
    """Mean of independent values and the bounds of its 95 % interval by Student's t; infinite for a single value."""
    numbers = np.asarray(values, dtype=float)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return MeanInterval(mean, -math.inf, math.inf)
    half = float(quantile_t(len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers)))
    return MeanInterval(mean, mean - half, mean + half)


def mean_interval(values: Float[Tensor, " B"]) -> tuple[float, float, float]:
    """Mean of independent values and the bounds of its 95 % interval (normal approximation)."""
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
    """95 % interval of a proportion (Wilson 1927), which stays within [0, 1] for few trials; (0, 1) for none."""
    if trials == 0:
        return 0.0, 1.0
    share, z2 = successes / trials, Z95 * Z95
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def jackknife(value: float, left_out: Float[Tensor, " G"]) -> tuple[float, float]:
    """Bounds of the 95 % interval of a statistic from its values with one of G groups left out each time.

    Args:
        value: the statistic of everything.
        left_out: the statistic without each group, G ≥ 2.
    """
    groups = len(left_out)
    stderr = math.sqrt((groups - 1) / groups * float((left_out - left_out.mean()).square().sum()))
    return value - Z95 * stderr, value + Z95 * stderr
