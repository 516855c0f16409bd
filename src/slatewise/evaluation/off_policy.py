"""What a policy would have earned on the log, item by item: single draws (`log_pi`) against single draws."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.data import batches
from slatewise.data.prepared import Dataset
from slatewise.data.splits import Part, Split
from slatewise.evaluation.ranking import MOST_NUMBERS
from slatewise.evaluation.settings import Config
from slatewise.ope.ips import Snips
from slatewise.ops.returns import threshold
from slatewise.protocols import Policy
from slatewise.types import Estimate, Trajectories


def estimate_off_policy(
    policy: Policy, dataset: Dataset, split: Split, part: Part, config: Config, *, behaviour: Policy | None
) -> Estimate:
    """What the judged policy would earn per shown item, item by item (SNIPS over single draws, `log_pi`).

    Args:
        policy: the judged policy.
        dataset: the log; its reward is 1 where at least ``liked_at_least``, if that is set.
        split: its parts.
        part: the events to judge on.
        config: see Config.
        behaviour: its ``log_pi`` stands for the propensities that the log does not have; None takes the logged ones.
    """
    estimator = Snips(fitted=behaviour is not None, only_uses=dataset.kind == "uses")
    judged = held_out_steps(dataset, split, part)
    judged = judged.replace(reward=threshold(judged.reward, config.liked_at_least))
    if behaviour is not None:
        logp = held_out_log_pi(behaviour, dataset, split, part, config)
        judged = judged.replace(logp=logp, logp_known=judged.learn)
    return estimator.estimate(judged, held_out_log_pi(policy, dataset, split, part, config))


def held_out_steps(dataset: Dataset, split: Split, part: Part) -> Trajectories:
    """The events of a part, of every user who has any, without their history."""
    first, last = split.bounds(part)
    user = np.nonzero(last > first)[0]
    return batches.trajectories(
        dataset.interactions, batches.Windows(user=user, start=first[user], learn=first[user], stop=last[user])
    )


def held_out_log_pi(
    policy: Policy, dataset: Dataset, split: Split, part: Part, config: Config
) -> Float[Tensor, "U J K"]:
    """Single-draw log π of the items shown in a part, each in the state just before its step; 0 where none was."""
    first, last = split.bounds(part)
    users = np.nonzero(last > first)[0]
    slate = held_out_steps(dataset, split, part).slate
    logp = torch.zeros(slate.shape)
    longest = int((last - np.maximum(first - config.max_history, 0)).max(initial=0)) + 1
    size = max(1, min(config.batch_size, MOST_NUMBERS // (longest * policy.encoder.width)))
    for at in range(0, len(users), size):
        user = users[at : at + size]
        start = np.maximum(first[user] - config.max_history, 0)
        windows = batches.Windows(user=user, start=start, learn=first[user], stop=last[user])
        with torch.inference_mode():
            states = policy.encoder(batches.trajectories(dataset.interactions, windows))
            row, step = np.nonzero(np.arange(slate.shape[1]) < (last - first)[user, None])
            before = torch.from_numpy(first[user] - start)[row] + torch.from_numpy(step)
            logp[at + row, step] = policy.log_pi(states[row, before], slate[at + row, step]).float()
    return logp


def has_single_draw_propensities(dataset: Dataset) -> bool:
    """True where every event shows one item and says with which probability: then it is the same kind as π."""
    log = dataset.interactions
    return log.slate_size == 1 and log.num_rows > 0 and bool(np.all(log.logp_known))
