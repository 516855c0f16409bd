from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from slatewise.log import FIRST_ITEM, PAD, UNKNOWN
from slatewise.ope.ips import Snips
from slatewise.types import Trajectories, used_at_once


def log_of(slate: Tensor, logp: Tensor, reward: Tensor) -> Trajectories:
    """Steps of which all may be learned from and all propensities are known; shapes (B, T, K)."""
    shape = slate.shape[:2]
    steps = torch.arange(shape.numel()).view(shape)
    yes = torch.ones(shape, dtype=torch.bool)
    return Trajectories(
        event_id=steps,
        policy_id=steps,
        user=torch.arange(shape[0]).unsqueeze(1).expand(shape),
        time=steps,
        terminated=~yes,
        truncated=~yes,
        slate=slate,
        logp=logp,
        logp_known=yes,
        reward=reward,
        cost=torch.zeros_like(reward),
        **used_at_once(torch.arange(slate.shape[2]) == torch.zeros_like(slate), time=steps, reward=reward),
        mask=yes,
        learn=yes,
        context=torch.zeros(shape[0], shape[1] + 1, 0),
    )


# Two users. Weights .5/.25 = 2, .1/.2 = .5, then .4/.5 = .8 and a place that holds no item.
HAND = log_of(
    slate=torch.tensor([[[2, 3]], [[4, 0]]]),
    logp=torch.tensor([[[0.25, 0.2]], [[0.5, 1.0]]]).log(),
    reward=torch.tensor([[[1.0, 4.0]], [[5.0, 9.0]]]),
)
EVALUATION = torch.tensor([[[0.5, 0.1]], [[0.4, 1.0]]]).log()


def test_snips_by_hand() -> None:
    estimate = Snips().estimate(HAND, EVALUATION)
    # (2 · 1 + .5 · 4) + .8 · 5 = 8, over 2.5 + .8
    assert estimate.value == pytest.approx(8 / 3.3)
    assert (estimate.trajectories, estimate.steps, estimate.left_out) == (2, 3, {})
    # the users' weights are 2 + .5 and .8
    assert estimate.ess == pytest.approx(3.3**2 / (2.5**2 + 0.8**2))
    assert estimate.max_weight == pytest.approx(2.5 / 3.3)
    assert estimate.mean_weight == pytest.approx(3.3 / 3)
    torch.testing.assert_close(estimate.contributions, torch.tensor([4 / 3.3, 4 / 3.3]))
    # without the first user 5, without the second 4/2.5 = 1.6: the jackknife's variance is ½ ((5 − v)² + (1.6 − v)²)
    value = 8 / 3.3
    jackknife = ((5 - value) ** 2 + (1.6 - value) ** 2) / 2
    # two equal residuals count as two, so the variance of independent steps, which is smaller, changes nothing
    assert estimate.stderr == pytest.approx(math.sqrt(jackknife))
    assert 1.0 <= estimate.interval[0] < value < estimate.interval[1] <= 5.0


def test_ips_and_a_cap_by_hand() -> None:
    assert Snips(normalise=False).estimate(HAND, EVALUATION).value == pytest.approx(8 / 3)
    # 2 becomes 1: (1 + 2 + 4) / (1 + .5 + .8)
    assert Snips(weight_cap=1.0).estimate(HAND, EVALUATION).value == pytest.approx(7 / 2.3)
    with pytest.raises(ValueError, match="weight_cap is 0"):
        Snips(weight_cap=0.0)


def test_burn_in_and_unknown_propensities_are_left_out() -> None:
    expected = Snips().estimate(HAND.rows(slice(0, 1)), EVALUATION[:1])
    for hidden in (
        HAND.replace(learn=torch.tensor([[True], [False]])),
        HAND.replace(logp_known=torch.tensor([[True], [False]])),
    ):
        estimate = Snips().estimate(hidden, EVALUATION)
        assert (estimate.value, estimate.steps, estimate.trajectories) == (expected.value, 2, 1)


def test_what_is_left_out_is_counted_by_reason() -> None:
    log = HAND.replace(slate=torch.tensor([[[2, UNKNOWN]], [[4, PAD]]]), logp_known=torch.tensor([[True], [False]]))
    estimate = Snips().estimate(log, EVALUATION)
    assert estimate.steps == 1
    assert estimate.left_out == {"no propensity": 1, "an item that the catalog does not have": 1}


def test_windows_of_one_user_are_one_trajectory() -> None:
    both = HAND.replace(user=torch.tensor([[7], [7]]))
    estimate = Snips().estimate(both, EVALUATION)
    assert estimate.value == pytest.approx(8 / 3.3)
    assert (estimate.trajectories, estimate.steps, estimate.max_weight) == (1, 3, 1.0)
    # nothing to compare one user with: the range of the rewards is all that is known
    assert (estimate.stderr, estimate.interval) == (math.inf, (1.0, 5.0))
    assert estimate.verdict == "cannot judge"


