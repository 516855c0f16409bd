"""The tree policy learns what people of two tastes want, in an environment and from a log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator

from slatewise.encoders import gru
from slatewise.item_vectors.ratings import vectors_of
from slatewise.log import FIRST_ITEM
from slatewise.methods import tpgr
from slatewise.rollout.on_policy import learn_on_policy
from slatewise.rollout.returns import returns
from slatewise.sim.rating_sessions import Config, Env, open_world
from slatewise.types import Exploration

pytestmark = pytest.mark.slow

WORLD = Config(unrated="completed", completion_width=2, alpha=0.0, steps=8, test_share=0.5)
"""Likes pay ½ or 1, dislikes as much less; the first answer tells who it is, so 7 of 8 steps can be right."""


def learned(depth: int, **settings: Any) -> tuple[Env, tpgr.Learner]:
    world = open_world(WORLD)
    env = Env(WORLD, num_users=64, world=world)
    generator = Generator().manual_seed(0)
    encoder = gru.Encoder(
        gru.Config(width=16, item_width=16, reward_edges=(0.0,), context_width=19), env.catalog, generator=generator
    )
    tree = tpgr.TreeConfig(depth=depth)
    config = tpgr.Config(**{"tree": tree, "baseline": "step", "lr": 0.01, "hidden": 16, **settings})
    learner = tpgr.Learner(config, encoder, env.catalog, generator=generator)
    vectors = vectors_of(world.ratings.users(world.parts["train"]), "factors", width=2, generator=generator)
    learner.policy.plant_vectors(vectors, generator=generator)
    learn_on_policy(env, learner, rounds=150, steps=8, exploration=Exploration(top_m=40), seed=0, exclude_last=8)
    return env, learner


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_tree_policy_asks_once_and_then_knows(depth: int) -> None:
    """Best without asking: 0 on average. Knowing the taste: .75 a step, for seven steps."""
    env, learner = learned(depth)
    judge = Env(replace(WORLD, part="test", in_turn=True), num_users=30, world=env.world)
    found = returns(judge, learner.policy, seed=0, exclude_last=8).value
    items = torch.arange(FIRST_ITEM, env.catalog.num_rows).expand(30, -1)
    judge.reset(seed=0)
    best = float(judge.answers(items).topk(8, dim=1).values.sum(dim=1).mean())
    assert best > 6
    assert found > 0.7 * best
