"""How good a learner is on the validation part: on a fixed sample of its users while training, on all at the end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from slatewise import evaluation
from slatewise.log import LogPart
from slatewise.protocols import SelfEvaluating
from slatewise.training.run import Run

SAMPLE_STREAM = 0x5A
"""Beside the seed of the split, so that runs of one split validate on the same users."""


def sample_users(part: LogPart, most: int, *, seed: int) -> LogPart:
    """The events of at most so many users of a part, drawn without regard to what they did.

    Args:
        part: with events of any number of users.
        most: largest number of users, at least 1.
        seed: of the draw.
    """
    users = part.users()
    if len(users) <= most:
        return part
    drawn = np.random.default_rng([seed, SAMPLE_STREAM]).choice(users, size=most, replace=False)
    last = part.first.copy()
    last[drawn] = part.last[drawn]
    return replace(part, last=last)


def validate(run: Run, part: LogPart) -> dict[str, float]:
    """Every validation metric of a run's policy as it is now; NaN is no value."""
    policy = run.learner.policy
    if isinstance(policy, nn.Module):
        policy.eval()  # a learner resumed at the end of an epoch has not updated yet, and its dropout is still on
    if isinstance(run.learner, SelfEvaluating):
        return dict(run.learner.evaluate(part))
    result = evaluation.evaluate(
        policy,
        run.dataset,
        part,
        run.config.evaluate,
        trained_on=run.split.part("train"),
        off_policy=False,
        seed=run.config.train.seed,
    )
    return {metric.name: metric.value for metric in result.metrics}
