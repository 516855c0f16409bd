"""Inverse propensity scoring per shown item.

    IPS    = (1/n) Σ w r        SNIPS  = Σ w r / Σ w        w = π(a|s) / β(a|s)

Horvitz & Thompson 1952; Swaminathan & Joachims, "The self-normalized estimator for counterfactual learning", NeurIPS
2015. `evaluation_logp` and the log's `logp` must be the same kind of number: both single-draw, or both slate factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM, PAD
from slatewise.ope.intervals import estimate_ratio, sum_by
from slatewise.ope.verdict import Evidence, decide_verdict
from slatewise.ope.weights import effective_number, largest_share, pareto_k
from slatewise.stats import ratio
from slatewise.types import Estimate, PropensitySource, Trajectories

NO_PROPENSITY = "no propensity"
UNKNOWN_ITEM = "an item that the catalog does not have"


@dataclass(frozen=True, kw_only=True)
class Snips:
    """Self-normalised or plain inverse propensity scoring over the shown items with a known propensity."""

    normalise: bool = True
    """False gives IPS: unbiased, with more variance."""
    weight_cap: float = math.inf
    """Upper limit of a weight; a finite limit reduces variance at the cost of bias."""
    rewards: tuple[float, float] | None = None
    """Smallest and largest possible reward, which bound SNIPS and its interval; None = of those that count."""
    propensities: PropensitySource = "logged"
    """Whether the log-probabilities of the log were logged or estimated; the verdict then says so."""
    only_uses: bool = False
    """Whether the log holds uses instead of impressions; the verdict then says so."""
    slate_size: int = 0
    """Items of the largest slate whose logged propensities cannot be used here; the verdict then says so."""

    def __post_init__(self) -> None:
        if not self.weight_cap > 0:
            raise ValueError(f"weight_cap is {self.weight_cap}; expected a number above 0")
        if self.rewards is not None and not self.rewards[0] <= self.rewards[1]:
            raise ValueError(f"rewards are {self.rewards}; expected the smallest and the largest")

    def estimate(
        self,
        trajectories: Trajectories,
        evaluation_logp: Float[Tensor, "B T K"],
        values: Float[Tensor, "B T"] | None = None,
    ) -> Estimate:
        """Reward per shown item under the evaluation policy; users are independent, the steps of one user are not.

        Args:
            trajectories: the steps with ``learn`` enter the estimate; their logp is β's.
            evaluation_logp: (B, T, K) log-probability of each shown item under the evaluation policy.
            values: not used.
        """
        del values
        counted, left_out = _countable(trajectories)
        logp = evaluation_logp[counted].double()
        weight = torch.exp(logp - trajectories.logp[counted].double()).clamp(max=self.weight_cap)
        reward = trajectories.reward[counted].double()
        _, user = torch.unique(trajectories.user.unsqueeze(2).expand_as(counted)[counted], return_inverse=True)
        evidence = self._evidence(weight, reward, user)
        verdict, reasons = decide_verdict(evidence)
        # plain scoring is a mean of w r over all steps, each of weight 1, and may exceed every reward
        scale, gain = (weight, reward) if self.normalise else (torch.ones_like(weight), weight * reward)
        result = estimate_ratio(scale, gain, user, rewards=self._rewards(reward) if self.normalise else None)
        contributions = torch.zeros(len(counted) if len(weight) else 0, dtype=torch.float64)
        contributions.index_add_(0, counted.nonzero()[:, 0], scale * gain / scale.sum())
        return Estimate(
            value=result.value,
            stderr=result.stderr,
            interval=(result.low, result.high),
            trajectories=evidence.trajectories,
            steps=evidence.steps,
            left_out=left_out,
            ess=evidence.ess,
            max_weight=evidence.max_weight,
            mean_weight=evidence.mean_weight,
            pareto_k=evidence.pareto_k,
            unsupported=float((logp == -math.inf).double().mean()) if len(logp) else 0.0,
            propensities=self.propensities,
            verdict=verdict,
            reasons=reasons,
            contributions=contributions.float(),
        )

    def _evidence(self, weight: Float[Tensor, " M"], reward: Float[Tensor, " M"], user: Int[Tensor, " M"]) -> Evidence:
        total = sum_by(user, weight)
        mean_weight, mean_weight_stderr = ratio(total, sum_by(user, torch.ones_like(weight)))
        lowest, highest = self._rewards(reward)
        return Evidence(
            trajectories=len(total),
            steps=len(weight),
            ess=effective_number(total),
            max_weight=largest_share(total),
            pareto_k=pareto_k(total),
            mean_weight=mean_weight,
            mean_weight_stderr=mean_weight_stderr,
            constant_reward=lowest == highest,
            propensities=self.propensities,
            only_uses=self.only_uses,
            slate_size=self.slate_size,
        )

    def _rewards(self, reward: Float[Tensor, " M"]) -> tuple[float, float]:
        """Bounds of the rewards, as they are known or as the steps show them."""
        if self.rewards is not None:
            return self.rewards
        return (float(reward.min()), float(reward.max())) if len(reward) else (math.nan, math.nan)


def _countable(trajectories: Trajectories) -> tuple[Bool[Tensor, "B T K"], dict[str, int]]:
    """Shown items that can enter an estimate, and how many cannot, by reason."""
    shown = trajectories.learn.unsqueeze(2) & (trajectories.slate != PAD)
    with_propensity = shown & trajectories.logp_known.unsqueeze(2)
    counted = with_propensity & (trajectories.slate >= FIRST_ITEM)
    left_out = {
        NO_PROPENSITY: int((shown & ~with_propensity).sum()),
        UNKNOWN_ITEM: int((with_propensity & ~counted).sum()),
    }
    return counted, {reason: items for reason, items in left_out.items() if items}
