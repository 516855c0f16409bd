"""What a policy would have earned on the log, item by item: single draws (`log_pi`) against single draws."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from slatewise.config import EvaluateConfig
from slatewise.data import batches
from slatewise.evaluation.ranking import MOST_NUMBERS
from slatewise.log import PAD, LogPart
from slatewise.ope.ips import NO_PROPENSITY, Snips
from slatewise.ops.returns import threshold
from slatewise.protocols import Policy
from slatewise.types import Estimate, Trajectories

SLATE_PROPENSITY = "the propensity of a slate, not of a single draw"


@dataclass(frozen=True, kw_only=True)
class LoggedPropensities:
    """The shown items of a part of a log, counted by the kind of their propensity."""

    single_draws: int
    """Items shown alone: their propensity is the same kind of number as π(a|s)."""
    in_slates: int
    """Items of slates of several: their factor depends on the items above them."""
    missing: int
    slate_size: int
    """Items of the largest slate with propensities; 0 = there is none."""


def count_propensities(part: LogPart) -> LoggedPropensities:
    """How many shown items of a part have a propensity, and of which kind."""
    log, events = part.interactions, part.events()
    has_propensity = np.asarray(log.logp_known)[part.rows()]
    size = np.diff(np.asarray(log.event_offsets))[events]
    slate = np.repeat(size, size)
    return LoggedPropensities(
        single_draws=int((has_propensity & (slate == 1)).sum()),
        in_slates=int((has_propensity & (slate > 1)).sum()),
        missing=int((~has_propensity).sum()),
        slate_size=int(slate[has_propensity & (slate > 1)].max(initial=0)),
    )


def estimate_off_policy(
    policy: Policy, part: LogPart, config: EvaluateConfig, *, behaviour: Policy | None, only_uses: bool
) -> Estimate:
    """What a policy would earn per shown item, item by item (SNIPS over single draws, `log_pi`).

    Args:
        policy: the evaluation policy.
        part: the events that enter the estimate, as far as they have a propensity; the others are counted.
        config: see EvaluateConfig; the reward is 1 where at least ``liked_at_least``, if that is set.
        behaviour: its ``log_pi`` stands for the propensities of all events; None takes the logged ones.
        only_uses: the log has no items that were shown and not used.
    """
    logged = count_propensities(part)
    steps = held_out_steps(part)
    steps = steps.replace(reward=threshold(steps.reward, config.liked_at_least))
    if behaviour is not None:
        steps = steps.replace(logp=held_out_log_pi(behaviour, part, config), logp_known=steps.learn)
    else:
        shown_alone = (steps.slate != PAD).sum(dim=2) == 1
        steps = steps.replace(logp_known=steps.logp_known & shown_alone)
    estimator = Snips(
        rewards=_reward_range(part, config),
        propensities="logged" if behaviour is None else "fitted",
        only_uses=only_uses,
        slate_size=logged.slate_size,
    )
    estimate = estimator.estimate(steps, held_out_log_pi(policy, part, config))
    if behaviour is not None:
        return estimate
    left_out = {**estimate.left_out, NO_PROPENSITY: logged.missing, SLATE_PROPENSITY: logged.in_slates}
    return replace(estimate, left_out={reason: items for reason, items in left_out.items() if items})


def estimate_to_json(estimate: Estimate) -> dict[str, object]:
    """An estimate without its contributions, as JSON can hold it; what is not a number becomes null."""
    values = {name: value for name, value in vars(estimate).items() if name != "contributions"}
    values |= {"interval": [_finite(bound) for bound in estimate.interval], "left_out": dict(estimate.left_out)}
    return {name: _finite(value) for name, value in values.items()}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reward_range(part: LogPart, config: EvaluateConfig) -> tuple[float, float] | None:
    """Smallest and largest reward of the whole log, or of the threshold on it."""
    if config.liked_at_least is not None:
        return 0.0, 1.0
    rewards = np.asarray(part.interactions.reward)
    if not len(rewards) or rewards.min() == rewards.max():
        return None
    return float(rewards.min()), float(rewards.max())


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
