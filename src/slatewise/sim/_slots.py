"""Who sits at each of the B places of an environment, and since when: user and event numbers, clocks, turns."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM
from slatewise.types import Slates, Step, used_at_once

START = 1_600_000_000_000_000
MINUTE = 60_000_000


class Places:
    """B places; a session that ends gives its place to somebody new in the same step."""

    def __init__(self, num_users: int) -> None:
        self.user = np.arange(num_users)
        self.clock = np.full(num_users, START)
        self.turn = np.zeros(num_users, np.int64)
        """Steps of the running session."""
        self._events = 0

    def users(self) -> Int[Tensor, " B"]:
        """Whose place it is now, fresh."""
        return torch.from_numpy(self.user.copy())

    def record(
        self,
        slates: Slates,
        *,
        reward: NDArray[np.float32],
        used: NDArray[np.bool_],
        terminated: Bool[Tensor, " B"] | None = None,
        truncated: Bool[Tensor, " B"] | None = None,
    ) -> Step:
        """What happened now, and on to the next minute; places whose session ended change hands.

        Args:
            slates: what was shown.
            reward: (B, K), taken over.
            used: (B, K), taken over.
            terminated: sessions that ended by themselves; None = none.
            truncated: sessions that the environment broke off; None = none.
        """
        users = len(self.user)
        none = torch.zeros(users, dtype=torch.bool)
        step = Step(
            event_id=torch.arange(self._events, self._events + users),
            policy_id=torch.zeros(users, dtype=torch.int64),
            user=self.users(),
            time=torch.from_numpy(self.clock.copy()),
            terminated=none.clone() if terminated is None else terminated,
            truncated=none.clone() if truncated is None else truncated,
            slate=slates.items.clone(),
            logp=slates.logp.detach().to(torch.float32, copy=True),
            logp_known=~none,
            reward=torch.from_numpy(reward),
            cost=torch.zeros(reward.shape),
            **used_at_once(torch.from_numpy(used), time=torch.from_numpy(self.clock), reward=torch.from_numpy(reward)),
        )
        self._events += users
        self.clock += MINUTE
        self.turn += 1
        over = (step.terminated | step.truncated).numpy()
        self.user[over] += users
        self.turn[over] = 0
        return step


def must_be_reset(places: Places | None) -> Places:
    """The places, once there are any.

    Raises:
        InputError: there was no reset yet.
    """
    if places is None:
        raise input_error("nobody is there yet", advice="Call reset(seed=…) before the first step.")
    return places


def check_users(num_users: int) -> None:
    """Refuse an environment without users.

    Raises:
        ValueError: fewer than one.
    """
    if num_users < 1:
        raise ValueError(f"num_users is {num_users}; expected at least 1")


def candidates_of(places: int, groups: int, group: Int[np.ndarray, "B C"]) -> Int[Tensor, "B C"]:
    """Item numbers of candidates that do not stay: place p of the list holding group g is item 2 + p·G + g."""
    return torch.from_numpy(FIRST_ITEM + groups * np.arange(places) + group)
