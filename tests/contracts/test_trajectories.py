from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Generator

from slatewise.data import batches
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import LogPart
from slatewise.methods import random
from slatewise.reproduce.fcpo import runs as fcpo_runs
from slatewise.reproduce.large_actions import learners
from slatewise.rollout.play import Arm, play
from slatewise.rollout.replay import Replay
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim import interest_evolution
from slatewise.testing import ContractError, check_trajectories, toy_catalog, toy_log, written_log
from slatewise.testing._encoders import histories
from slatewise.types import Trajectories

LOG = toy_log(toy_catalog())


def env() -> interest_evolution.Env:
    """Users who leave after some steps, each at another one."""
    return interest_evolution.Env(interest_evolution.Config(num_candidates=5, budget=4.0), num_users=4)


def arms() -> list[Arm]:
    return [Arm(policy=random.Policy(random.Config(), StatelessEncoder(), env().catalog))]


def from_a_log() -> Trajectories:
    event = {
        "items": [2, 3],
        "rewards": [0.0, 1.0],
        "used": [1],
        "context": [0.5],
        "logp": [-1.0, -1.0],
        "cost": [1, 1],
    }
    log = written_log([[event] * 3, [event]])
    part = LogPart(interactions=log, first=np.zeros(2, np.int64), last=np.array([2, 1]))
    return batches.trajectories(log, part.windows(max_length=2))


def from_a_replay() -> Trajectories:
    replay = Replay(40)
    for count, (seen, step, _) in enumerate(play(env(), arms(), seed=0), start=1):
        replay.add(seen, step)
        if count == 40:
            break
    return replay.sample(64, steps=5, generator=Generator().manual_seed(0))


def from_an_env() -> Trajectories:
    return record_trajectories(env(), arms(), steps=40, seed=0)


def from_likes() -> Trajectories:
    world = fcpo_runs.Experiment(data=None).world
    people = world.parts["train"][:5]
    return fcpo_runs.liked_sessions(world.ratings, people, steps=25, size=10, generator=Generator().manual_seed(0))


def rows_of_a_log() -> Trajectories:
    return learners.record_log(200, 1, 10, 20, 5).rows(torch.tensor([3, 0, 3])).trim()


@pytest.mark.parametrize("build", [from_a_log, from_a_replay, from_an_env, from_likes, rows_of_a_log])
def test_padding_is_what_the_type_says(build: Callable[[], Trajectories]) -> None:
    batch = build()
    assert not bool(batch.mask.all()) or build is rows_of_a_log
    check_trajectories(batch, where=build.__name__)


def test_toy_logs_are_padded_too() -> None:
    assert not bool(LOG.mask.all())
    check_trajectories(LOG)
    check_trajectories(histories(LOG))
    check_trajectories(LOG.rows(slice(0, 0)))


def _in_padding(name: str, value: float) -> Trajectories:
    column = getattr(LOG, name).clone()
    column[-1, -1] = value
    return LOG.replace(**{name: column})


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (_in_padding("used", 1), r"used is \[True\] where there is no step; expected False"),
        (LOG.replace(used_time=LOG.used_time + 1), "used_time is not 0 where nothing was used"),
        (LOG.replace(use_reward=LOG.use_reward + 1), "use_reward is not 0 where nothing was used"),
        (LOG.replace(slate=LOG.slate * ~LOG.used), "an empty place was used"),
        (LOG.replace(used_time=LOG.used_time - LOG.used.long()), "an item was used before it was shown"),
        (_in_padding("slate", 5), r"slate is \[5\] where there is no step; expected 0"),
        (_in_padding("terminated", 1), r"terminated is \[True\] where there is no step; expected False"),
        (_in_padding("context", 0.5), r"context is \[0\.5\] where there is no step; expected 0"),
        (_in_padding("learn", 1), "a step without mask is learned from"),
        (_in_padding("user", 0), "the user changes within a row"),
        (LOG.replace(context=torch.zeros(8, 6, 2)), r"context begins with the shape \(8, 6\); expected \(8, 7\)"),
    ],
)
def test_a_batch_with_other_padding_is_refused(batch: Trajectories, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_trajectories(batch)
