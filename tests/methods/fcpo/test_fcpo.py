"""FCPO: what one update computes, by hand, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from slatewise.config import convert
from slatewise.config.run import RunConfig
from slatewise.data.batches import trajectories
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, LogPart, Windows
from slatewise.methods import fcpo
from slatewise.testing import check_method, toy_catalog, toy_dataset, written_log
from slatewise.training.loop import train
from slatewise.types import Exploration, SlateRequest, Trajectories


def batch(*users: list[dict[str, Any]]) -> Trajectories:
    log = written_log(users)
    number = np.arange(log.num_users)
    zeros = np.zeros_like(number)
    return trajectories(log, Windows(user=number, start=zeros, learn=zeros, stop=np.diff(log.user_offsets)))


def untouched(num_items: int = 4, **settings: Any) -> fcpo.Learner:
    """Every item is as likely as every other: V is 0."""
    config = convert(fcpo.Config, {"slate_size": 2, "width": 3, **settings}, where="fcpo")
    learner = fcpo.Learner(config, StatelessEncoder(), toy_catalog(num_items), generator=Generator().manual_seed(0))
    with torch.no_grad():
        learner.policy.item.weight.zero_()
    return learner


def one(item: int, reward: float = 1.0) -> dict[str, Any]:
    return {"items": [item], "rewards": [reward]}


def test_the_next_liked_items_are_imitated_as_a_list() -> None:
    learner = untouched(reward_at_least=4.0)
    figures = learner.update(batch([one(2, 5.0), one(3, 1.0), one(4, 4.0)]))
    # lists 2 4 · 4 · 4: first slots have 4 items to choose from, the second slot has 3
    assert figures["loss"] == pytest.approx((3 * math.log(4) + math.log(3)) / 4)
    # V was 0 and so its gradient says which items should come up
    assert float(learner.policy.item.weight.detach()[FIRST_ITEM:].abs().sum()) > 0


def test_nothing_liked_teaches_nothing() -> None:
    learner = untouched(reward_at_least=4.0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    assert learner.update(batch([one(2, 1.0), one(3, 2.0)])) == {"loss": 0.0, "cost": 0.0, "multiplier": 0.0}
    for name, value in learner.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_imitation_prices_popular_items() -> None:
    learner = untouched(costs="exposure", popular={"share": 0.25}, cost_limit=0.1, multiplier={"lr": 2.0})
    learner.start_exposure(torch.tensor([0.0, 0, 9, 1, 1, 1]))
    figures = learner.update(batch([one(2), one(3)]))
    # one of four items is popular. First slots hold it with ¼; the second one comes after it was shown
    assert figures["cost"] == pytest.approx((1 / 4 + 0 + 1 / 4) / 3)
    assert figures["multiplier"] == learner.constraint.multiplier == pytest.approx(2.0 * (1 / 6 - 0.1))


def test_rows_can_turn_from_all_popular_items_alike() -> None:
    learner = untouched(16, costs="exposure", popular={"share": 0.5, "mark": 2.0})
    learner.start_exposure(torch.tensor([0.0, 0] + [9] * 8 + [1] * 8))
    policy = learner.policy
    assert policy.vectors()[:, -1].tolist() == [0, 0] + [2] * 8 + [0] * 8
    ends = torch.tensor([[2, 17]])
    assert policy.vectors(ends)[..., -1].tolist() == [[2, 0]]
    with torch.no_grad():
        # rows start without an opinion of it
        torch.testing.assert_close(policy.log_pi(torch.zeros(1, 1), ends).exp(), torch.full((1, 2), 1 / 16))
        policy.head.mean.bias.view(2, 4)[:, 3] = -0.5 * math.log(3)  # times the mark: a third of the weight
        torch.testing.assert_close(policy.log_pi(torch.zeros(1, 1), ends).exp(), torch.tensor([[1.0, 3.0]]) / 32)
    few = policy.recommend(
        torch.zeros(1, 1),
        SlateRequest(k=1, candidates=ends, exploration=Exploration(top_m=16)),
        generator=Generator().manual_seed(0),
    )
    assert float(few.logp.detach()[0, 0].exp()) == pytest.approx(0.25 if int(few.items[0, 0]) == 2 else 0.75)
    # no column where the log says what things cost
    assert untouched(costs="logged").policy.vectors().shape == (6, 3)


def test_marks_follow_the_groups() -> None:
    learner = untouched(
        costs="exposure",
        popular={"share": 0.5, "memory": 0.1, "regroup_every": 1},
        trust_region={"max_kl": 1e-3},
        cost_limit=0.3,
    )
    learner.start_exposure(torch.tensor([0.0, 0, 9, 9, 1, 1]))
    before = learner.policy.vectors()[2:, -1].tolist()
    learner.update(shown([[4, 5], [5, 4], [4, 5]], [[1.0, 0.0]] * 3, [[0.0, 0.0]] * 3))
    assert before == [10, 10, 0, 0]
    assert learner.policy.vectors()[2:, -1].tolist() == [0, 0, 10, 10]
    again = untouched(costs="exposure", popular={"share": 0.5})
    again.load_state_dict(learner.state_dict())
    assert torch.equal(again.policy.vectors(), learner.policy.vectors())


def shown(items: list[list[int]], rewards: list[list[float]], costs: list[list[float]]) -> Trajectories:
    log = batch(*[[{"items": slate, "rewards": pay}] for slate, pay in zip(items, rewards, strict=True)])
    return log.replace(cost=torch.tensor(costs).unsqueeze(1), terminated=torch.ones(len(items), 1, dtype=torch.bool))


def towards(**settings: Any) -> fcpo.Learner:
    """Items 2 and 3 against 4 and 5, along one direction of V."""
    learner = untouched(trust_region={"max_kl": 1e-3, "damping": 1e-3}, **settings)
    with torch.no_grad():
        learner.policy.item.weight[FIRST_ITEM:] = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]])
    return learner


def first_slot(learner: fcpo.Learner) -> Tensor:
    with torch.no_grad():
        return learner.policy.log_pi(torch.zeros(1, 1), torch.tensor([[2, 3, 4, 5]])).exp()[0]


LISTS = [[2, 3], [3, 2], [4, 5], [5, 4], [2, 4], [5, 3]]
PAYS = [[float(item == 2) for item in slate] for slate in LISTS]
COSTS = [[float(item <= 3) for item in slate] for slate in LISTS]


def test_a_step_stays_in_its_region_and_gains() -> None:
    learner = towards()
    before = first_slot(learner)
    figures = learner.update(shown(LISTS, PAYS, COSTS))
    assert 0 < figures["kl"] <= 1e-3
    assert figures["loss"] < 0
    assert figures["cost"] == pytest.approx(0.5)
    assert figures["reward"] == pytest.approx(0.5)
    assert figures["moved"] > 0
    assert float(first_slot(learner)[0]) > float(before[0])


def test_far_above_the_limit_a_recovery_step_goes_down_the_cost() -> None:
    learner = towards(cost_limit=0.05)
    before = first_slot(learner)
    figures = learner.update(shown(LISTS, PAYS, COSTS))
    assert figures["recovery"] == 1.0
    assert learner.constraint.recoveries == 1
    # items 2 and 3 are what costs, though 2 is what pays
    assert float(first_slot(learner)[:2].sum()) < float(before[:2].sum())
    assert "the cost limit 0.05 was not met: 0.500 after 1 updates" in (learner.violation() or "")
    assert "the least cost reached is 0.500" in (learner.violation() or "")
    learner.update(shown([[4, 5]] * 3, [[0.0, 0.0]] * 3, [[0.0, 0.0]] * 3))
    assert "the least cost reached is 0.000" in (learner.violation() or "")


def test_a_limit_that_is_kept_says_nothing() -> None:
    learner = towards(cost_limit=0.6)
    assert learner.violation() is None
    assert learner.update(shown(LISTS, PAYS, COSTS))["recovery"] == 0.0
    assert learner.violation() is None
    assert towards().violation() is None


def test_the_multiplier_rises_while_the_limit_is_not_kept() -> None:
    learner = towards(cost_limit=0.2, constraint="lagrangian", multiplier={"lr": 2.0})
    assert learner.update(shown(LISTS, PAYS, COSTS))["multiplier"] == pytest.approx(2.0 * 0.3)
    free = shown([[4, 5]] * 6, [[0.0, 0.0]] * 6, [[0.0, 0.0]] * 6)
    assert learner.update(free)["multiplier"] == pytest.approx(2.0 * 0.3 - 2.0 * 0.2)
    assert learner.update(free)["multiplier"] == 0.0


def test_a_list_is_worth_what_follows_it_too() -> None:
    """Both users' first lists earn nothing; after 2, 3 the session goes on to 1, after 4, 5 to nothing."""
    learner = towards(gamma=0.5)
    ends = {"items": [5, 2], "rewards": [0.0, 1.0], "end": True}
    log = batch(
        [{"items": [2, 3], "rewards": [0.0, 0.0]}, ends],
        [{"items": [4, 5], "rewards": [0.0, 0.0]}, ends | {"rewards": [0.0, 0.0]}],
    )
    before = first_slot(learner)
    figures = learner.update(log.replace(learn=torch.tensor([[True, False]] * 2)))
    # the critic starts at 0; of the six numbers that it should know, one is not: ½ · 1
    assert figures["reward_loss"] == pytest.approx(0.25 / 6)
    assert figures["loss"] < 0
    change = first_slot(learner) - before
    assert float(change[0]) > 0 > float(change[2])


