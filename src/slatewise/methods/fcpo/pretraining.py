"""Imitation of a log of single items: there, the next K items that a user liked are the list to imitate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, PAD, LogPart
from slatewise.methods.fcpo.gaussian_lists import GaussianListPolicy
from slatewise.nn.descent import descend
from slatewise.ops import list_rows
from slatewise.ops.list_rows import NEG_INF
from slatewise.ops.returns import threshold
from slatewise.ops.shown_rows import at_steps
from slatewise.schedules import Schedule, value_at
from slatewise.types import Trajectories


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """How single items are imitated."""

    lr: float | Schedule = 3e-3
    states: int = 256
    """States that one update imitates, at most."""

    def __post_init__(self) -> None:
        if not value_at(self.lr, 0) > 0:
            raise ValueError(f"lr is {self.lr}; expected a number above 0")
        if self.states < 1:
            raise ValueError(f"states is {self.states}; expected at least 1")


def check_rewards(part: LogPart, reward_at_least: float | None, *, single_items: bool) -> None:
    """Refuse a log in which no reward counts.

    Args:
        part: the training part of a log.
        reward_at_least: rewards from here on are a like; None = all above 0.
        single_items: the log shows one item a step, which is imitated where it was liked.

    Raises:
        ValueError: no reward counts.
    """
    rewards = part.rewards()
    if reward_at_least is not None:
        highest = rewards.max(initial=-np.inf)
        advice = f" (--set method.reward_at_least={highest:g} counts the highest)" if highest > 0 else ""
        counts, reason = rewards >= reward_at_least, f"is below reward_at_least = {reward_at_least:g}{advice}"
    elif single_items and (rewards < 0).any():
        counts, reason = rewards > 0, f"is 0 or below (the highest is {rewards.max():g}; set method.reward_at_least)"
    else:
        counts, reason = rewards != 0, "is 0"
    if not counts.any():
        raise ValueError(f"every reward of the training part {reason}, so no list can be made of what users liked")


class Demonstrations(NamedTuple):
    """Lists to imitate, and what the log showed."""

    trajectories: Trajectories
    steps: Bool[Tensor, "B T"]
    """Where a list is imitated."""
    lists: Int[Tensor, "P K"]
    """The next items that the user liked, 0-padded."""
    shown_items: Int[Tensor, " M"]
    """Items of all steps that may teach."""


class Imitation:
    """Maximises the likelihood of demonstrated lists by Adam, with a penalty on the mean cost of the rows."""

    def __init__(
        self,
        config: ImitationConfig,
        policy: GaussianListPolicy,
        weights: Sequence[nn.Parameter],
        *,
        clip_norm: float,
        generator: Generator,
    ) -> None:
        self.config = config
        self.policy = policy
        self.weights = list(weights)
        self.clip_norm = clip_norm
        self.generator = generator
        self.optimiser = torch.optim.Adam(self.weights, lr=value_at(config.lr, 0), fused=True)

    def demonstrations(self, trajectories: Trajectories, *, reward_at_least: float | None) -> Demonstrations | None:
        """Lists of the next liked items at states drawn from a batch; None where nothing was liked.

        Args:
            trajectories: one item a step.
            reward_at_least: rewards from here on are a like; None = all above 0.
        """
        item = trajectories.slate[:, :, 0].masked_fill(~trajectories.mask, PAD)
        reward = threshold(trajectories.reward[:, :, 0], reward_at_least)
        liked = trajectories.mask & (item >= FIRST_ITEM) & (reward > 0)
        lists = list_rows.next_lists(item, liked, self.policy.head.slots)
        at = (trajectories.learn & (lists >= FIRST_ITEM).any(dim=2)).nonzero()
        if not len(at):
            return None
        if len(at) > self.config.states:
            at = at[torch.randperm(len(at), generator=self.generator)[: self.config.states]]
        steps = torch.zeros_like(trajectories.learn)
        steps[at[:, 0], at[:, 1]] = True
        return Demonstrations(trajectories, steps, lists[steps], item[trajectories.learn])

    def step(
        self, batch: Demonstrations, *, item_costs: Float[Tensor, " rows"], multiplier: float, limit: float
    ) -> tuple[float, float]:
        """One update; returns the mean −log p of an item of the lists, and the mean cost of the rows.

        Args:
            batch: what is imitated.
            item_costs: of every item number.
            multiplier: of the cost in the objective.
            limit: of the cost.
        """
        self.policy.train()
        log_p = self._log_probs(batch)
        shown = batch.lists >= FIRST_ITEM
        chosen = log_p.gather(2, batch.lists.unsqueeze(2)).squeeze(2)[shown]
        with torch.set_grad_enabled(multiplier > 0):
            # the mean cost of a row needs no draw: it is Σ p · cost
            cost = (log_p.exp() @ item_costs)[shown].mean()
        loss = -chosen.mean()
        penalised = loss + multiplier * (cost - limit)
        descend(penalised, self.weights, self.optimiser, self.clip_norm, lr=self.config.lr)
        self.policy.eval()
        return float(loss.detach()), float(cost.detach())

    def _log_probs(self, batch: Demonstrations) -> Float[Tensor, "P K N"]:
        """Log-probability of every item in every slot, given the items of the list before it."""
        policy = self.policy
        outputs = policy.head.both(at_steps(policy.encoder(batch.trajectories), batch.steps), policy.head.slots)
        real = torch.arange(policy.num_rows) >= FIRST_ITEM
        without_events = policy.item.is_closed(None)
        if without_events is not None:
            real = real & ~without_events
        closed = list_rows.closed_columns(batch.lists, real.unsqueeze(0))
        logits = policy.logits(outputs[..., : policy.head.width]).masked_fill_(closed, NEG_INF)
        return torch.log_softmax(logits, dim=2)
