from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from slatewise.config import convert
from slatewise.encoders import observed
from slatewise.errors import InputError
from slatewise.log import Catalog, LogPart, Vocabulary
from slatewise.methods import slateq
from slatewise.ops.choice import choice_probabilities
from slatewise.ops.slates import Optimiser
from slatewise.testing import check_method, written_log
from slatewise.types import Exploration, SlateRequest, Trajectories, used_at_once

TOPICS = 3


def topics(count: int = TOPICS) -> Catalog:
    """One item a topic, features one-hot: items 2, 3, 4, …"""
    features = np.concatenate([np.zeros((2, count)), np.eye(count)]).astype(np.float32)
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([f"t{i}" for i in range(count)])),
        text=("",) * (count + 2),
        group=np.zeros(count + 2, np.int64),
        group_names=("",),
        features=features,
    )


def learner(catalog: Catalog | None = None, *, seed: int = 0, **settings: Any) -> slateq.Learner:
    catalog = catalog or topics()
    table = {"choice": {"model": "mnl"}, "reads": "match", "hidden": [8], **settings}
    config = convert(slateq.Config, table, where="slateq")
    encoder = observed.Encoder(observed.Config(history=False, context_width=catalog.features.shape[1]), catalog)
    return slateq.Learner(config, encoder, catalog, generator=torch.Generator().manual_seed(seed))


def steps(
    *, slate: list[list[int]], choice: list[int], reward: list[float], terminated: list[bool] | None = None
) -> Trajectories:
    """One user; tastes are 0, so that every item has weight 1 and nothing has weight e."""
    count, size = len(slate), len(slate[0])
    ends = torch.tensor([terminated or [False] * count])
    paid = torch.zeros(1, count, size)
    for t, (place, value) in enumerate(zip(choice, reward, strict=True)):
        if place >= 0:
            paid[0, t, place] = value
    here = torch.ones(1, count, dtype=torch.bool)
    truncated = ~ends & (torch.arange(count) == count - 1)
    number = torch.arange(count).unsqueeze(0)
    return Trajectories(
        event_id=number,
        policy_id=torch.zeros_like(number),
        user=torch.zeros_like(number),
        time=number * 1_000_000,
        terminated=ends,
        truncated=truncated,
        slate=torch.tensor([slate]),
        logp=torch.zeros(1, count, size),
        logp_known=here.clone(),
        reward=paid,
        cost=torch.zeros(1, count, size),
        **used_at_once(torch.arange(size) == torch.tensor([choice]).unsqueeze(2), time=number * 1_000_000, reward=paid),
        mask=here,
        learn=here.clone(),
        context=torch.zeros(1, count + 1, TOPICS),
        candidates=torch.tensor([[2, 3, 4]]).expand(1, count + 1, 3).clone(),
    )


def set_values(built: slateq.Learner, values: list[float], null: float) -> None:
    """Make Q̄ of the items and of ⊥ given numbers, in critic and target."""
    for critic in (built.policy.critic, built.target):
        first, last = critic.item[0], critic.item[-1]
        with torch.no_grad():
            for part in critic.item.parameters():
                part.zero_()
            # inputs are [match ; one-hot topic]: topic j goes through hidden unit j
            for topic, value in enumerate(values):
                first.weight[topic, 1 + topic] = 1.0  # type: ignore[operator]
                last.weight[0, topic] = value  # type: ignore[operator]
            if critic.null is not None:
                for part in critic.null.parameters():
                    part.zero_()
                critic.null[-1].bias.fill_(null)  # type: ignore[operator]


def test_contract_with_a_known_user_model() -> None:
    for serving in ("top_k", "greedy", "optimal"):
        check_method("slateq", settings={"serving_slates": serving, "training": "sarsa", "null_value": "zero"})


def test_values_set_by_hand_are_the_values() -> None:
    built = learner()
    set_values(built, [1.0, 2.0, 3.0], 0.5)
    state = torch.zeros(1, TOPICS)
    assert built.policy.critic.values(state, torch.tensor([[2, 3, 4]])).tolist() == [[1.0, 2.0, 3.0]]
    assert built.policy.critic.null_value(state).tolist() == [0.5]