def test_rows_that_were_drawn_teach_by_their_density() -> None:
    learner = towards()
    generator = Generator().manual_seed(1)
    state = torch.zeros(256, 1)
    with torch.no_grad():
        rows, slate = learner.policy.draw(state, SlateRequest(k=2), generator=generator)
    assert bool((slate[:, 0] != slate[:, 1]).all())
    pays = (slate == 2).float()
    log = shown(slate.tolist(), pays.tolist(), torch.zeros_like(pays).tolist())
    before = learner.policy.rows(torch.zeros(1, 1), 2).detach()
    figures = learner.update(log, rows.unsqueeze(1))
    assert 0 < figures["kl"] <= 1e-3
    moved = learner.policy.rows(torch.zeros(1, 1), 2).detach() - before
    # towards the vector of item 2, in the first row
    assert float(moved[0, 0, 0]) > abs(float(moved[0, 0, 1:].mean()))


def test_lists_are_served_row_by_row() -> None:
    learner = towards()
    policy = learner.policy
    with torch.no_grad():
        policy.head.mean.bias.copy_(torch.tensor([3.0, 2, 0, 3, 0, 1]))
    # row 1 likes 2, then 3; row 2 likes 2, then 4: 2 is gone
    assert policy.recommend(torch.zeros(1, 1), SlateRequest(k=2)).items.tolist() == [[2, 4]]
    # slots beyond the rows read the last row
    assert policy.recommend(torch.zeros(1, 1), SlateRequest(k=4)).items.tolist() == [[2, 4, 3, 5]]
    drawn = policy.recommend(
        torch.zeros(1, 1), SlateRequest(k=2, exploration=Exploration(top_m=4)), generator=Generator().manual_seed(0)
    )
    everything = policy.log_prob(torch.zeros(1, 1), drawn.items, SlateRequest(k=2, exploration=Exploration(top_m=4)))
    torch.testing.assert_close(everything, drawn.logp)


