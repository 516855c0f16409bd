from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Generator, Tensor

from slatewise.encoders import observed
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.methods import random
from slatewise.rollout.play import Arm
from slatewise.rollout.returns import returns
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim.topic_graph import (
    Config,
    Env,
    World,
    best_of_topics,
    drawn_value,
    greedy,
    logged_value,
    logging_policy,
    optimum,
    random_value,
    value_of,
)
from slatewise.types import SlateRequest, Slates

SMALL = Config(num_items=300, num_topics=6, world_seed=3)


def by_hand(chances: list[list[float]], topic: list[int]) -> World:
    """A world of some topics whose W (topics × items) is given."""
    topics = len(chances)
    world = World(Config(num_items=len(topic), num_topics=topics, width=topics, slope=1.0, offset=0.0))
    world.stand, world.mood = torch.eye(topics), torch.zeros(topics)
    world.vector = torch.logit(torch.tensor(chances)).T.contiguous()
    world.topic = torch.tensor(topic)
    return world


def context_encoder(env: Env) -> observed.Encoder:
    return observed.Encoder(observed.Config(history=False, context_width=env.config.width + 1), env.catalog)


def test_acceptance_by_hand() -> None:
    world = World(Config(num_items=2, num_topics=2, width=2))
    world.stand = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    world.vector = torch.tensor([[0.5, 9.0], [0.25, -1.0]])
    world.mood = torch.tensor([0.0, 2.0])
    expected = [1 / (1 + math.exp(-x)) for x in (6 * 0.5 - 3, 6 * -0.5 + 2 - 3)]
    found = world.accepts(torch.tensor([0, 1]), torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=0)


def test_a_value_by_hand() -> None:
    # at topic 0 all is accepted and stays there: V0 = 1 + .9 V0 = 10; at topic 1 nothing: V1 = .8 (V0 + V1) / 2
    world = by_hand([[1 - 1e-7, 1 - 1e-7], [1e-7, 1e-7]], [0, 1])
    found = value_of(world, torch.tensor([0, 0]))
    assert found.values.tolist() == pytest.approx([10.0, 4.0 / 0.6], rel=1e-5)
    assert found.value == pytest.approx((10 + 4 / 0.6) / 2, rel=1e-5)
    # everybody accepts with ½ and goes anywhere: V = ½ (1 + .9 V) + ½ · .8 V, so V = .5 / .15
    even = by_hand([[0.5, 0.5], [0.5, 0.5]], [0, 1])
    assert random_value(even) == pytest.approx(0.5 / 0.15, rel=1e-6)


def test_the_optimum_is_the_best_of_all_policies() -> None:
    # at topic 0, item 1 is accepted most often, but item 3 leads to where everything is accepted
    world = by_hand([[0.2, 0.6, 0.1, 0.55], [0.1, 0.1, 0.2, 0.2], [0.3, 0.2, 0.2, 0.95]], [0, 1, 1, 2])
    values = {shown: value_of(world, torch.tensor(shown)).value for shown in itertools.product(range(4), repeat=3)}
    best = optimum(world)
    assert best.value == pytest.approx(max(values.values()), abs=1e-9)
    assert tuple(best.shown.tolist()) == max(values, key=lambda shown: values[shown])
    assert best.shown[0] == 3
    assert greedy(world).shown.tolist() == [1, 2, 3]


def test_the_optimum_cannot_be_improved_by_any_item_at_any_state() -> None:
    world = World(SMALL)
    best = optimum(world)
    every = torch.arange(300)
    for state in range(6):
        p = world.accepts(torch.full((300,), state), every).double()
        worth = p * (1 + 0.9 * best.values[world.topic]) + (1 - p) * 0.8 * best.values.mean()
        assert float(worth.max()) == pytest.approx(float(best.values[state]), abs=1e-6)
    assert random_value(world) < logged_value(world) < greedy(world).value < best.value


def test_best_of_topics_is_what_a_full_search_finds() -> None:
    world = World(replace(SMALL, num_items=7, num_topics=9))
    chance, rows = best_of_topics(world)
    for state, topic in itertools.product(range(9), range(9)):
        inside = (world.topic == topic).nonzero().squeeze(1)
        if not len(inside):
            assert rows[state, topic] == -1
            continue
        accept = world.accepts(torch.full_like(inside, state), inside)
        assert rows[state, topic] == inside[accept.argmax()]
        assert float(chance[state, topic]) == pytest.approx(float(accept.max()), rel=1e-5)


def test_a_larger_catalog_begins_with_the_smaller_one() -> None:
    small, large = World(SMALL), World(replace(SMALL, num_items=1000))
    for name in ("vector", "topic", "weight", "features"):
        torch.testing.assert_close(getattr(large, name)[:300], getattr(small, name))
    for name in ("stand", "mood", "appearance"):
        assert torch.equal(getattr(large, name), getattr(small, name))
    assert optimum(large).value > optimum(small).value


