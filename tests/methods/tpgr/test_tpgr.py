from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from slatewise.config import DataConfig, convert
from slatewise.config.run import RunConfig
from slatewise.data.batches import trajectories
from slatewise.data.splits import split_log
from slatewise.encoders import gru
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.errors import InputError
from slatewise.log import LogPart, Windows
from slatewise.methods import tpgr
from slatewise.nn.item_table import item_tables
from slatewise.testing import check_method, toy_catalog, toy_dataset, written_log
from slatewise.training.finished_run import open_run
from slatewise.training.loop import train
from slatewise.types import Exploration, SlateRequest, Trajectories

LOG4 = float(np.log(4))


def batch(*users: list[dict[str, Any]]) -> Trajectories:
    log = written_log(users)
    number = np.arange(log.num_users)
    zeros = np.zeros_like(number)
    return trajectories(log, Windows(user=number, start=zeros, learn=zeros, stop=np.diff(log.user_offsets)))


def seen(item: int, reward: float, **more: Any) -> dict[str, Any]:
    return {"items": [item], "rewards": [reward], **more}


def untouched(**settings: Any) -> tpgr.Learner:
    """Four items, two levels, every choice still even: with a state of 0 only biases count, and they are 0."""
    config = tpgr.Config(**{"hidden": 0, "entropy": 0.0, "gamma": 0.5, **settings})
    return tpgr.Learner(config, StatelessEncoder(), toy_catalog(4), generator=Generator().manual_seed(0))


@pytest.mark.parametrize(
    "settings",
    [
        {"tree": {"depth": 4, "arity": 3}, "hidden": 0, "baseline": "step", "weight_cap": 2.0},
        {"tree": {"depth": 3, "arity": 4}, "by_row": True},
        {"tree": {"depth": 1}, "beam": 1, "no_repeats": False},
        {"baseline": "value", "unit_advantage": True, "value_hidden": 4},
    ],
)
def test_the_contract_with_other_settings(settings: dict[str, Any]) -> None:
    check_method("tpgr", settings=settings)


def test_the_surrogate_by_hand() -> None:
    """Returns 3 + ½ · 8 and 8. Item 2 is closed at the second step: its sister is certain, so 4 has ½ · ½, 3 has ½."""
    figures = untouched().update(batch([seen(2, 3.0), seen(4, 8.0)]))
    assert figures["loss"] == pytest.approx((7 * LOG4 + 8 * LOG4) / 2)
    assert figures["entropy"] == pytest.approx(LOG4)
    figures = untouched().update(batch([seen(2, 3.0), seen(3, 8.0)]))
    assert figures["loss"] == pytest.approx((7 * LOG4 + 8 * LOG4 / 2) / 2)
    figures = untouched(no_repeats=False).update(batch([seen(2, 3.0), seen(3, 8.0)]))
    assert figures["loss"] == pytest.approx((7 * LOG4 + 8 * LOG4) / 2)


def test_another_session_shows_everything_again() -> None:
    steps = [seen(2, 3.0, end=True), seen(3, 8.0)]
    assert untouched().update(batch(steps))["loss"] == pytest.approx((3 + 8) / 2 * LOG4)


def test_items_of_the_same_slate_close_nothing_to_one_another() -> None:
    """Items 2 and 3 are sisters; each was one draw from the whole tree, and earned what it earned itself."""
    log = batch([{"items": [2, 3], "rewards": [3.0, 8.0]}])
    assert untouched().update(log)["loss"] == pytest.approx((3 + 8) / 2 * LOG4)


def test_an_item_that_comes_twice_in_a_session_is_still_learned() -> None:
    steps = [seen(2, 1.0), seen(2, 1.0)]
    assert untouched().update(batch(steps))["loss"] == pytest.approx((1.5 + 1) / 2 * LOG4)


def test_the_baseline_is_the_mean_at_the_same_step() -> None:
    """Returns of the first step 5 and 3, of the second 4 and 0: gains 1, −1, 2, −2."""
    users = [[seen(2, 3.0), seen(4, 4.0)], [seen(3, 3.0), seen(5, 0.0)]]
    assert untouched(baseline="step").update(batch(*users))["loss"] == pytest.approx(0.0)
    assert untouched(baseline="step").update(batch(users[0]))["loss"] == pytest.approx(0.0)
    # three walks down to ¼, and item 3 after 2 with ½: 1, −1, 2 · log 4 and −2 · log 2
    users[1] = [seen(2, 3.0), seen(3, 0.0)]
    figures = untouched(baseline="step").update(batch(*users))
    assert figures["loss"] == pytest.approx((2 * LOG4 - 2 * LOG4 / 2) / 4)


