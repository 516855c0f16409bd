"""How good a learner is on the validation part: on a fixed sample of its users while training, on all at the end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from slatewise import evaluation
from slatewise.encoders import stateless
from slatewise.evaluation.measurements import LIST_METRICS
from slatewise.log import Catalog, LogPart
from slatewise.methods import popularity
from slatewise.protocols import Policy, SelfEvaluating
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
    return _metrics(run, policy, part)


def popularity_note(run: Run, part: LogPart, value: float) -> tuple[str, ...]:
    """A sentence where popularity, which needs no learning, is at least as good on a part as a run's policy.

    Args:
        run: of any method; counting methods and user models are not compared.
        part: what validated.
        value: of the selecting metric there.
    """
    select, learner = run.select, run.learner
    compares = not (learner.single_pass or isinstance(learner, SelfEvaluating) or part.empty)
    if not compares or not math.isfinite(value) or select.partition("@")[0] in LIST_METRICS:
        return ()
    counted = _metrics(run, popularity_of(run.dataset.catalog, run.split.part("train")), part)[select]
    if not counted >= value:
        return ()
    return (
        f"popularity alone reaches {select} = {counted:.4f} on validation, this policy {value:.4f}: more events may "
        "help, --method popularity trains it",
    )


def popularity_of(catalog: Catalog, part: LogPart) -> popularity.Policy:
    """Popularity, counted on a part of a log."""
    policy = popularity.Policy(popularity.Config(), stateless.Encoder(), catalog)
    policy.count += torch.from_numpy(part.counts(catalog.num_rows))
    return policy


def _metrics(run: Run, policy: Policy, part: LogPart) -> dict[str, float]:
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
