"""Discounted returns."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def discounted_returns(
    reward: Float[Tensor, "B T"],
    gamma: float,
    *,
    ends: Bool[Tensor, "B T"],
    time: Int[Tensor, "B T"] | None = None,
    horizon: int | None = None,
) -> Float[Tensor, "B T"]:
    """R_t = Σ_{t' ≥ t} γ^{t'−t} r_{t'}, within the session and, if given, within a horizon of time.

    Args:
        reward: 0 at masked steps.
        gamma: discount per step, in [0, 1].
        ends: True at the last step of a session; rewards after it do not count for the steps before.
        time: microseconds, non-decreasing along T up to padding, of which the time is 0; needed with `horizon`.
        horizon: microseconds; rewards later than ``time[t] + horizon`` do not count for step t.

    Raises:
        ValueError: a horizon without times.
    """
    steps = reward.shape[1]
    returns = torch.empty_like(reward)
    running = torch.zeros_like(reward[:, 0]) if steps else reward
    for t in range(steps - 1, -1, -1):
        running = reward[:, t] + gamma * running.masked_fill(ends[:, t], 0.0)
        returns[:, t] = running
    if horizon is None:
        return returns
    if time is None:
        raise ValueError("a horizon in time needs the times of the steps")
    # R_t up to the horizon = R_t − γ^{u−t} R_u, where u is the first step beyond it, if that is in the same session
    ascending = time.cummax(dim=1).values  # padding gets the last time, so that the row stays sorted
    beyond = torch.searchsorted(ascending, ascending + horizon, right=True)
    session = torch.cumsum(ends, dim=1) - ends.long()
    column = beyond.clamp(max=steps - 1)
    same_session = (beyond < steps) & (session.gather(1, column) == session)
    index = torch.arange(steps, device=reward.device)
    rest = gamma ** (beyond - index).to(reward.dtype) * returns.gather(1, column)
    return returns - torch.where(same_session, rest, torch.zeros_like(rest))


def threshold(reward: Float[Tensor, "*B"], at_least: float | None) -> Float[Tensor, "*B"]:
    """1 where the logged reward is at least `at_least`, else 0; the reward itself for None."""
    return reward if at_least is None else (reward >= at_least).to(reward.dtype)