def test_gains_of_unit_size() -> None:
    """Gains 1, −1, 2, −2 have the deviation √2.5; the loss of the same users is divided by it."""
    users = [[seen(2, 3.0), seen(4, 4.0)], [seen(2, 3.0), seen(3, 0.0)]]
    figures = untouched(baseline="step", unit_advantage=True).update(batch(*users))
    assert figures["loss"] == pytest.approx((2 * LOG4 - 2 * LOG4 / 2) / 4 / 2.5**0.5)
    # one gain alone has none, and the loss stays finite
    assert np.isfinite(untouched(unit_advantage=True).update(batch([seen(2, 3.0)]))["loss"])


def test_what_the_state_lets_expect_is_subtracted() -> None:
    """Every state is 0, so V is one number, which goes to the mean return; the gains are what lies above it."""
    users = [[seen(2, 4.0)], [seen(3, 2.0)]]
    learner = untouched(baseline="value", value_lr=0.05, lr=1e-9)
    losses = [learner.update(batch(*users))["loss"] for _ in range(300)]
    assert losses[0] == pytest.approx(3 * LOG4)
    assert losses[-1] == pytest.approx(0.0, abs=0.02)


def test_the_entropy_counts() -> None:
    figures = untouched(entropy=0.1).update(batch([seen(2, 3.0)]))
    assert figures["loss"] == pytest.approx(3 * LOG4 - 0.1 * LOG4)


@pytest.mark.parametrize(("cap", "weight"), [(10.0, 2.0), (1.5, 1.5), (None, 1.0)])
def test_steps_of_known_propensity_are_weighted(cap: float | None, weight: float) -> None:
    """π/β = ¼ over ⅛; the second user's propensity is not known."""
    users = [[seen(2, 3.0, logp=[float(np.log(1 / 8))])], [seen(2, 3.0)]]
    log = batch(*users)
    known = log.replace(logp_known=torch.tensor([[True], [False]]))
    figures = untouched(weight_cap=cap).update(known)
    assert figures["loss"] == pytest.approx((weight + 1) / 2 * 3 * LOG4)


def test_rewards_from_a_threshold_on() -> None:
    figures = untouched(reward_at_least=4.0).update(batch([seen(2, 5.0)], [seen(2, 3.0)]))
    assert figures["loss"] == pytest.approx(LOG4 / 2)


def test_an_item_outside_the_tree_teaches_nothing() -> None:
    learner = untouched()
    tree = learner.policy.plant_vectors(torch.randn(6, 2, generator=Generator().manual_seed(0)), generator=Generator())
    tree.remove(torch.tensor([3]))
    learner.policy.plant(tree)
    assert learner.update(batch([seen(3, 5.0)])) == {"loss": 0.0, "entropy": 0.0, "weight": 0.0}
    assert learner.update(batch([seen(3, 5.0), seen(2, 1.0)]))["loss"] > 0


def test_walking_slates_sum_to_one_over_ordered_triples() -> None:
    learner = untouched()
    learner.policy.requires_grad_(False)
    state = torch.zeros(1, 1)
    triples = torch.cartesian_prod(*[torch.arange(2, 6)] * 3)
    for keep in (0, 1, 2):
        exploration = Exploration(top_m=4, keep=keep, temperature=0.7)
        logp = learner.policy.log_prob(
            state.expand(len(triples), -1), triples, SlateRequest(k=3, exploration=exploration)
        ).sum(dim=1)
        assert float(logp.exp().sum()) == pytest.approx(1.0)


def test_walked_slates_come_as_often_as_they_say() -> None:
    catalog = toy_catalog(7)
    policy = tpgr.Policy(tpgr.Config(hidden=0), StatelessEncoder(), catalog, generator=Generator().manual_seed(3))
    with torch.no_grad():
        for table in item_tables(policy.tree).values():
            table.weight.normal_(generator=Generator().manual_seed(4))
    policy.requires_grad_(False)
    request, count = SlateRequest(k=2, exploration=Exploration(top_m=7)), 20_000
    slates = policy.recommend(torch.zeros(count, 1), request, generator=Generator().manual_seed(0))
    pairs = torch.cartesian_prod(*[torch.arange(2, 9)] * 2)
    share = policy.log_prob(torch.zeros(len(pairs), 1), pairs, request).sum(dim=1).exp()
    found = torch.bincount((slates.items[:, 0] - 2) * 7 + slates.items[:, 1] - 2, minlength=49) / count
    deviation = (found - share) / (share * (1 - share) / count).sqrt().clamp_min(1e-12)
    assert float(deviation.abs().max()) < 4.5