def test_targets_by_hand() -> None:
    # items 2, 3, 4 are worth 1, 2, 3; nothing .5; every item has weight 1, nothing e
    log = steps(slate=[[2, 3], [2, 4]], choice=[0, 1], reward=[4.0, 6.0], terminated=[False, True])
    e = math.e
    # the best next slate is {3, 4}; the logged one is {2, 4}
    best, logged = (2 + 3 + 0.5 * e) / (2 + e), (1 + 3 + 0.5 * e) / (2 + e)
    for training, following in (("myopic", 0.0), ("sarsa", logged), ("q", best)):
        built = learner(training=training, gamma=0.5, double=False)
        set_values(built, [1.0, 2.0, 3.0], 0.5)
        loss = built.update(log)["loss"]
        errors = (4 + 0.5 * following - 1, 6 - 3)
        assert loss == pytest.approx(sum(error**2 for error in errors) / 2, rel=1e-5)


def two_uses() -> Trajectories:
    """A slate of which both items were used, 2 for 4 and 3 for 6; the session ends there."""
    log = steps(slate=[[2, 3]], choice=[1], reward=[6.0], terminated=[True])
    paid = torch.tensor([[[4.0, 6.0]]])
    return log.replace(reward=paid, **used_at_once(torch.tensor([[[True, True]]]), time=log.time, reward=paid))


@pytest.mark.parametrize(
    ("rule", "loss"),
    # items 2 and 3 are worth 1 and 2: the largest reward alone, or a choice of each
    [("largest", (6 - 2) ** 2), ("each", ((4 - 1) ** 2 + (6 - 2) ** 2) / 2)],
)
def test_several_uses_of_a_slate_by_hand(rule: str, loss: float) -> None:
    built = learner(choice={"model": "mnl", "several_uses": rule})
    set_values(built, [1.0, 2.0, 3.0], 0.5)
    assert built.update(two_uses())["loss"] == pytest.approx(loss, rel=1e-5)


def test_several_uses_are_refused_or_counted() -> None:
    built = learner(choice={"model": "mnl", "several_uses": "refuse"})
    with pytest.raises(InputError, match=r'1 slate of a batch has several used items\. Set several_uses to "largest"'):
        built.update(two_uses())
    shown = [{"items": [2, 3], "used": [0, 1]}, {"items": [2, 3], "used": [1]}, {"items": [2, 3], "used": []}]
    part = LogPart.whole(written_log([shown, shown]))
    with pytest.raises(
        ValueError, match=r"2 slates of the training part have several used items, and method\.choice\.s"
    ):
        built.check_log(part)
    one = LogPart.whole(written_log([shown[1:]]))
    built.check_log(one)
    assert built.notes() == ()
    for rule, what in (
        ("largest", "the choice is the used item with the largest reward"),
        ("each", "one choice each use"),
    ):
        counts = learner(choice={"model": "mnl", "several_uses": rule})
        counts.check_log(part)
        assert counts.notes() == (
            f'2 slates of the training part have several used items: {what} (method.choice.several_uses = "{rule}")',
        )


def test_a_step_without_a_pick_teaches_the_value_of_nothing() -> None:
    log = steps(slate=[[2, 3]], choice=[-1], reward=[0.0], terminated=[True])
    built = learner(lr=0.1)
    set_values(built, [1.0, 2.0, 3.0], 0.5)
    assert built.update(log)["loss"] == pytest.approx(0.25)
    state = torch.zeros(1, TOPICS)
    assert float(built.policy.critic.null_value(state).detach()) < 0.5
    assert built.policy.critic.values(state, torch.tensor([[2, 3, 4]])).tolist() == [[1.0, 2.0, 3.0]]
    zero = learner(null_value="zero")
    before = {name: value.clone() for name, value in zero.policy.critic.state_dict().items()}
    assert zero.update(log)["loss"] == 0.0
    assert all(torch.equal(value, before[name]) for name, value in zero.policy.critic.state_dict().items())
    assert zero.policy.critic.null_value(state).tolist() == [0.0]


