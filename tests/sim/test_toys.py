from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slatewise.errors import InputError
from slatewise.policies.fixed import FixedPolicy
from slatewise.protocols import Env, Policy
from slatewise.rollout.returns import returns
from slatewise.sim import toys
from slatewise.types import Exploration, Slates


def test_biased_bandit_by_hand() -> None:
    rewards = torch.tensor(toys.BIASED.rewards, dtype=torch.float64)
    behaviour = torch.tensor(toys.BIASED.behaviour, dtype=torch.float64)
    i = torch.arange(1, 11, dtype=torch.float64)
    pi = toys.uncorrected_optimum(rewards, behaviour)
    torch.testing.assert_close(pi, i * (11 - i) / 220)
    assert float(toys.set_reward(pi, rewards, 1)) == pytest.approx(5.5)
    best = toys.top_k_optimum(rewards, 1)
    assert best.tolist() == [0.0] * 9 + [1.0]
    assert float(toys.set_reward(best, rewards, 1)) == 10.0


def test_two_good_bandit_by_hand() -> None:
    rewards = torch.tensor(toys.TWO_GOOD.rewards, dtype=torch.float64)
    pi = toys.top_k_optimum(rewards, 2)
    torch.testing.assert_close(pi, torch.tensor([10 / 19, 9 / 19, *[0.0] * 8], dtype=torch.float64))
    assert float(toys.set_reward(pi, rewards, 2)) == pytest.approx(5149 / 361)
    halves = torch.tensor([0.5, 0.5, *[0.0] * 8], dtype=torch.float64)
    assert float(toys.set_reward(halves, rewards, 2)) == pytest.approx(14.25)


@given(
    rewards=st.lists(st.floats(0.1, 10), min_size=2, max_size=8),
    k=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_other_distribution_gives_a_better_set(rewards: list[float], k: int, seed: int) -> None:
    r = torch.tensor(rewards, dtype=torch.float64)
    best = toys.top_k_optimum(r, k)
    assert float(best.sum()) == pytest.approx(1.0)
    others = torch.rand(200, len(r), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    others = others / others.sum(dim=1, keepdim=True)
    mixed = 0.9 * best + 0.1 * others
    value = toys.set_reward(best, r, k)
    assert bool((toys.set_reward(torch.cat([others, mixed]), r, k) <= value + 1e-9).all())


def test_log_follows_the_behaviour_and_names_its_propensity() -> None:
    log = toys.behaviour_log(toys.BIASED, events=55_000, seed=3)
    assert log.slate.shape == (55_000, 1, 1)
    item = log.slate[:, 0, 0] - 2
    share = torch.bincount(item, minlength=10) / len(item)
    torch.testing.assert_close(share, torch.tensor(toys.BIASED.behaviour), atol=0.008, rtol=0)  # over 4 σ
    torch.testing.assert_close(log.logp[:, 0, 0].exp(), torch.tensor(toys.BIASED.behaviour)[item])
    assert bool(log.logp_known.all())
    assert bool((log.reward[:, 0, 0] == item + 1).all())
    assert bool(log.terminated.all())


def test_log_without_propensities_says_so() -> None:
    log = toys.behaviour_log(toys.BIASED, events=100, seed=3, propensities=False)
    assert not bool(log.logp_known.any())
    assert bool((log.logp == 0).all())
    assert bool((log.slate == toys.behaviour_log(toys.BIASED, events=100, seed=3).slate).all())


def test_a_set_earns_the_sum_of_its_items() -> None:
    env = toys.Env(toys.TWO_GOOD, num_users=2)
    env.reset(seed=0)
    step, after = env.step(Slates(items=torch.tensor([[3, 2], [2, 0]]), logp=torch.zeros(2, 2)))
    assert step.reward.tolist() == [[9.0, 10.0], [10.0, 0.0]]
    assert step.choice.tolist() == [1, 0]
    assert after.user.tolist() == [2, 3]


def test_measured_return_is_the_closed_form() -> None:
    policy = FixedPolicy(toys.BIASED.behaviour)
    assert isinstance(policy, Policy)
    earned = returns(
        toys.Env(toys.BIASED, num_users=20_000), policy, seed=1, exploration=Exploration(top_m=10, temperature=1.0)
    )
    # Σ i (11 − i)/55 = 4
    assert earned.interval[0] < 4.0 < earned.interval[1]
    assert earned.stderr == pytest.approx(6.0**0.5 / 20_000**0.5, rel=0.05)  # variance Σ i² (11 − i)/55 − 16 = 6
    assert earned.pick_rate == 1.0


def test_bad_bandits_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rewards and 1 probabilities"):
        toys.Config(rewards=(1.0, 2.0), behaviour=(1.0,))
    with pytest.raises(ValueError, match=r"sums to 0\.5"):
        toys.Config(rewards=(1.0,), behaviour=(0.5,))
    with pytest.raises(ValueError, match="slate_size is 3"):
        toys.Config(rewards=(1.0, 2.0), behaviour=(0.5, 0.5), slate_size=3)


def test_env_before_reset() -> None:
    env = toys.Env(toys.BIASED, num_users=1)
    assert isinstance(env, Env)
    with pytest.raises(InputError, match=r"reset\(seed"):
        env.step(Slates(items=torch.tensor([[2]]), logp=torch.zeros(1, 1)))
