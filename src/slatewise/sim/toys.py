"""Bandits with one state, for which the right answer is known in closed form.

Chen et al., "Top-K Off-Policy Correction for a REINFORCE Recommender System", WSDM 2019 (arXiv 1812.02353), sec. 6.1:

    fig. 2  10 items, r(a_i) = i, β_i = (11 − i)/55   uncorrected: π_i = i (11 − i)/220, E[r] = 5.5; corrected: π_10 = 1
    fig. 3  r = 10, 9, 1 × 8, β uniform, K = 2         K = 1: π_1 = 1; top-K: π_1 = 10/19, π_2 = 9/19

A session is one slate. Every item of the slate pays its reward, so a set earns the sum of its items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary
from slatewise.policies.fixed import FixedPolicy
from slatewise.rollout.play import Arm
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim._slates import check_slates
from slatewise.types import Exploration, Observation, Slates, Step, Trajectories, used_at_once


@dataclass(frozen=True, kw_only=True)
class Config:
    """A bandit and the policy that wrote its log; the default is the paper's fig. 2.

    Raises:
        ValueError: no items, not as many probabilities as rewards, a negative probability, or a sum other than 1.
    """

    rewards: tuple[float, ...] = tuple(float(i) for i in range(1, 11))
    """r of the items 2, 3, …"""
    behaviour: tuple[float, ...] = tuple((11 - i) / 55 for i in range(1, 11))
    """β of the same items."""
    slate_size: int = 1

    def __post_init__(self) -> None:
        if not self.rewards or len(self.rewards) != len(self.behaviour):
            raise ValueError(f"{len(self.rewards)} rewards and {len(self.behaviour)} probabilities: expected as many")
        if min(self.behaviour) < 0 or not math.isclose(sum(self.behaviour), 1.0, abs_tol=1e-6):
            raise ValueError(f"behaviour sums to {sum(self.behaviour)}; expected probabilities that sum to 1")
        if not 1 <= self.slate_size <= len(self.rewards):
            raise ValueError(f"slate_size is {self.slate_size}; expected 1 to {len(self.rewards)} items")


BIASED = Config()
"""Fig. 2: the log shows the worst items most."""
TWO_GOOD = Config(rewards=(10.0, 9.0, *[1.0] * 8), behaviour=(0.1,) * 10, slate_size=2)
"""Fig. 3: the second best item belongs into a slate of two."""


class Env:
    """Sessions of one slate; every session is another user."""

    def __init__(self, config: Config, *, num_users: int) -> None:
        self.num_users = num_users
        self.slate_size = config.slate_size
        self.catalog = catalog(len(config.rewards))
        self._rewards = torch.tensor([0.0] * FIRST_ITEM + list(config.rewards))
        self._sessions: int | None = None

    def reset(self, *, seed: int) -> Observation:
        """Start over; nothing here is random."""
        self._sessions = 0
        return self._observe()

    def step(self, slates: Slates) -> tuple[Step, Observation]:
        """Pay every item shown; every one is used."""
        if self._sessions is None:
            raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")
        check_slates(slates, num_users=self.num_users, slate_size=self.slate_size, num_rows=len(self._rewards))
        user = self._observe().user
        reward = self._rewards[slates.items]
        step = Step(
            event_id=user.clone(),
            policy_id=torch.zeros_like(user),
            user=user,
            time=user * 1_000_000,
            terminated=torch.ones_like(user, dtype=torch.bool),
            truncated=torch.zeros_like(user, dtype=torch.bool),
            slate=slates.items.clone(),
            logp=slates.logp.clone(),
            logp_known=torch.ones_like(user, dtype=torch.bool),
            reward=reward,
            cost=torch.zeros_like(reward),
            **used_at_once(slates.items >= FIRST_ITEM, time=user * 1_000_000, reward=reward),
        )
        self._sessions += 1
        return step, self._observe()

    def _observe(self) -> Observation:
        assert self._sessions is not None
        user = torch.arange(self.num_users) + self._sessions * self.num_users
        return Observation(user=user, context=torch.zeros(self.num_users, 0))


def behaviour_log(config: Config, *, events: int, seed: int, propensities: bool = True) -> Trajectories:
    """A log of single items that β wrote: one row per event, T = 1, K = 1.

    Args:
        config: the bandit; its slate size does not matter here, the log shows one item at a time.
        events: rows.
        seed: of the draws.
        propensities: False leaves log β out (logp 0, logp_known False), as most logs do.
    """
    policy = FixedPolicy(config.behaviour)
    exploration = Exploration(top_m=len(config.rewards), keep=0, temperature=1.0)
    env = Env(replace(config, slate_size=1), num_users=events)
    record = record_trajectories(env, [Arm(policy=policy, policy_id=1, exploration=exploration)], steps=1, seed=seed)
    if propensities:
        return record
    return record.replace(logp=torch.zeros_like(record.logp), logp_known=torch.zeros_like(record.logp_known))


def set_reward(pi: Float[Tensor, "*B N"], rewards: Float[Tensor, " N"], k: int) -> Float[Tensor, "*B"]:
    """Expected reward of the set that k draws with replacement give: Σ r (1 − (1 − π)^k), duplicates counted once."""
    return (rewards * (1 - (1 - pi) ** k)).sum(dim=-1)


def uncorrected_optimum(rewards: Float[Tensor, " N"], behaviour: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Where REINFORCE without correction ends: π ∝ β r, from max Σ β r log π over the simplex; rewards ≥ 0."""
    return behaviour * rewards / (behaviour * rewards).sum()


def top_k_optimum(rewards: Float[Tensor, " N"], k: int) -> Float[Tensor, " N"]:
    """The π that maximises `set_reward`: r (1 − π)^(k−1) is one number μ wherever π > 0.

    Found by bisection on μ; k = 1 puts everything on the best item, shared equally among ties.

    Args:
        rewards: above 0.
        k: draws, ≥ 1.
    """
    if k == 1:
        best = (rewards == rewards.max()).to(rewards.dtype)
        return best / best.sum()
    low, high = 0.0, float(rewards.max())
    pi = torch.zeros_like(rewards)
    for _ in range(200):
        middle = (low + high) / 2
        pi = 1 - (middle / rewards).clamp(max=1.0) ** (1 / (k - 1))
        low, high = (middle, high) if float(pi.sum()) > 1 else (low, middle)
    return pi / pi.sum()


def catalog(num_items: int) -> Catalog:
    """Items named 1, 2, … without text, groups or features."""
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([str(i) for i in range(1, num_items + 1)])),
        text=("",) * (num_items + FIRST_ITEM),
        group=np.zeros(num_items + FIRST_ITEM, np.int64),
        group_names=("",),
        features=np.zeros((num_items + FIRST_ITEM, 0), np.float32),
    )