def test_features_are_the_vectors_seen_from_elsewhere() -> None:
    world = World(SMALL)
    torch.testing.assert_close(world.features @ world.features.T, world.vector @ world.vector.T, atol=1e-5, rtol=0)
    seen, hidden = world.appearance[:, :20] @ world.features.T, world.appearance[:, :20] @ world.vector.T
    assert abs(float(torch.corrcoef(torch.stack([seen.flatten(), hidden.flatten()]))[0, 1])) < 0.3


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / len(values) ** 0.5


def test_what_is_played_earns_what_was_computed() -> None:
    env = Env(SMALL, num_users=4000)
    anything = random.Policy(random.Config(), StatelessEncoder(), env.catalog)
    for policy, value in (
        (anything, random_value(env.world)),
        (logging_policy(env, context_encoder(env)), logged_value(env.world)),
    ):
        played = returns(env, policy, seed=0)
        assert played.value == pytest.approx(value, abs=4 * played.stderr)
    best = optimum(env.world)
    seen, total = env.reset(seed=0), torch.zeros(4000)
    playing = torch.ones(4000, dtype=torch.bool)
    table = {tuple(row.tolist()): int(item) for row, item in zip(env.world.appearance, best.shown, strict=True)}
    while bool(playing.any()):
        items = torch.tensor([[table[tuple(row.tolist())] + 2] for row in seen.context])
        step, seen = env.step(Slates(items=items, logp=torch.zeros(4000, 1)))
        total += step.reward[:, 0] * playing
        playing &= ~step.terminated
    mean, error = mean_and_error(total)
    assert mean == pytest.approx(best.value, abs=4 * error)


def test_one_goes_where_the_accepted_item_leads() -> None:
    env = Env(replace(SMALL, offset=50.0, end_after_accept=1e-6), num_users=20)
    env.reset(seed=0)
    items = torch.arange(20).unsqueeze(1) + 2
    step, seen = env.step(Slates(items=items, logp=torch.zeros(20, 1)))
    assert step.reward.tolist() == [[1.0]] * 20
    assert torch.equal(seen.context, env.world.appearance[env.world.topic[:20]])
    step, _ = env.step(Slates(items=torch.zeros(20, 1, dtype=torch.int64), logp=torch.zeros(20, 1)))
    assert step.reward.tolist() == [[0.0]] * 20
    assert step.choice.tolist() == [-1] * 20


def test_the_log_has_the_propensities_it_was_drawn_with() -> None:
    env = Env(SMALL, num_users=500)
    policy = logging_policy(env, context_encoder(env))
    record = record_trajectories(env, [Arm(policy=policy, policy_id=1)], steps=20, seed=1)
    shown = record.mask
    state = record.context[:, :-1][shown]
    assert torch.allclose(
        policy.log_prob(state, record.slate[shown], SlateRequest(k=record.slate.shape[2])), record.logp[shown]
    )
    every = torch.arange(2, 302).expand(6, -1)
    assert torch.allclose(policy.log_pi(env.world.appearance, every).exp().sum(dim=1), torch.ones(6), atol=1e-5)
    # a popular item is shown more often than most, but is no better for it
    count = torch.bincount(record.slate[shown].flatten() - 2, minlength=300).float()
    assert float(torch.corrcoef(torch.stack([count, env.world.weight]))[0, 1]) > 0.3


def test_draws_from_topics_alike_are_random_draws() -> None:
    world = World(SMALL)
    number = torch.bincount(world.topic, minlength=6).double()
    alike = drawn_value(world, (number / 300).expand(6, -1), torch.full((300,), 7.0))
    assert alike == pytest.approx(random_value(world), rel=1e-9)


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="end_after_reject is 0"):
        Config(end_after_reject=0.0)
    with pytest.raises(ValueError, match="num_items is 0"):
        Config(num_items=0)
    with pytest.raises(ValueError, match="topic_share is 2"):
        Config(topic_share=2.0)
    with pytest.raises(ValueError, match="num_users is 0"):
        Env(SMALL, num_users=0)
    with pytest.raises(ValueError, match="other constants"):
        Env(SMALL, num_users=1, world=World(replace(SMALL, num_items=4)))
    with pytest.raises(InputError, match="one item row from 0 to 299 for each of the 6 topics"):
        value_of(World(SMALL), torch.full((6,), 300))


def test_one_item_and_one_topic_are_a_world_too() -> None:
    world = World(Config(num_items=1, num_topics=1))
    assert optimum(world).value == pytest.approx(random_value(world), rel=1e-6)
    env = Env(Config(num_items=1, num_topics=1), num_users=2, world=world)
    slates = logging_policy(env, context_encoder(env)).recommend(
        world.appearance.expand(2, -1), SlateRequest(k=1), generator=Generator().manual_seed(0)
    )
    assert slates.items.tolist() == [[2], [2]]
