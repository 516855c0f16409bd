from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.methods import random as uniform
from slatewise.ops.choice import ChoiceModel
from slatewise.ops.slates import uniform_slates
from slatewise.protocols import Env as EnvProtocol
from slatewise.protocols import Policy
from slatewise.rollout.play import Arm
from slatewise.rollout.returns import returns
from slatewise.rollout.trajectories import record_trajectories
from slatewise.sim.interest_evolution import CascadeConfig, Config, Env
from slatewise.types import Observation, SlateRequest, Slates, Step


def slates(observation: Observation, k: int, generator: torch.Generator) -> Slates:
    assert observation.candidates is not None
    items, logp = uniform_slates(observation.candidates, k, generator=generator)
    return Slates(items=items, logp=logp)


def first_places(observation: Observation, k: int) -> Slates:
    assert observation.candidates is not None
    return Slates(items=observation.candidates[:, :k].clone(), logp=torch.zeros(len(observation.user), k))


def tensors(*records: Step | Observation) -> list[torch.Tensor]:
    values = [getattr(record, field.name) for record in records for field in dataclasses.fields(record)]
    return [value for value in values if value is not None]


# RecSim's own figures: released environment, 3 of 10, means over 3,000 episodes of the reference implementation
@pytest.mark.parametrize(
    ("choice", "policy", "value", "length", "rate"),
    [
        ("proportional", "random", 160.6, 71.1, 0.572),
        ("proportional", "myopic", 167.9, 60.0, 0.709),
        ("proportional", "oracle", 264.9, 123.4, 0.548),
        ("exponential_cascade", "random", 92.9, 209.2, 0.112),
        ("mnl", "random", 159.3, None, None),
        ("mnl", "myopic", 167.1, None, None),
    ],
)
def test_figures_of_the_reference_implementation(
    choice: ChoiceModel, policy: str, value: float, length: float | None, rate: float | None
) -> None:
    env = Env(Config(choice=choice), num_users=4096)
    served: dict[str, Policy] = {
        "random": uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog),
        "myopic": env.myopic(),
        "oracle": env.oracle(),
    }
    earned = returns(env, served[policy], seed=11)
    assert abs(earned.value - value) < (0.8 if choice.endswith("cascade") else 0.3) + 4 * earned.stderr
    if length is not None and rate is not None:
        lengths = earned.session_length.double()
        assert abs(float(lengths.mean()) - length) < 0.3 + 4 * float(lengths.std()) / 64
        assert earned.pick_rate == pytest.approx(rate, abs=0.006)


def test_one_step_by_hand() -> None:
    env = Env(Config(budget_visible=True), num_users=3000)
    before = env.reset(seed=2)
    quality = env.quality
    step, after = env.step(first_places(before, 3))
    assert before.candidates is not None
    place = step.choice.clamp(min=0)
    picked = step.choice >= 0
    topic = (before.candidates.gather(1, place.unsqueeze(1)).squeeze(1) - 2) % 20
    assert bool((step.reward.sum(dim=1) == torch.where(picked, 4.0, 0.0)).all())
    assert bool((step.reward.gather(1, place.unsqueeze(1)).squeeze(1) == torch.where(picked, 4.0, 0.0)).all())
    q = quality.gather(1, place.unsqueeze(1)).squeeze(1)
    left = torch.where(picked, 200 - 4 + 0.9 / 3.4 * 4 * q, 199.5) / 200
    torch.testing.assert_close(after.context[:, 20], left)
    assert bool((before.context[:, 20] == 1).all())
    x = before.context.gather(1, topic.unsqueeze(1)).squeeze(1)
    moved = after.context.gather(1, topic.unsqueeze(1)).squeeze(1) - x
    size = torch.where(picked, 0.3 * (1 - x.abs()) * (1 - x), 0.0)
    torch.testing.assert_close(moved.abs(), size, atol=1e-6, rtol=1e-5)
    # the other interests stay
    others = (after.context[:, :20] - before.context[:, :20]).scatter(1, topic.unsqueeze(1), 0.0)
    assert not bool(others.any())
    # up with probability (x + 1)/2
    ups = (moved > 0)[picked & (size > 1e-6)]
    chance = ((x + 1) / 2)[picked & (size > 1e-6)]
    assert abs(float(ups.float().mean() - chance.mean())) < 4 * 0.5 / math.sqrt(len(ups))