def test_double_q_values_the_online_choice_with_the_target() -> None:
    log = steps(slate=[[2, 3], [2, 3]], choice=[0, 0], reward=[0.0, 0.0], terminated=[False, True])
    log = log.replace(learn=torch.tensor([[True, False]]))
    online_best = {2, 3}
    for double in (True, False):
        built = learner(gamma=1.0, double=double, null_value="zero")
        set_values(built, [1.0, 2.0, 3.0], 0.0)  # the target network: best slate {3, 4}
        fast = built.policy.critic.item[-1].weight
        with torch.no_grad():
            fast.copy_(torch.tensor([[5.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]))  # type: ignore[operator]
        slow = {2: 1.0, 3: 2.0, 4: 3.0}
        chosen = online_best if double else {3, 4}
        following = sum(slow[item] for item in chosen) / (2 + math.e)
        assert built.update(log)["loss"] == pytest.approx((5.0 - following) ** 2, rel=1e-5)


def test_where_the_record_breaks_off_there_is_no_target() -> None:
    log = steps(slate=[[2, 3]], choice=[0], reward=[4.0])
    for training in ("sarsa", "q"):
        assert learner(training=training).update(log) == {"loss": 0.0}
    assert learner(training="myopic").update(log)["loss"] > 0


@pytest.mark.parametrize("training", ["sarsa", "q"])
def test_a_session_that_breaks_off_within_a_row_is_not_followed_by_the_next(training: str) -> None:
    log = steps(slate=[[2, 3], [2, 4]], choice=[0, 1], reward=[4.0, 6.0], terminated=[False, True])
    built = learner(training=training, gamma=0.5, double=False)
    set_values(built, [1.0, 2.0, 3.0], 0.5)
    loss = built.update(log.replace(truncated=torch.tensor([[True, False]])))["loss"]
    # only the second step has a target: 6, of an item worth 3
    assert loss == pytest.approx((6 - 3) ** 2)


def test_the_target_follows_softly() -> None:
    built = learner(target_rate=0.25, lr=0.1)
    slow = {name: value.clone() for name, value in built.target.state_dict().items()}
    built.update(steps(slate=[[2, 3]], choice=[0], reward=[4.0], terminated=[True]))
    for name, value in built.policy.critic.state_dict().items():
        torch.testing.assert_close(built.target.state_dict()[name], slow[name].lerp(value, 0.25))


def test_choice_is_learned_from_picks() -> None:
    built = learner(choice={}, training="myopic", lr=0.02)
    # of items 2 and 3, item 2 is picked twice as often, nothing as often as item 3
    log = steps(slate=[[2, 3]] * 4, choice=[0, 1, 0, -1], reward=[1.0] * 4, terminated=[True] * 4)
    losses = [built.update(log)["choice_loss"] for _ in range(300)]
    assert losses[-1] == pytest.approx(-(2 * math.log(0.5) + 2 * math.log(0.25)) / 4, abs=1e-3)
    state, items = torch.zeros(1, TOPICS), torch.tensor([[2, 3]])
    weight, null = built.policy.choice.weight(state, items), built.policy.choice.null_weight(state)
    torch.testing.assert_close(
        choice_probabilities(weight, null).detach(), torch.tensor([[0.5, 0.25, 0.25]]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("serving", ["top_k", "greedy", "optimal"])
def test_what_is_served(serving: Optimiser) -> None:
    catalog = topics(6)
    built = learner(catalog, serving_slates=serving, choice={}, hidden=[16], seed=4)
    policy, k = built.policy, 2
    state = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        weight, value, null_weight, null_value = policy.problem(state, torch.arange(2, 8).expand(40, -1))
        served = policy.recommend(state, SlateRequest(k=k)).items

    def worth(user: int, items: tuple[int, ...]) -> float:
        at = [item - 2 for item in items]
        v, q = weight[user, at], value[user, at]
        total = null_weight[user] * null_value[user] + (v * q).sum()
        return float(total / (null_weight[user] + v.sum()))

    for user in range(40):
        slate = tuple(served[user].tolist())
        if serving == "optimal":
            best = max(worth(user, pair) for pair in itertools.combinations(range(2, 8), k))
            assert worth(user, slate) == pytest.approx(best, abs=1e-6)
        elif serving == "greedy":
            assert worth(user, slate[:1]) == pytest.approx(max(worth(user, (i,)) for i in range(2, 8)), abs=1e-6)
            following = max(worth(user, (slate[0], i)) for i in range(2, 8) if i != slate[0])
            assert worth(user, slate) == pytest.approx(following, abs=1e-6)
        else:
            gain = weight[user] * (value[user] - null_value[user])
            assert set(slate) == set((gain.topk(k).indices + 2).tolist())


def test_exploration_prefers_what_adds_value() -> None:
    built = learner()
    set_values(built, [1.0, 2.0, 30.0], 0.5)
    generator = torch.Generator().manual_seed(0)
    request = SlateRequest(k=1, exploration=Exploration(top_m=3, temperature=0.5))
    slates = built.policy.recommend(torch.zeros(500, TOPICS), request, generator=generator)
    assert float((slates.items == 4).float().mean()) > 0.95
    again = built.policy.log_prob(torch.zeros(500, TOPICS), slates.items, request)
    torch.testing.assert_close(again, slates.logp)


def test_a_log_of_single_items() -> None:
    with pytest.raises(InputError, match="shows one item at a time; SlateQ learns from slates"):
        learner().update(steps(slate=[[2]], choice=[0], reward=[1.0]))


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_features_that_are_no_numbers(broken: float) -> None:
    catalog = topics()
    features = catalog.features.copy()
    features[3, 1] = broken
    with pytest.raises(ValueError, match=rf'feature 2 of item ".*" is {broken:g} \(1 such numbers\); expected finite'):
        learner(dataclasses.replace(catalog, features=features))


def test_a_broken_critic_is_refused() -> None:
    built = learner()
    set_values(built, [1.0, math.nan, 3.0], 0.5)
    with pytest.raises(ValueError, match="NaN"):
        built.policy.recommend(torch.zeros(1, TOPICS), SlateRequest(k=2))
    with pytest.raises(FloatingPointError, match="the critic"):
        built.update(steps(slate=[[2, 3]], choice=[1], reward=[1.0], terminated=[True]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"target_rate": 0.0}, "target_rate is 0"),
        ({"critic": {"value_unit": 0.0}}, "value_unit is 0"),
        ({"hidden": (0,)}, "must be at least 1"),
        ({"choice": {"model": "proportional", "null_mass": -2.0}}, "null_mass is -2"),
    ],
)
def test_settings_that_make_no_learner(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(slateq.Config, settings, where="slateq")


def test_a_state_that_does_not_begin_with_tastes() -> None:
    catalog = topics()
    encoder = observed.Encoder(observed.Config(history=False, context_width=2), catalog)
    for settings, message in (
        ({"reads": "match"}, "there are 3 features and 2"),
        ({"choice": {"model": "mnl"}}, "begins with tastes"),
    ):
        with pytest.raises(ValueError, match=message):
            slateq.Policy(convert(slateq.Config, settings, where="slateq"), encoder, catalog)


def test_candidates_are_drawn_where_the_log_has_none() -> None:
    catalog = topics(50)
    built = learner(catalog, target_candidates=10)
    rows = torch.zeros(7, 3, dtype=torch.int64)
    log = steps(slate=[[2, 3]], choice=[0], reward=[1.0])
    log = dataclasses.replace(log, candidates=None)
    items: Tensor = built._next_candidates(log, rows)
    assert items.shape == (7, 10)
    assert int(items.min()) >= 2
    assert int(items.max()) < 52
    small = learner(target_candidates=10)
    assert small._next_candidates(log, rows)[0].tolist() == [2, 3, 4]
