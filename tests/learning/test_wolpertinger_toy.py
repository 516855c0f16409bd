"""Wolpertinger reaches the known answers of two toys."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from slatewise.encoders import observed
from slatewise.log import Catalog
from slatewise.methods import wolpertinger
from slatewise.rollout.off_policy import OffPolicyConfig, learn_off_policy
from slatewise.sim import accept_graph
from slatewise.sim.accept_graph import Config, Env
from slatewise.testing import toy_catalog, toy_log
from slatewise.types import SlateRequest, Trajectories

pytestmark = pytest.mark.slow


def circle(count: int) -> Catalog:
    """Items around the unit circle."""
    angle = torch.arange(count) * (2 * math.pi / count)
    points = torch.stack([angle.cos(), angle.sin()], dim=1)
    return replace(toy_catalog(count), features=torch.cat([torch.zeros(2, 2), points]).numpy())


def shown_at_random(items: Catalog, *, users: int, seed: int) -> tuple[Trajectories, Tensor]:
    """Sessions of one step: the state is a direction, an item pays its cosine with it."""
    log = toy_log(items, users=users, steps=3, slate_size=1, context_width=2, seed=seed)
    towards = torch.nn.functional.normalize(log.context, dim=2)
    points = torch.from_numpy(items.features)[log.slate[:, :, 0]]
    reward = (points * towards[:, :-1]).sum(dim=2, keepdim=True) * log.mask.unsqueeze(2)
    return log.replace(context=towards, reward=reward, terminated=log.mask, truncated=~log.mask), towards[:, 0]


@pytest.mark.parametrize("neighbours", [1, 4, 64])
@pytest.mark.parametrize("twin", [False, True])
def test_it_points_where_the_state_points(neighbours: int, twin: bool) -> None:
    items = circle(64)
    config = wolpertinger.Config(
        embedding="catalog",
        neighbours=neighbours,
        td3=wolpertinger.TD3Config(smoothing=0.0, actor_every=1) if twin else None,
        lr=0.01,
        actor=wolpertinger.ActorConfig(lr=0.01),
    )
    encoder = observed.Encoder(observed.Config(history=False, context_width=2), items)
    learner = wolpertinger.Learner(config, encoder, items, generator=Generator().manual_seed(0))
    for seed in range(400):
        learner.update(shown_at_random(items, users=64, seed=seed)[0])
    _, state = shown_at_random(items, users=200, seed=1000)
    with torch.no_grad():
        shown = learner.policy.recommend(state, SlateRequest(k=1)).items[:, 0]
    cosine = (torch.from_numpy(items.features)[shown] * state).sum(dim=1)
    # neighbours stand 5.6° apart, so the best item's cosine is .999 or more
    assert float(cosine.mean()) > 0.98


def test_it_learns_in_an_environment_what_is_accepted() -> None:
    """In a small accept graph: most of the way from random items to the best next step."""
    env = Env(Config(num_items=200, width=4, world_seed=7), num_users=100)
    config = wolpertinger.Config(
        embedding="catalog",
        neighbours=20,
        critic=wolpertinger.TwoTowerConfig(link="logistic", state_hidden=()),
        gamma=0.5,
        lr=5e-3,
        target_rate=0.05,
    )
    encoder = observed.Encoder(observed.Config(history=False, context_width=4), env.catalog)
    learner = wolpertinger.Learner(config, encoder, env.catalog, generator=Generator().manual_seed(0))
    schedule = OffPolicyConfig(steps=250, updates=2, batch_size=128, replay=250, epsilon_steps=80)
    learn_off_policy(env, learner, schedule, seed=0)
    states = env.world.appearance(torch.arange(200))
    with torch.no_grad():
        shown = learner.policy.recommend(states, SlateRequest(k=1)).items[:, 0] - 2
    low, high = accept_graph.random_value(env.world), accept_graph.greedy(env.world).value
    assert (accept_graph.value_of(env.world, shown).value - low) / (high - low) > 0.8
