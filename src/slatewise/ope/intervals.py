"""A 95 % interval of a self-normalised estimate from trajectories, not from steps.

    v̂   = Σ E_i / Σ W_i                   E_i = Σ w r,  W_i = Σ w of trajectory i;  e_i = E_i − v̂ W_i
    J    = (n−1)/n Σ (e_i / (ΣW − W_i))²   variance by the jackknife: v̂ with each trajectory left out (Miller 1974)
    H    = s² Σ w² / (Σ w)²                variance if steps were independent; s² = Σ w (r − v̂)² / Σ w
    V    = max(J, (q J + 5 H) / (q + 5))   q = (Σ e²)² / Σ e⁴: how many trajectories J rests on
    v    = Wilson's interval on the range of the rewards, with Student's t of ESS − 1 degrees of freedom (Wilson 1927;
           effective sample size p(1 − p)/V as Korn & Graubard 1998)

J alone is too small where few trajectories earned something: those with a large weight and a reward are then not in
the log yet. H knows the large weights without their rewards. `bench/ope_coverage.py` measures how often v covers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from slatewise.ope.weights import effective_number
from slatewise.stats import quantile_t

STRENGTH = 5.0
"""H counts as much as the residuals of that many trajectories."""


@dataclass(frozen=True, kw_only=True)
class RatioEstimate:
    """Σ w x / Σ w with its standard error and 95 % interval; NaN where the weights sum to 0."""

    value: float = math.nan
    stderr: float = math.nan
    low: float = math.nan
    high: float = math.nan


def estimate_ratio(
    weight: Float[Tensor, " M"],
    reward: Float[Tensor, " M"],
    user: Int[Tensor, " M"],
    *,
    rewards: tuple[float, float] | None,
) -> RatioEstimate:
    """Σ w r / Σ w over the steps of independent users.

    Args:
        weight: of each step, ≥ 0.
        reward: of each step.
        user: number of each step's user, from 0 on.
        rewards: smallest and largest possible reward; None = the result may lie outside of what a step earned.
    """
    total = sum_by(user, weight)
    if not float(total.sum()) > 0:
        return RatioEstimate()
    earned = sum_by(user, weight * reward)
    value = float(earned.sum() / total.sum())
    variance = combined_variance(
        jackknife_variance(earned, total), independent_variance(weight, reward), earned - value * total
    )
    number = effective_number(total)
    if rewards is None:
        low, high = symmetric_interval(value, variance, freedom=number - 1)
    else:
        low, high = range_interval(value, variance, freedom=number - 1, low=rewards[0], high=rewards[1], number=number)
    return RatioEstimate(value=value, stderr=math.sqrt(variance), low=low, high=high)


def sum_by(group: Int[Tensor, " M"], values: Float[Tensor, " M"]) -> Float[Tensor, " n"]:
    """Sums of the values of each group 0, 1, …, n − 1."""
    groups = int(group.max()) + 1 if len(group) else 0
    return values.new_zeros(groups).index_add_(0, group, values)


def jackknife_variance(earned: Float[Tensor, " n"], total: Float[Tensor, " n"]) -> float:
    """Variance of Σ earned / Σ total from leaving out one trajectory at a time; infinite where one has all the weight.

    Args:
        earned: E_i.
        total: W_i ≥ 0, with a sum above 0.
    """
    count = len(earned)
    rest = total.sum() - total
    if count < 2 or not bool((rest > 0).all()):
        return math.inf
    residual = earned - earned.sum() / total.sum() * total
    return (count - 1) / count * float((residual / rest).square().sum())


def independent_variance(weight: Float[Tensor, " M"], reward: Float[Tensor, " M"]) -> float:
    """Variance of Σ w r / Σ w if the rewards were independent and equally noisy, whatever their weight."""
    share = weight / weight.sum()
    value = (share * reward).sum()
    return float((share * (reward - value).square()).sum() * share.square().sum())


def combined_variance(jackknife: float, independent: float, residual: Float[Tensor, " n"]) -> float:
    """The jackknife's variance, raised towards `independent` where it rests on few trajectories.

    Args:
        jackknife: J.
        independent: H.
        residual: e_i of each trajectory.
    """
    fourth = float(residual.pow(4).sum())
    number = float(residual.square().sum()) ** 2 / fourth if fourth > 0 else 0.0
    return max(jackknife, (number * jackknife + STRENGTH * independent) / (number + STRENGTH))


def range_interval(
    value: float, variance: float, *, freedom: float, low: float, high: float, number: float
) -> tuple[float, float]:
    """Wilson's 95 % interval of a mean of rewards between `low` and `high`; it never leaves them.

    Args:
        value: the estimate, between both.
        variance: of the estimate.
        freedom: degrees of freedom of Student's t; at 0 nothing but the range is known.
        low: smallest possible reward.
        high: largest possible reward.
        number: stands for p(1 − p)/variance where the log shows no variance.
    """
    width = high - low
    if width == 0:
        return low, high
    if not freedom > 0 or not math.isfinite(variance):
        return low, high
    share = min(max((value - low) / width, 0.0), 1.0)
    if variance > 0:
        # t²/n, with n = p(1 − p) / variance trials; at p = 0 or 1 a log that varies does not exist
        spread = share * (1 - share) * width**2 / variance
        number = spread if spread > 0 else number
    quantile = quantile_t(freedom)
    ratio = quantile * quantile / number
    if ratio > 1e15:  # the interval fills the range; squares would overflow
        return low, high
    centre = (share + ratio / 2) / (1 + ratio)
    half = math.sqrt(ratio * share * (1 - share) + ratio**2 / 4) / (1 + ratio)
    return low + max(centre - half, 0.0) * width, low + min(centre + half, 1.0) * width


def symmetric_interval(value: float, variance: float, *, freedom: float) -> tuple[float, float]:
    """The value plus and minus Student's t standard errors, for estimates that may leave the range of the rewards."""
    half = quantile_t(freedom) * math.sqrt(variance) if freedom > 0 else math.inf
    return value - half, value + half