def test_items_of_equal_vectors_are_counted() -> None:
    catalog = toy_catalog(6)
    same = catalog.features.copy()
    same[4:7] = same[3]
    learner = tpgr.Learner(
        tpgr.Config(tree=tpgr.TreeConfig(depth=1, vectors="features")),
        StatelessEncoder(),
        replace(catalog, features=same),
        generator=Generator().manual_seed(0),
    )
    assert learner.notes() == ()
    learner.prepare(LogPart.whole(written_log([[{"items": [2]}]])))
    assert learner.notes() == (
        "3 of 6 items have the vector of another item: the tree parts them by their number alone",
    )


@pytest.mark.parametrize("vectors", ["ratings", "vae", "factors", "features"])
def test_trees_from_a_log(tmp_path: Path, vectors: str) -> None:
    """Of 20 items, users rate the even ones or the odd ones highly: a tree of arity 2 should part them."""
    data = toy_dataset(tmp_path / "data")
    catalog = data.catalog
    settings = {"arity": 2, "depth": 5, "vectors": vectors, "cut": "kmeans", "vector_width": 2}
    config = convert(tpgr.Config, {"tree": settings}, where="tpgr")
    learner = tpgr.Learner(
        config, gru.Encoder(gru.Config(context_width=0), catalog), catalog, generator=Generator().manual_seed(0)
    )
    learner.prepare(split_log(DataConfig(path=""), data.interactions).train)
    tree = learner.policy.tree
    left = tree.leaf_item[:16]
    parity = float((left[left > 0] % 2).float().mean())
    assert len(left[left > 0]) == 10
    if vectors != "features":
        assert min(parity, 1 - parity) <= 0.2


def test_no_features_to_build_from(tmp_path: Path) -> None:
    data = toy_dataset(tmp_path / "data")
    catalog = toys_without_features()
    learner = tpgr.Learner(
        tpgr.Config(tree=tpgr.TreeConfig(vectors="features")), StatelessEncoder(), catalog, generator=Generator()
    )
    with pytest.raises(ValueError, match="the catalog has none; choose ratings, vae or factors"):
        learner.prepare(split_log(DataConfig(path=""), data.interactions).train)


def toys_without_features() -> Any:
    from slatewise.sim.toys import catalog

    return catalog(20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tree": {"depth": 0}}, "depth is 0"),
        ({"tree": {"arity": 1}}, "arity is 1; a node with one child decides nothing"),
        ({"hidden": -1}, "hidden is -1"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"entropy": -0.1}, "entropy is -0.1"),
        ({"weight_cap": 0.0}, "weight_cap is 0.0"),
        ({"value_hidden": 0}, "value_hidden is 0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(tpgr.Config, settings, where="tpgr")


def test_shapes_that_do_not_fit_the_catalog() -> None:
    with pytest.raises(ValueError, match="arity 4 and depth 2 have 16 leaves for 20 items"):
        tpgr.Policy(tpgr.Config(tree=tpgr.TreeConfig(arity=4)), StatelessEncoder(), toy_catalog())
    with pytest.raises(ValueError, match="choose depth 3 or less"):
        tpgr.Policy(tpgr.Config(tree=tpgr.TreeConfig(depth=4)), StatelessEncoder(), toy_catalog())
    with pytest.raises(ValueError, match="a tree over 1 items has the arity 1"):
        tpgr.Policy(tpgr.Config(), StatelessEncoder(), toy_catalog(1))


def test_a_run_from_a_log_keeps_its_tree(tmp_path: Path) -> None:
    toy_dataset(tmp_path / "data")
    tables: dict[str, Any] = {
        "data": {"path": str(tmp_path / "data")},
        "encoder": {"name": "gru", "width": 8, "item_width": 8},
        "method": {"name": "tpgr", "reward_at_least": 4.0, "tree": {"vector_width": 2}},
        "train": {"epochs": 2, "batch_size": 8, "select": "ndcg@3"},
        "evaluate": {"k": [3]},
    }
    train(RunConfig.from_tables(tables), tmp_path / "run")
    opened = open_run(tmp_path / "run")
    policy = opened.artifact.policy
    assert isinstance(policy, tpgr.Policy)
    learner = tpgr.Learner(policy.config, policy.encoder, opened.dataset.catalog, generator=Generator().manual_seed(0))
    in_order = learner.policy.tree.leaf_item
    assert not torch.equal(policy.tree.leaf_item, in_order)
    assert torch.equal(torch.sort(policy.tree.leaf_item).values, torch.sort(in_order).values)
