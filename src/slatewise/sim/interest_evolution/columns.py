"""Columns of a Step and of an Observation, which blocks of users write each into their own rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from slatewise.sim.interest_evolution.config import Config
from slatewise.types import Observation, Step, used_at_once


class StepColumns:
    """The columns of a Step, filled block by block."""

    def __init__(self, items: NDArray[np.int64], logp: NDArray[np.float32], first_event: int) -> None:
        users, size = items.shape
        self.slate, self.logp = items.copy(), logp.astype(np.float32)
        self.event_id = np.arange(first_event, first_event + users)
        self.user, self.time, self.choice = (np.empty(users, np.int64) for _ in range(3))
        self.reward = np.zeros((users, size), np.float32)
        self.terminated = np.empty(users, np.bool_)

    def step(self) -> Step:
        """The Step, when every block has written its rows."""
        users = len(self.user)
        time, reward = torch.from_numpy(self.time), torch.from_numpy(self.reward)
        return Step(
            event_id=torch.from_numpy(self.event_id),
            policy_id=torch.zeros(users, dtype=torch.int64),
            user=torch.from_numpy(self.user),
            time=time,
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.zeros(users, dtype=torch.bool),
            slate=torch.from_numpy(self.slate),
            logp=torch.from_numpy(self.logp),
            logp_known=torch.ones(users, dtype=torch.bool),
            reward=reward,
            cost=torch.zeros(self.reward.shape),
            **used_at_once(
                torch.arange(self.slate.shape[1]) == torch.from_numpy(self.choice).unsqueeze(1),
                time=time,
                reward=reward,
            ),
        )


class ObservationColumns:
    """The columns of an Observation, filled block by block."""

    def __init__(self, users: int, config: Config) -> None:
        self.user = np.empty(users, np.int64)
        self.context = np.empty((users, config.num_topics + config.budget_visible), np.float32)
        self.candidates = np.empty((users, config.num_candidates), np.int64)

    def observation(self) -> Observation:
        """The Observation, when every block has written its rows."""
        return Observation(
            user=torch.from_numpy(self.user),
            context=torch.from_numpy(self.context),
            candidates=torch.from_numpy(self.candidates),
        )
