"""Calibration of predicted probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Predictions in bins of equal width over [0, 1]; NaN where a bin is empty."""

    predicted: Float[Tensor, " Q"]
    """Mean prediction of each bin."""
    observed: Float[Tensor, " Q"]
    """Share of each bin's events that happened."""
    count: Int[Tensor, " Q"]

    @property
    def error(self) -> float:
        """Expected calibration error: Σ count/n |predicted − observed| (Naeini et al. 2015); 0 without predictions."""
        weight = self.count / self.count.sum().clamp(min=1)
        return float((weight * (self.predicted - self.observed).abs().nan_to_num(0.0)).sum())


def reliability(probability: Float[Tensor, " P"], happened: Bool[Tensor, " P"], *, bins: int = 10) -> Reliability:
    """The reliability curve of predicted probabilities.

    Args:
        probability: (P,) predictions in [0, 1].
        happened: (P,) whether each event happened.
        bins: number of bins, ≥ 1.
    """
    bin_index = (probability.double() * bins).long().clamp(0, bins - 1)
    count = torch.bincount(bin_index, minlength=bins)
    sums = (torch.bincount(bin_index, weights=x.double(), minlength=bins) for x in (probability, happened))
    predicted, observed = (total / count for total in sums)  # 0/0 in an empty bin is the NaN it should be
    return Reliability(predicted=predicted, observed=observed, count=count)