def test_qualities_follow_their_topics() -> None:
    env = Env(Config(), num_users=20_000)
    seen = env.reset(seed=4)
    assert seen.candidates is not None
    topic = ((seen.candidates - 2) % 20).flatten()
    quality = env.quality.flatten().double()
    means = torch.tensor(np.concatenate([np.linspace(-3, 0, 14), np.linspace(0, 3, 6)]))
    noise = quality - means[topic]
    assert abs(float(noise.mean())) < 5 * 0.1 / math.sqrt(len(noise))
    assert float(noise.std()) == pytest.approx(0.1, rel=0.01)
    assert float((noise.abs() > 0.196).double().mean()) == pytest.approx(0.05, abs=0.003)
    share = torch.bincount(topic, minlength=20) / len(topic)
    assert float((share - 0.05).abs().max()) < 0.0025


def test_same_seed_same_world_whatever_the_threads() -> None:
    def play(threads: int) -> list[torch.Tensor]:
        env, generator = Env(Config(), num_users=9000, threads=threads), torch.Generator().manual_seed(0)
        seen, kept = env.reset(seed=6), []
        for _ in range(60):
            step, seen = env.step(slates(seen, 3, generator))
            kept += tensors(step, seen)
        return kept

    assert all(torch.equal(one, other) for one, other in zip(play(1), play(2), strict=True))


def test_other_seed_other_world() -> None:
    env = Env(Config(), num_users=10)
    assert not torch.equal(env.reset(seed=0).context, env.reset(seed=1).context)


def test_no_step_changes_what_was_given_before() -> None:
    env, generator = Env(Config(), num_users=50), torch.Generator().manual_seed(0)
    seen = env.reset(seed=0)
    shown = slates(seen, 3, generator)
    step, after = env.step(shown)
    kept = tensors(seen, step, after)
    copies = [tensor.clone() for tensor in kept]
    for _ in range(30):
        _, last = env.step(slates(after, 3, generator))
        after = last
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(kept, copies, strict=True))
    recorded = step.slate.clone()
    shown.items[:] = 0  # nor does the caller's tensor change what was recorded
    assert torch.equal(step.slate, recorded)


def test_a_place_whose_session_ends_gets_somebody_new() -> None:
    env, generator = Env(Config(budget=20.0, budget_visible=True), num_users=500), torch.Generator().manual_seed(0)
    seen = env.reset(seed=0)
    ended = 0
    for _ in range(40):
        step, after = env.step(slates(seen, 3, generator))
        over = step.terminated
        ended += int(over.sum())
        assert torch.equal(step.user, seen.user)
        assert torch.equal(after.user, torch.where(over, seen.user + 500, seen.user))
        assert bool((after.context[over, 20] == 1).all())
        assert bool((after.context[~over, 20] > 0).all())
        assert not bool(step.truncated.any())
        assert bool((step.time[~over] >= 0).all())
        seen = after
    assert ended > 500


def test_the_last_document_is_watched_as_long_as_time_is_left() -> None:
    env, generator = Env(Config(budget=5.0, budget_visible=True), num_users=400), torch.Generator().manual_seed(0)
    seen = env.reset(seed=0)
    short = 0
    for _ in range(10):
        left = 5 * seen.context[:, 20]
        step, seen = env.step(slates(seen, 3, generator))
        watched = step.reward.sum(dim=1)
        picked = step.choice >= 0
        torch.testing.assert_close(watched[picked], left[picked].clamp(max=4.0))
        short += int((watched[picked] < 4).sum())
    assert short > 50


def test_empty_places_are_never_picked() -> None:
    env = Env(Config(), num_users=2000)
    seen = env.reset(seed=0)
    for _ in range(5):
        shown = first_places(seen, 3)
        shown.items[:, 1:] = 0
        step, seen = env.step(shown)
        assert set(step.choice.tolist()) == {-1, 0}


def test_larger_slates_and_candidates() -> None:
    config = Config(num_candidates=100, slate_size=20, choice="mnl", budget=30.0)
    env, generator = Env(config, num_users=300), torch.Generator().manual_seed(0)
    seen = env.reset(seed=0)
    for _ in range(20):
        step, seen = env.step(slates(seen, 20, generator))
    assert step.slate.shape == (300, 20)
    assert env.catalog.num_items == 2000
    assert int(step.choice.max()) > 10


def test_cascade_reads_from_the_top() -> None:
    # a document that is reached is picked with probability e^{x}/e
    config = Config(choice="exponential_cascade", cascade=CascadeConfig(attention=1.0, scaling=1 / math.e))
    env = Env(config, num_users=20_000)
    seen = env.reset(seed=0)
    step, _ = env.step(first_places(seen, 3))
    assert seen.candidates is not None
    x = seen.context.gather(1, (seen.candidates[:, :3] - 2) % 20)
    chance = torch.exp(x.double() - 1)
    expected = torch.stack([chance[:, 0], (1 - chance[:, 0]) * chance[:, 1]], dim=1).mean(dim=0)
    share = torch.bincount(step.choice + 1, minlength=4) / 20_000
    assert abs(float(share[1] - expected[0])) < 0.012
    assert abs(float(share[2] - expected[1])) < 0.012