def test_steps_of_a_user_carry_no_more_than_the_user() -> None:
    """A hundred copies of every step change neither the interval nor the effective sample size."""
    once = Snips().estimate(HAND, EVALUATION)
    columns = {name: getattr(HAND, name) for name in Trajectories.__dataclass_fields__}
    often = HAND.replace(
        **{
            name: value.repeat_interleave(100, dim=1)
            for name, value in columns.items()
            if value is not None and name not in ("context", "next_time")
        },
        context=torch.zeros(2, 101, 0),
    )
    copies = Snips().estimate(often, EVALUATION.repeat_interleave(100, dim=1))
    assert copies.steps == 300
    assert copies.ess == pytest.approx(once.ess)
    assert copies.interval == pytest.approx(once.interval)


def test_known_bounds_of_the_rewards_widen_the_interval() -> None:
    wide = Snips(rewards=(0.0, 20.0)).estimate(HAND, EVALUATION)
    assert wide.interval[1] > Snips().estimate(HAND, EVALUATION).interval[1]
    with pytest.raises(ValueError, match=r"rewards are \(1.0, 0.0\)"):
        Snips(rewards=(1.0, 0.0))


def test_a_constant_reward_says_nothing_of_others() -> None:
    same = HAND.replace(reward=torch.ones_like(HAND.reward))
    estimate = Snips().estimate(same, EVALUATION)
    assert (estimate.value, estimate.interval) == (1.0, (1.0, 1.0))
    assert "every reward is the same: nothing is known of how others vary" in estimate.reasons
    bounded = Snips(rewards=(0.0, 1.0)).estimate(same, EVALUATION)
    assert bounded.interval[0] < 0.9
    assert not any(reason.startswith("every reward") for reason in bounded.reasons)


def test_actions_that_the_policy_could_not_have_taken() -> None:
    never = EVALUATION.clone()
    never[0, 0, 0] = -math.inf
    estimate = Snips().estimate(HAND, never)
    assert estimate.unsupported == pytest.approx(1 / 3)
    assert estimate.value == pytest.approx((2 + 4) / 1.3)


def test_an_empty_log() -> None:
    estimate = Snips().estimate(HAND.rows(slice(0, 0)), EVALUATION[:0])
    assert (estimate.steps, estimate.ess, estimate.verdict) == (0, 0.0, "cannot judge")
    assert math.isnan(estimate.value)


BEHAVIOUR = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
EVALUATED = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
REWARD = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)


def every_log(events: int) -> tuple[Tensor, Tensor]:
    """All logs of so many events of a bandit of three arms, and how probable each of them is."""
    actions = torch.tensor(list(itertools.product(range(3), repeat=events)))
    return actions, BEHAVIOUR[actions].prod(dim=1)


def estimates(events: int, *, normalise: bool) -> tuple[Tensor, Tensor]:
    actions, chance = every_log(events)
    values = []
    for row in actions:
        column = row.view(-1, 1, 1)
        log = log_of(column + FIRST_ITEM, BEHAVIOUR[column].log().float(), REWARD[column].float())
        values.append(Snips(normalise=normalise).estimate(log, EVALUATED[column].log().float()).value)
    return torch.tensor(values, dtype=torch.float64), chance


def test_ips_is_unbiased_over_all_logs() -> None:
    # .1 · 1 + .3 · 2 + .6 · 4 = 3.1
    values, chance = estimates(3, normalise=False)
    assert float((values * chance).sum()) == pytest.approx(3.1, abs=1e-5)


def test_snips_stays_within_the_rewards_and_its_bias_shrinks() -> None:
    bias = []
    for events in (2, 5):
        values, chance = estimates(events, normalise=True)
        assert float(values.min()) >= 1.0 - 1e-6
        assert float(values.max()) <= 4.0 + 1e-6
        bias.append(abs(float((values * chance).sum()) - 3.1))
    assert bias[1] < bias[0]
    ips, chance = estimates(5, normalise=False)
    snips, _ = estimates(5, normalise=True)

    def spread(values: Tensor) -> float:
        return float(((values - (values * chance).sum()).square() * chance).sum())

    assert spread(snips) < spread(ips)


def test_snips_moves_with_the_rewards() -> None:
    shifted = HAND.replace(reward=HAND.reward + 10.0)
    assert Snips().estimate(shifted, EVALUATION).value == pytest.approx(8 / 3.3 + 10)
