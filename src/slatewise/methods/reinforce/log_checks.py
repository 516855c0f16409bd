"""What a log can teach REINFORCE, and what β is in it, said before any time is spent."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from slatewise.log import LogPart
from slatewise.ops.returns import threshold
from slatewise.wording import count_of


def check_rewards(part: LogPart, reward_at_least: float | None) -> None:
    """Refuse a log in which no reward counts.

    Raises:
        ValueError: that.
    """
    rewards = part.rewards()
    if not len(rewards):
        raise ValueError("nothing that the training part shows was picked or rewarded: there is nothing to learn from")
    counts = rewards != 0 if reward_at_least is None else rewards >= reward_at_least
    if not counts.any():
        reason = "is 0" if reward_at_least is None else f"is below reward_at_least = {reward_at_least:g}"
        highest = f"; the highest is {rewards.max():g}" if reward_at_least else ""
        advice = f" (--set method.reward_at_least={rewards.max():g} counts it)" if highest and rewards.max() > 0 else ""
        raise ValueError(
            f"every reward of the training part {reason}{highest}, so there is nothing to learn from{advice}"
        )


def check_baseline(part: LogPart, reward_at_least: float | None) -> None:
    """Refuse a log in which a baseline equals every reward.

    Raises:
        ValueError: that.
    """
    rewards = threshold(torch.from_numpy(np.array(part.interactions.reward[part.rows()])), reward_at_least)
    if bool((rewards == rewards[:1]).all()):
        raise ValueError(
            f"all that the training part shows earns {float(rewards[0]):g}, so a baseline would leave nothing to "
            "learn: set method.baseline = false, or take a log that also says what was shown and not used"
        )


def behaviour_note(part: LogPart, propensities: Literal["logged", "estimated"]) -> str | None:
    """What β is in the weights of a log's training part; None where the log has no propensity."""
    rows = part.rows()
    has_logp = np.asarray(part.interactions.logp_known[rows])
    if not has_logp.any():
        return None
    if propensities == "estimated":
        return "the weights are π/β̂: method.behaviour.propensities sets the logged propensities aside"
    if part.interactions.slate_size > 1:
        return "the weights are π/β̂: the logged propensities are factors of slates, not of single draws"
    missing = int((~has_logp).sum())
    rest = f"; {missing:,} of {count_of(len(rows), 'row')} without one, weighted by β̂" if missing else ""
    logged = count_of(int(has_logp.sum()), "logged propensity", "logged propensities")
    return f"the weights are π/β with the {logged}{rest}"