def test_log_of_an_environment() -> None:
    env = Env(Config(budget=20.0), num_users=30)
    policy = uniform.Policy(uniform.Config(), StatelessEncoder(), env.catalog)
    record = record_trajectories(env, [Arm(policy=policy, policy_id=3)], steps=25, seed=0)
    assert isinstance(env, EnvProtocol)
    assert int(record.mask.sum()) == 30 * 25
    assert bool(record.terminated.any())
    assert bool((record.policy_id[record.mask] == 3).all())
    expected = torch.tensor([-math.log(10), -math.log(9), -math.log(8)])
    torch.testing.assert_close(record.logp[record.mask], expected.expand(750, 3), atol=1e-4, rtol=0)


def test_steps_that_are_refused_change_nothing() -> None:
    env = Env(Config(budget_visible=True), num_users=5)
    with pytest.raises(InputError, match=r"reset\(seed"):
        env.step(Slates(items=torch.ones(5, 3, dtype=torch.int64), logp=torch.zeros(5, 3)))
    seen = env.reset(seed=0)
    assert seen.candidates is not None
    good = seen.candidates[:, :3].clone()

    def refused(items: torch.Tensor, message: str, logp: torch.Tensor | None = None) -> None:
        with pytest.raises(InputError, match=message):
            env.step(Slates(items=items, logp=torch.zeros(items.shape) if logp is None else logp))

    refused(good[:4], "shape")
    refused(good[:, :2], "shape")
    for row, column, item, message in (
        (1, 2, 1, "expected an item number"),
        (1, 2, 202, "expected an item number"),
        (1, 2, -5, "expected an item number"),
        (2, 1, int(good[2, 0]), "in the slate already"),
        (3, 0, 0, "behind an empty place"),
        (4, 2, int(good[4, 2]) - 1 if (good[4, 2] - 2) % 20 else int(good[4, 2]) + 1, "none of this user's candidates"),
    ):
        bad = good.clone()
        bad[row, column] = item
        refused(bad, message)
    refused(good, "no log-probability", torch.full((5, 3), 0.5))
    refused(good, "no log-probability", torch.full((5, 3), math.nan))
    step, _ = env.step(Slates(items=good, logp=torch.zeros(5, 3)))
    again = Env(Config(budget_visible=True), num_users=5)
    again.reset(seed=0)
    untouched, _ = again.step(Slates(items=good, logp=torch.zeros(5, 3)))
    assert torch.equal(step.choice, untouched.choice)
    assert torch.equal(step.event_id, untouched.event_id)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slate_size": 11}, "slate_size is 11 with 10 candidates"),
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"budget": -1.0}, "budget is -1"),
        ({"budget": math.nan}, "budget is nan"),
        ({"null_cost": 0.0}, "null_cost is 0"),
        ({"length": math.inf}, "length is inf"),
        ({"bad_share": 1.5}, "bad_share is 1.5"),
        ({"quality_std": -0.1}, "quality_std is -0.1"),
        ({"null_mass": -1.0}, "null_mass is -1"),
        (
            {"choice": "exponential_cascade", "cascade": CascadeConfig(scaling=0.5)},
            "a favourite would be picked 1.36 times",
        ),
        ({"budget_gain": 0.4}, "more time than they take"),
        ({"num_topics": 5000}, "at most 1024"),
    ],
)
def test_constants_that_make_no_world(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**settings)


def test_a_chance_to_read_on_above_one() -> None:
    with pytest.raises(ValueError, match=r"attention is 1\.5; expected a number in"):
        CascadeConfig(attention=1.5)


def test_no_users() -> None:
    with pytest.raises(ValueError, match="num_users is 0"):
        Env(Config(), num_users=0)


def test_oracles_serve_their_own_env_only() -> None:
    env = Env(Config(), num_users=4)
    seen = env.reset(seed=0)
    with pytest.raises(InputError, match="all 4 users"):
        env.oracle().recommend(torch.zeros(3, 1), SlateRequest(k=3, candidates=seen.candidates[:3]))  # type: ignore[index]
    best = env.oracle().recommend(torch.zeros(4, 1), SlateRequest(k=3, candidates=seen.candidates)).items
    assert seen.candidates is not None
    assert torch.equal(best, seen.candidates.gather(1, env.quality.topk(3, dim=1).indices))
