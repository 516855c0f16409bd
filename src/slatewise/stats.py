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
    users: int | None = None
    """How many users it is an average over; None where it is not one over users."""
    left_out: int | None = None
    """How many users it leaves out, because it has no value for them."""

    @property
    def has_interval(self) -> bool:
        """True where both bounds are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def quantile_t(freedom: int | float) -> float:
    """97.5 % quantile of Student's t distribution with that many degrees of freedom, whole or not, above 0."""
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


def student_t(values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)) -> MeanInterval:
    """Mean of independent values and the bounds of its 95 % interval by Student's t, cut to the range of the values.

    The bounds are those of the range for a single value, infinite where it is.
    """
    least, largest = within
    numbers = np.asarray(values, dtype=float)
    mean = float(numbers.mean())
    if len(numbers) < 2:
        return MeanInterval(mean, least, largest)
    half = float(quantile_t(len(numbers) - 1) * numbers.std(ddof=1) / math.sqrt(len(numbers)))
    return MeanInterval(mean, max(least, mean - half), min(largest, mean + half))


def paired_difference(first: Float[Tensor, " B"], second: Float[Tensor, " B"]) -> MeanInterval:
    """Mean of first − second over the cases that have both (others are NaN), with the interval of the paired t-test.

    NaN where no case has both.
    """
    differences = (first - second).double()
    differences = differences[~differences.isnan()]
    if not len(differences):
        return MeanInterval(math.nan, math.nan, math.nan)
    return student_t(differences.tolist())


def mean_interval(values: Float[Tensor, " B"], *, least: float = -math.inf) -> tuple[float, float, float]:
    """Mean of independent values and the bounds of its 95 % interval (normal approximation).

    NaN where there is none: no mean of nothing, no interval of a single value.

    Args:
        values: one number a case.
        least: smallest possible value; the interval does not go below it.
    """
    count = len(values)
    if count < 2:
        return (float(values.double().mean()) if count else math.nan), math.nan, math.nan
    mean = float(values.double().mean())
    half = Z95 * float(values.double().std()) / math.sqrt(count)
    return mean, max(least, mean - half), mean + half


def share_interval(values: Float[Tensor, " B"]) -> tuple[float, float, float]:
    """Mean of independent values in [0, 1] and the bounds of its 95 % interval, which stays there.

    Wilson's interval with the design effect: for B values of mean p and variance s² it counts B p (1 − p) / s² trials,
    which are B where every value is 0 or 1, and more where they scatter less. Equal values count once each. NaN as in
    `mean_interval`.
    """
    count = len(values)
    if count < 2:
        return mean_interval(values)
    numbers = values.double()
    mean, variance = float(numbers.mean()), float(numbers.var(unbiased=False))
    trials = count * mean * (1 - mean) / variance if variance > 0 else float(count)
    return mean, *_wilson(mean, trials)


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
    return _wilson(successes / trials, float(trials)) if trials else (0.0, 1.0)


def _wilson(share: float, trials: float) -> tuple[float, float]:
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials)) / (1 + z2 / trials)
    # rounding must not leave the share itself outside
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def jackknife_of_share(value: float, left_out: Float[Tensor, " G"]) -> tuple[float, float]:
    """Bounds of the 95 % interval of a statistic in [0, 1] from its values with one of G groups left out each time.

    Computed for arcsin √x, whose ends are those of the interval [0, 1], and transformed back.

    Args:
        value: the statistic of everything.
        left_out: the statistic without each group, G ≥ 2.
    """
    angles = left_out.double().clamp(0, 1).sqrt().asin()
    groups = len(angles)
    half = Z95 * math.sqrt((groups - 1) / groups * float((angles - angles.mean()).square().sum()))
    middle = math.asin(math.sqrt(min(max(value, 0.0), 1.0)))
    low, high = max(middle - half, 0.0), min(middle + half, math.pi / 2)
    return math.sin(low) ** 2, math.sin(high) ** 2
