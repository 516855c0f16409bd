"""Cloning and REINFORCE: what one update computes, by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from slatewise.data.batches import trajectories
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import LogPart, Windows
from slatewise.methods import cloning, reinforce
from slatewise.nn.behaviour import BehaviourHead
from slatewise.testing import check_method, toy_catalog, written_log
from slatewise.types import Trajectories

NUM_ITEMS = 4
LOG4 = math.log(NUM_ITEMS)


def batch(*users: list[dict[str, Any]]) -> Trajectories:
    log = written_log(users)
    number = np.arange(log.num_users)
    zeros = np.zeros_like(number)
    return trajectories(log, Windows(user=number, start=zeros, learn=zeros, stop=np.diff(log.user_offsets)))


def seen(item: int, reward: float, **more: Any) -> dict[str, Any]:
    return {"items": [item], "rewards": [reward], **more}


def untouched(**settings: Any) -> reinforce.Learner:
    """π and β̂ still give every one of four items the same: with a state of 0 only biases count, and they are 0."""
    config = reinforce.Config(**{"slate_size": 2, "weight_cap": 100.0, **settings})
    return reinforce.Learner(config, StatelessEncoder(), toy_catalog(NUM_ITEMS), generator=Generator().manual_seed(0))


def test_the_loss_of_cloning_by_hand() -> None:
    learner = cloning.Learner(cloning.Config(), StatelessEncoder(), toy_catalog(NUM_ITEMS), generator=Generator())
    shown = batch([{"items": [2, 3]}, {"items": [4]}])
    assert learner.update(shown) == {"loss": pytest.approx(LOG4)}
    # 2, 3 and 4 were shown, 5 was not
    bias = learner.policy.head.bias.weight.detach()[2:, 0]
    assert bool((bias[:3] > 0).all())
    assert float(bias[3]) < 0


def test_cloning_learns_nothing_from_padding_alone() -> None:
    learner = cloning.Learner(cloning.Config(), StatelessEncoder(), toy_catalog(NUM_ITEMS), generator=Generator())
    before = learner.state_dict()
    assert learner.update(batch([{"items": [1]}])) == {"loss": 0.0}
    assert torch.equal(learner.state_dict()["policy.head.bias.weight"], before["policy.head.bias.weight"])


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"correction": "none"}, 1.0),
        ({"correction": "standard"}, 1.0),  # π/β = 1
        ({"correction": "top_k"}, 1.5),  # 2 (1 − ¼)
        ({"correction": "top_k", "slate_size": 4}, 4 * 0.75**3),
        ({"correction": "standard", "weight_cap": 0.5}, 0.5),
        ({"correction": "standard", "weight_cap": 0.5, "self_normalise": True}, 1.0),
    ],
)
def test_the_surrogate_by_hand(settings: dict[str, Any], factor: float) -> None:
    figures = untouched(**settings).update(batch([seen(2, 3.0), seen(3, 0.0)]))
    # of two shown items one earned: −½ · ω λ · 3 · log ¼
    assert figures["loss"] == pytest.approx(0.5 * factor * 3 * LOG4)
    assert figures["behaviour_loss"] == pytest.approx(LOG4)


def test_returns_go_on_to_the_end_of_a_session() -> None:
    steps = [seen(2, 1.0), seen(3, 2.0, end=True), seen(4, 8.0)]
    figures = untouched(correction="none", gamma=0.5).update(batch(steps))
    assert figures["loss"] == pytest.approx((1 + 1 + 2 + 8) / 3 * LOG4)


def test_a_truncated_session_is_no_part_of_the_next() -> None:
    log = batch([seen(2, 1.0), seen(3, 2.0), seen(4, 8.0)])
    log = log.replace(truncated=torch.tensor([[False, True, True]]))
    figures = untouched(correction="none", gamma=0.5).update(log)
    assert figures["loss"] == pytest.approx((1 + 1 + 2 + 8) / 3 * LOG4)


def test_a_horizon_in_hours() -> None:
    hour = 3_600_000_000
    steps = [seen(2, 1.0, time=0), seen(3, 2.0, time=hour), seen(4, 8.0, time=3 * hour)]
    # beside a longer user, so that the row is padded
    longer = [seen(5, 0.0)] * 5
    figures = untouched(correction="none", gamma=0.5, horizon_hours=1.5).update(batch(steps, longer))
    assert figures["loss"] == pytest.approx((2 + 2 + 8) / 8 * LOG4)


def test_a_reward_threshold() -> None:
    figures = untouched(correction="none", gamma=0.0, reward_at_least=4.0).update(batch([seen(2, 3.0), seen(3, 5.0)]))
    assert figures["loss"] == pytest.approx(1 / 2 * LOG4)


def test_an_item_does_not_get_what_its_slate_mates_earned() -> None:
    slate = {"items": [2, 3, 4], "rewards": [1.0, 5.0, 0.0]}
    figures = untouched(correction="none", gamma=0.5).update(batch([slate, seen(5, 2.0)]))
    # each what it earned itself and half of what followed: 1 + 1, 5 + 1; then 2
    assert figures["loss"] == pytest.approx((2 + 6 + 2) / 4 * LOG4)


def test_the_policy_learns_from_rewards_and_behaviour_from_everything() -> None:
    learner = untouched()
    learner.update(batch([seen(2, 3.0), seen(3, 0.0)]))
    bias = learner.policy.head.bias.weight.detach()[2:, 0]
    assert float(bias[0]) > 0
    assert bool((bias[1:] < 0).all())
    rows = learner.policy.log_behaviour(torch.zeros(1, 1), torch.tensor([0])).detach()[0, 2:]
    assert bool((rows[:2] > -LOG4).all())
    assert bool((rows[2:] < -LOG4).all())


def test_a_baseline_turns_what_is_worse_than_it_away() -> None:
    learner = untouched(correction="standard", baseline=True, gamma=0.0)
    figures = learner.update(batch([seen(2, 1.0), seen(3, 5.0)]))
    # advantages −2 and 2: their surrogates cancel while π is uniform, their gradients do not
    assert figures["loss"] == pytest.approx(0.0, abs=1e-6)
    bias = learner.policy.head.bias.weight.detach()[2:, 0]
    assert float(bias[0]) < 0 < float(bias[1])


def half_and_quarter(**settings: Any) -> reinforce.Learner:
    """π shows item 2 with ½, item 3 with ¼; β̂ still shows each of four items with ¼, so that ω is 2 and 1."""
    learner = untouched(correction="standard", **settings)
    with torch.no_grad():
        learner.policy.head.bias.weight[2:, 0] = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8]).log()
    return learner


def test_the_baseline_is_weighted_as_the_returns_are() -> None:
    figures = half_and_quarter(baseline=True, gamma=0.0).update(batch([seen(2, 1.0), seen(3, 5.0)]))
    # b = (2 · 1 + 1 · 5) / 3: advantages −4/3 and 8/3, of which 2 · −4/3 · log ½ + 8/3 · log ¼ = −8/3 · log 2
    assert figures["loss"] == pytest.approx(8 / 3 * math.log(2) / 2)


def test_the_baseline_is_a_mean_over_all_that_was_shown() -> None:
    figures = half_and_quarter(baseline=True, gamma=0.0).update(batch([seen(2, 1.0), seen(3, 0.0)]))
    # b = (2 · 1 + 1 · 0) / 3: advantages 1/3 and −2/3, of which 2 · 1/3 · log ½ − 2/3 · log ¼ = 2/3 · log 2
    assert figures["loss"] == pytest.approx(-2 / 3 * math.log(2) / 2)


def test_weights_are_normalised_by_their_mean_over_all_that_was_shown() -> None:
    figures = half_and_quarter(self_normalise=True, gamma=0.0).update(batch([seen(2, 3.0), seen(3, 0.0)]))
    # ω = 2 and 1, of mean 3/2: −½ · 4/3 · 3 · log ½
    assert figures["loss"] == pytest.approx(2 * math.log(2))
    assert figures["weight"] == pytest.approx(1.0)


def test_a_baseline_finds_the_item_that_is_clicked_most() -> None:
    """Items clicked with .1, .2, .3 and .8, shown uniformly: of the clicks alone, every advantage would be 0."""
    clicks = [
        seen(item, float(number < 10 * rate), end=True)
        for item, rate in zip((2, 3, 4, 5), (0.1, 0.2, 0.3, 0.8), strict=True)
        for number in range(10)
    ]
    learner, shown = untouched(correction="standard", baseline=True, gamma=0.0, lr=0.05), batch(clicks)
    for _ in range(250):
        learner.update(shown)
    pi = learner.policy.log_pi(torch.zeros(1, 1), torch.tensor([[2, 3, 4, 5]])).detach().exp()[0]
    assert float(pi[3]) > 0.99


def test_a_baseline_that_equals_every_reward_is_refused() -> None:
    learner = untouched(correction="standard", baseline=True)
    same = LogPart.whole(written_log([[seen(2, 1.0), seen(3, 1.0)]]))
    with pytest.raises(ValueError, match=r"all that the training part shows earns 1, .*: set method\.baseline = false"):
        learner.check_log(same)
    learner.check_log(LogPart.whole(written_log([[seen(2, 1.0), seen(3, 0.0)]])))
    untouched(correction="standard").check_log(same)


def test_logged_propensities_of_single_items_are_the_weights() -> None:
    known, unknown = seen(2, 3.0, logp=[math.log(1 / 8)]), seen(3, 3.0)
    settings = {"correction": "standard", "gamma": 0.0}
    # π = ¼: ω = ¼ / ⅛ where the log says so, ¼ / ¼ by β̂ where it does not
    figures = untouched(**settings).update(batch([known, unknown]))
    assert figures["loss"] == pytest.approx(0.5 * (2 + 1) * 3 * LOG4)
    estimated = untouched(**settings, behaviour=reinforce.BehaviourConfig(propensities="estimated"))
    assert estimated.update(batch([known, unknown]))["loss"] == pytest.approx(0.5 * (1 + 1) * 3 * LOG4)


def test_factors_of_slates_are_no_propensities_of_single_draws() -> None:
    slate = {"items": [2, 3], "rewards": [3.0, 0.0], "logp": [math.log(1 / 8), 0.0]}
    figures = untouched(correction="standard", gamma=0.0).update(batch([slate]))
    assert figures["loss"] == pytest.approx(0.5 * 1 * 3 * LOG4)


@pytest.mark.parametrize(
    ("events", "settings", "note"),
    [
        ([seen(2, 1.0, logp=[-1.0])] * 2, {}, "the weights are π/β with the 2 logged propensities"),
        (
            [seen(2, 1.0, logp=[-1.0]), seen(3, 1.0)],
            {},
            "the weights are π/β with the 1 logged propensity; 1 of 2 rows without one, weighted by β̂",
        ),
        ([seen(2, 1.0)], {}, None),
        ([seen(2, 1.0, logp=[-1.0])], {"correction": "none"}, None),
        (
            [seen(2, 1.0, logp=[-1.0])],
            {"behaviour": reinforce.BehaviourConfig(propensities="estimated")},
            "the weights are π/β̂: method.behaviour.propensities sets the logged propensities aside",
        ),
        (
            [{"items": [2, 3], "rewards": [1.0, 0.0], "logp": [-1.0, -1.0]}],
            {},
            "the weights are π/β̂: the logged propensities are factors of slates, not of single draws",
        ),
    ],
)
def test_training_reports_what_the_weights_were(
    events: list[dict[str, Any]], settings: dict[str, Any], note: str | None
) -> None:
    learner = untouched(**settings)
    learner.check_log(LogPart.whole(written_log([events])))
    assert learner.notes() == (() if note is None else (note,))


def test_the_divergence_penalty_by_hand() -> None:
    learner = half_and_quarter(kl_penalty=1.5)
    # nothing earned: 1.5 · mean of ω log(π/β) log π, which is 2 · log 2 · log ½ and 1 · 0 · log ¼
    assert learner.update(batch([seen(2, 0.0), seen(3, 0.0)]))["loss"] == pytest.approx(-1.5 * math.log(2) ** 2)


def test_the_divergence_penalty_holds_the_policy_at_behaviour() -> None:
    learner = half_and_quarter(kl_penalty=1.0, lr=0.02)
    everything = [seen(item, 0.0) for item in (2, 3, 4, 5)]
    distances = []
    for _ in range(60):
        learner.update(batch(everything))
        log_pi = learner.policy.log_pi(torch.zeros(1, 1), torch.tensor([[2, 3, 4, 5]])).detach()
        distances.append(float((log_pi.exp() * (log_pi + LOG4)).sum()))
    assert distances[0] > 0.1
    assert distances[-1] < 0.01


def test_how_many_weights_were_capped() -> None:
    assert untouched(weight_cap=0.5).update(batch([seen(2, 3.0)]))["capped"] == 1.0
    assert untouched(weight_cap=2.0).update(batch([seen(2, 3.0)]))["capped"] == 0.0


def test_nothing_rewarded_moves_only_behaviour() -> None:
    learner = untouched()
    figures = learner.update(batch([seen(2, 0.0)]))
    assert (figures["loss"], figures["weight"]) == (0.0, 0.0)
    assert not bool(learner.policy.head.bias.weight.any())


@pytest.mark.parametrize(
    "settings",
    [
        {"correction": "none"},
        {"correction": "standard", "self_normalise": True, "baseline": True},
        {"reward_at_least": 4.0, "horizon_hours": 0.02, "weight_cap": 1.0},
        {"slate_size": 3, "temperature": 0.5, "weight_decay": 0.01},
    ],
    ids=["uncorrected", "standard", "capped", "cold"],
)
def test_its_settings_keep_the_contract(settings: dict[str, Any]) -> None:
    check_method(reinforce, settings=settings)


def test_dropout_keeps_the_contract() -> None:
    check_method(cloning, encoder_settings={"dropout": 0.5, "width": 8})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_cap": 0.0}, r"weight_cap is 0\.0; expected a number above 0"),
        ({"slate_size": 0}, "slate_size is 0; expected at least 1"),
        ({"gamma": 1.1}, r"gamma is 1\.1; expected a discount in \[0, 1\]"),
        ({"horizon_hours": 0.0}, r"horizon_hours is 0\.0; expected a number above 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reinforce.Config(**settings)


def test_a_slate_larger_than_the_catalog() -> None:
    with pytest.raises(ValueError, match="slate_size is 16, the catalog has 4 items"):
        untouched(slate_size=16)


def test_a_start_from_popularity_counts_uses_for_the_policy_and_all_that_was_shown_for_behaviour() -> None:
    log = written_log([[{"items": [2, 3], "used": [1], "rewards": [0.0, 1.0]}, {"items": [3, 4], "used": [0]}]])
    settings = reinforce.Config(correction="none", imitation=reinforce.ImitationConfig(start="popularity"))
    catalog = toy_catalog(3)
    learner = reinforce.Learner(
        settings, StatelessEncoder(None, catalog), catalog, generator=Generator().manual_seed(0)
    )
    learner.prepare(LogPart.whole(log))
    behaviour = learner.policy.behaviour
    assert isinstance(behaviour, BehaviourHead)
    counts = learner.policy.head.bias.weight[2:, 0].exp(), behaviour.softmax.bias.weight[2:, 0].exp()
    torch.testing.assert_close(counts[0], torch.tensor([1.0, 3.0, 1.0]))  # items 2, 3, 4: 0, 2, 0 uses, and 1 each
    torch.testing.assert_close(counts[1], torch.tensor([2.0, 3.0, 2.0]))  # shown 1, 2, 1 times
