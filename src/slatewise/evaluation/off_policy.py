"""What a policy would have earned on the log, item by item: single draws (`log_pi`) against single draws."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.config import EvaluateConfig
from slatewise.data import batches
from slatewise.evaluation.ranking import MOST_NUMBERS
from slatewise.log import Interactions, LogPart
from slatewise.ope.ips import Snips
from slatewise.ops.returns import threshold
from slatewise.protocols import Policy
from slatewise.types import Estimate, Trajectories


def estimate_off_policy(
    policy: Policy, part: LogPart, config: EvaluateConfig, *, behaviour: Policy | None, only_uses: bool
) -> Estimate:
    """What the judged policy would earn per shown item, item by item (SNIPS over single draws, `log_pi`).

    Args:
        policy: the judged policy.
        part: the events to judge on.
        config: see EvaluateConfig; the reward is 1 where at least ``liked_at_least``, if that is set.
        behaviour: its ``log_pi`` stands for the propensities that the log does not have; None takes the logged ones.
        only_uses: the log has no items that were shown and not used.
    """
    estimator = Snips(fitted=behaviour is not None, only_uses=only_uses)
    judged = held_out_steps(part)
    judged = judged.replace(reward=threshold(judged.reward, config.liked_at_least))
    if behaviour is not None:
        logp = held_out_log_pi(behaviour, part, config)
        judged = judged.replace(logp=logp, logp_known=judged.learn)
    return estimator.estimate(judged, held_out_log_pi(policy, part, config))


def held_out_steps(part: LogPart) -> Trajectories:
    """The events of a part, of every user who has any, without their history."""
    return batches.trajectories(part.interactions, part.histories(part.users(), max_history=0))


def held_out_log_pi(policy: Policy, part: LogPart, config: EvaluateConfig) -> Float[Tensor, "U J K"]:
    """Single-draw log π of the items shown in a part, each in the state just before its step; 0 where none was."""
    users, first, last = part.users(), part.first, part.last
    slate = held_out_steps(part).slate
    logp = torch.zeros(slate.shape)
    longest = int((last - np.maximum(first - config.max_history, 0)).max(initial=0)) + 1
    size = max(1, min(config.batch_size, MOST_NUMBERS // (longest * policy.encoder.width)))
    for at in range(0, len(users), size):
        user = users[at : at + size]
        windows = part.histories(user, max_history=config.max_history)
        with torch.inference_mode():
            states = policy.encoder(batches.trajectories(part.interactions, windows))
            row, step = np.nonzero(np.arange(slate.shape[1]) < (last - first)[user, None])
            state_index = torch.from_numpy(windows.learn - windows.start)[row] + torch.from_numpy(step)
            logp[at + row, step] = policy.log_pi(states[row, state_index], slate[at + row, step]).float()
    return logp


def has_single_draw_propensities(log: Interactions) -> bool:
    """True where every event shows one item and says with which probability: then it is the same kind as π."""
    return log.slate_size == 1 and log.num_rows > 0 and bool(np.all(log.logp_known))
