"""Inverse propensity scoring per shown item.

    IPS    = (1/n) Σ w r        SNIPS  = Σ w r / Σ w        w = π(a|s) / β(a|s)

Horvitz & Thompson 1952; Swaminathan & Joachims, "The self-normalized estimator for counterfactual learning", NeurIPS
2015. `evaluation_logp` and the log's `logp` must be the same kind of number: both single-draw, or both slate factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.log import FIRST_ITEM
from slatewise.ope.verdict import judge
from slatewise.stats import Z95, ratio
from slatewise.types import Estimate, Trajectories


@dataclass(frozen=True, kw_only=True)
class Snips:
    """Self-normalised or plain inverse propensity scoring over the shown items with a known propensity."""

    normalise: bool = True
    """False gives IPS: unbiased, with more variance."""
    weight_cap: float = math.inf
    """Upper limit of a weight; a finite limit reduces variance at the cost of bias."""
    fitted: bool = False
    """Whether the log-probabilities of the log were estimated; the verdict then says so."""
    only_uses: bool = False
    """Whether the log holds uses instead of impressions; the verdict then says so."""

    def __post_init__(self) -> None:
        if not self.weight_cap > 0:
            raise ValueError(f"weight_cap is {self.weight_cap}; expected a number above 0")

    def estimate(
        self,
        trajectories: Trajectories,
        evaluation_logp: Float[Tensor, "B T K"],
        values: Float[Tensor, "B T"] | None = None,
    ) -> Estimate:
        """Reward per shown item under the evaluation policy; the interval treats trajectories as independent.

        Args:
            trajectories: the steps with ``learn`` enter the estimate; their logp is β's.
            evaluation_logp: (B, T, K) log-probability of each shown item under the evaluation policy.
            values: not used.
        """
        del values
        counted = (trajectories.learn & trajectories.logp_known).unsqueeze(2) & (trajectories.slate >= FIRST_ITEM)
        weight = torch.exp(evaluation_logp.double() - trajectories.logp.double())
        weight = torch.where(counted, weight.clamp(max=self.weight_cap), 0.0)
        unit = counted.double()
        earned = (weight * trajectories.reward).sum(dim=(1, 2))
        total, number = weight.sum(dim=(1, 2)), unit.sum(dim=(1, 2))
        steps = int(number.sum())
        value, stderr = ratio(earned, total if self.normalise else number)
        all_weight = float(weight.sum())
        ess = all_weight**2 / float(weight.square().sum()) if all_weight > 0 else 0.0
        max_weight = float(weight.max()) / all_weight if all_weight > 0 else 0.0
        unsupported = float((counted & (evaluation_logp == -math.inf)).sum()) / steps if steps else 0.0
        mean_weight, mean_stderr = ratio(total, number)
        verdict, reasons = judge(
            steps=steps,
            ess=ess,
            max_weight=max_weight,
            unsupported=unsupported,
            mean_weight=mean_weight,
            mean_weight_stderr=mean_stderr,
            fitted=self.fitted,
            only_uses=self.only_uses,
        )
        scale = total.sum() if self.normalise else number.sum()
        return Estimate(
            value=value,
            stderr=stderr,
            interval=(value - Z95 * stderr, value + Z95 * stderr),
            ess=ess,
            steps=steps,
            max_weight=max_weight,
            unsupported=unsupported,
            verdict=verdict,
            reasons=reasons,
            contributions=(earned / scale).float() if steps else torch.zeros(0),
        )