@pytest.mark.parametrize(
    ("settings", "encoder"),
    [
        ({"costs": "exposure", "cost_limit": 0.3, "popular": {"regroup_every": 2, "memory": 0.5}}, "gru"),
        ({"constraint": "lagrangian", "cost_limit": 0.2, "hidden": 8, "temperature": 0.5}, "gru"),
        ({"slate_size": 3, "trust_region": {"max_kl": 0.01}, "cost_limit": 0.1}, "cfn"),
        ({"cost_limit": 0.3}, "liked"),
    ],
    ids=["drifting", "lagrangian", "three rows", "liked"],
)
def test_its_settings_keep_the_contract(settings: dict[str, Any], encoder: str) -> None:
    # few steps of the conjugate gradient: what they come to is tested elsewhere
    short = {"critic": {"steps": 2}, "trust_region": {"cg_iterations": 2} | settings.get("trust_region", {})}
    check_method(fcpo, settings=settings | short, encoder=encoder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slate_size": 0}, "slate_size is 0; expected at least 1"),
        ({"temperature": 0.0}, r"temperature is 0\.0; expected a number above 0"),
        ({"trust_region": {"max_kl": 0.0}}, r"\[trust_region\]: max_kl is 0\.0; expected a number above 0"),
        ({"trust_region": {"line_search": 0}}, "line_search is 0; expected at least 1"),
        ({"critic": {"steps": 0}}, "steps is 0; expected at least 1"),
        ({"critic": {"lr": 0}}, r"lr is 0\.0; expected a number above 0"),
        ({"imitation": {"lr": 0}}, r"lr is 0\.0; expected a number above 0"),
        ({"imitation": {"states": 0}}, "states is 0; expected at least 1"),
        ({"gamma": 2.0}, r"gamma is 2\.0; expected a discount in \[0, 1\]"),
        ({"popular": {"share": 1.0}}, r"\[popular\]: share is 1\.0; expected a share in \(0, 1\)"),
        ({"popular": {"memory": 0.0}}, r"memory is 0\.0"),
        ({"popular": {"mark": 0.0}}, r"mark is 0\.0; expected a number above 0"),
        ({"popular": {"regroup_every": -1}}, "regroup_every is -1; expected 0 or more"),
        ({"hidden": -1}, "hidden is -1; expected 0"),
        ({"multiplier": {"gain": -1}}, r"gain is -1\.0; expected 0 or more"),
        ({"cost_limit": -0.1}, r"cost_limit is -0\.1; expected 0 or more, or none at all"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(fcpo.Config, settings, where="fcpo")


def test_catalogs_that_are_too_small() -> None:
    with pytest.raises(ValueError, match="slate_size is 5, the catalog has 4 items"):
        untouched(slate_size=5)
    with pytest.raises(ValueError, match="the catalog has one item"):
        untouched(num_items=1, slate_size=1)


def test_a_limit_that_no_list_can_meet() -> None:
    # 3 of 4 items are popular: a list of 2 shows at least one of them
    with pytest.raises(ValueError, match=r"cost_limit 0\.4 cannot be met: 3 of 4 .* of a list of 2 is 0\.5"):
        untouched(costs="exposure", popular={"share": 0.75}, cost_limit=0.4)
    assert untouched(costs="exposure", popular={"share": 0.75}, cost_limit=0.5).violation() is None


def test_vectors_that_cannot_tell_items_apart() -> None:
    learner = towards()
    good = learner.policy.item.weight.detach().clone()
    learner.policy.set_vectors(good)
    twins = good.clone()
    twins[5] = twins[3]
    with pytest.raises(ValueError, match="items 3 and 5 have the same vector"):
        learner.policy.set_vectors(twins)
    broken = good.clone()
    broken[4, 1] = math.nan
    with pytest.raises(ValueError, match="the vector of item 4 is not finite"):
        learner.policy.set_vectors(broken)
    with pytest.raises(ValueError, match=r"the shape \(6, 2\); expected \(6, 3\)"):
        learner.policy.set_vectors(good[:, :2])
    assert torch.equal(learner.policy.item.weight.detach(), good)


def test_features_as_vectors() -> None:
    log = written_log([[one(2), one(3), one(4)]])
    learner = untouched(vectors="features", width=2)
    learner.prepare(LogPart.whole(log))
    features = torch.from_numpy(toy_catalog(4).features)
    assert torch.equal(learner.policy.item.weight.detach(), features)
    learner.update(batch([one(2), one(3)]))
    assert torch.equal(learner.policy.item.weight.detach(), features)  # pretrained vectors stay
    catalog = replace(toy_catalog(4), features=np.ones((6, 2), np.float32))
    config = fcpo.Config(slate_size=2, width=2, vectors="features")
    same = fcpo.Learner(config, StatelessEncoder(), catalog, generator=Generator().manual_seed(0))
    with pytest.raises(ValueError, match="items 2 and 3 have the same vector"):
        same.prepare(LogPart.whole(log))


def test_factors_as_vectors_leave_what_nobody_rated_where_it_was() -> None:
    log = written_log([[one(2, 1.0), one(3, 5.0)], [one(2, 4.0), one(4, 2.0)], [one(3, 1.0), one(4, 5.0)]])
    learner = towards(vectors="factors", popular={"share": 0.25})
    drawn = learner.policy.item.weight.detach().clone()
    learner.prepare(LogPart.whole(log))
    assert torch.equal(learner.policy.item.weight.detach()[5], drawn[5])
    assert not torch.equal(learner.policy.item.weight.detach()[2:5], drawn[2:5])
    assert learner.exposure.popular.nonzero().flatten().tolist() == [2]


def test_users_without_ratings() -> None:
    log = written_log([[], []])
    with pytest.raises(InputError, match="the log has no rating of a known item"):
        untouched().prepare(LogPart.whole(log))
    with pytest.raises(ValueError, match=r"every reward of the training part is below reward_at_least = 4"):
        untouched(reward_at_least=4.0).check_log(LogPart.whole(written_log([[one(2, 1.0), one(3, 3.0)]])))
    with pytest.raises(ValueError, match="every reward of the training part is 0"):
        untouched().check_log(LogPart.whole(written_log([[one(2, 0.0)] * 3])))


def test_a_log_of_dislikes_has_nothing_to_imitate() -> None:
    dislikes = LogPart.whole(written_log([[one(2, -1.0), one(3, -5.0)]]))
    with pytest.raises(ValueError, match=r"is 0 or below \(the highest is -1; set method\.reward_at_least\)"):
        untouched().check_log(dislikes)
    untouched(reward_at_least=-2.0).check_log(dislikes)
    # lists are learned from whatever they earn
    untouched().check_log(LogPart.whole(written_log([[{"items": [2, 3], "rewards": [-1.0, 0.0]}]])))


def test_tied_scores_have_one_best_list() -> None:
    """What `recommend` shows with certainty is what `log_prob` says it shows."""
    policy = untouched().policy
    with torch.no_grad():
        for weight in policy.head.parameters():
            weight.zero_()
    state = torch.zeros(2, policy.encoder.width)
    for request in (
        SlateRequest(k=2),
        SlateRequest(k=2, exclude=torch.tensor([[2], [3]])),
        SlateRequest(k=2, candidates=torch.tensor([[5, 3, 4], [4, 2, 5]])),
    ):
        slates = policy.recommend(state, request)
        assert slates.logp.tolist() == [[0.0, 0.0], [0.0, 0.0]]
        assert policy.log_prob(state, slates.items, request).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_logs_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="the log shows lists of 3, slate_size is 2"):
        untouched().update(batch([{"items": [2, 3, 4]}]))
    with pytest.raises(InputError, match="a slate shows item number 9, the catalog ends at 5"):
        untouched().update(batch([{"items": [9, 2]}]))


def test_it_trains_from_a_log_of_ratings(tmp_path: Path) -> None:
    toy_dataset(tmp_path / "data")
    tables: dict[str, Any] = {
        "data": {"path": str(tmp_path / "data"), "split": "leave_one_out"},
        "encoder": {"name": "gru", "width": 8, "item_width": 8},
        "method": {"name": "fcpo", "slate_size": 3, "width": 8, "costs": "exposure", "cost_limit": 0.5},
        "train": {"epochs": 2, "select": "ndcg@3"},
        "evaluate": {"k": [3]},
    }
    result = train(RunConfig.from_tables(tables), tmp_path / "run")
    assert result.epochs == 2
    assert result.value is not None
    assert result.violation is None
    tables["method"]["cost_limit"] = 0.01
    told = train(RunConfig.from_tables(tables), tmp_path / "out-of-reach").violation
    assert told is not None
    assert "the cost limit 0.01 was not met" in told
    assert "the least cost reached is 0." in told
