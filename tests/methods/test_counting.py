"""Methods that count: random slates, popularity, item-based neighbours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from slatewise.data.batches import trajectories
from slatewise.encoders import window
from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import Interactions, Windows
from slatewise.methods import item_knn, popularity, random
from slatewise.testing import check_method, toy_catalog, written_log
from slatewise.types import Exploration, SlateRequest, Trajectories

STATE = torch.zeros(1, 1)


def whole(log: Interactions) -> Trajectories:
    """All events of all users, as one batch."""
    users = np.arange(log.num_users)
    zeros = np.zeros_like(users)
    return trajectories(log, Windows(user=users, start=zeros, learn=zeros, stop=np.diff(log.user_offsets)))


def uses(*items: int) -> list[dict[str, Any]]:
    return [{"items": [item]} for item in items]


# 2 and 3 go together twice, 4 with each of them once, 5 is alone
LOG = whole(written_log([uses(2, 3), uses(3, 2, 4, 2), uses(4), uses(5)]))


def test_random_slates_by_hand() -> None:
    policy = random.Policy(random.Config(), StatelessEncoder(), toy_catalog(4))
    assert policy.log_pi(STATE, torch.tensor([[2, 5]])).exp().tolist() == [[0.25, 0.25]]
    # 1 of 4, then 1 of 3; exploration has nothing to add
    for exploration in (None, Exploration(top_m=2, keep=2)):
        logp = policy.log_prob(STATE, torch.tensor([[5, 2]]), SlateRequest(k=2, exploration=exploration))
        torch.testing.assert_close(logp.exp(), torch.tensor([[1 / 4, 1 / 3]]))
    logp = policy.log_prob(STATE, torch.tensor([[5, 2]]), SlateRequest(k=2, exclude=torch.tensor([[3]])))
    torch.testing.assert_close(logp.exp(), torch.tensor([[1 / 3, 1 / 2]]))


def test_random_slates_show_every_item_alike() -> None:
    policy = random.Policy(random.Config(), StatelessEncoder(), toy_catalog(5))
    slates = policy.recommend(STATE.expand(8000, -1), SlateRequest(k=2), generator=Generator().manual_seed(0))
    share = torch.bincount(slates.items.flatten(), minlength=7)[2:] / 8000
    torch.testing.assert_close(share, torch.full((5,), 0.4), atol=0.022, rtol=0)  # 4 σ = 4 √(.4 · .6 / 8000)


def test_random_learns_nothing_and_knows_the_loss_of_guessing() -> None:
    learner = random.Learner(random.Config(), StatelessEncoder(), toy_catalog(4), generator=Generator())
    assert learner.update(LOG) == {"loss": math.log(4)}


def test_popularity_by_hand() -> None:
    learner = popularity.Learner(popularity.Config(), StatelessEncoder(), toy_catalog(4), generator=Generator())
    figures = learner.update(LOG)
    assert learner.policy.count.tolist() == [0, 0, 3, 2, 2, 1]
    # (counts + 1) / (8 + 4)
    log_pi = learner.policy.log_pi(STATE, torch.tensor([[2, 3, 4, 5]]))
    torch.testing.assert_close(log_pi.exp(), torch.tensor([[4 / 12, 3 / 12, 3 / 12, 2 / 12]]))
    expected = -(3 * math.log(4 / 12) + 4 * math.log(3 / 12) + math.log(2 / 12)) / 8
    assert figures["loss"] == pytest.approx(expected)
    assert learner.policy.recommend(STATE, SlateRequest(k=1)).items.tolist() == [[2]]


def test_popularity_counts_uses_not_impressions_nor_the_unknown() -> None:
    shown = written_log([[{"items": [2, 3], "used": [1]}, {"items": [4], "used": []}, {"items": [1]}]])
    learner = popularity.Learner(popularity.Config(), StatelessEncoder(), toy_catalog(4), generator=Generator())
    learner.update(whole(shown))
    assert learner.policy.count.tolist() == [0, 0, 0, 1, 0, 0]
    nothing = written_log([[{"items": [4], "used": []}]])
    assert learner.update(whole(nothing)) == {"loss": 0.0}


def test_every_use_of_a_slate_counts() -> None:
    shown = whole(written_log([[{"items": [2, 3, 4], "used": [0, 2]}, {"items": [5]}]]))
    popular = popularity.Learner(popularity.Config(), StatelessEncoder(), toy_catalog(4), generator=Generator())
    popular.update(shown)
    assert popular.policy.count.tolist() == [0, 0, 1, 0, 1, 1]
    together = neighbours()
    assert together.update(shown) == {"user_items": 10.0}
    # user 0 comes again
    state = together.state_dict()
    assert state["user"].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 3]
    assert state["item"].tolist() == [2, 3, 4, 5, 2, 3, 4, 4, 5]
    assert state["uses"].tolist() == [2, 1, 1, 1, 2, 1, 1, 1, 1]


def neighbours(**settings: Any) -> item_knn.Learner:
    config = item_knn.Config(**{"shrink": 0.0, "temperature": 1.0, **settings})
    encoder = window.Encoder(window.Config(length=3), toy_catalog(4))
    learner = item_knn.Learner(config, encoder, toy_catalog(4), generator=Generator())
    learner.update(LOG)
    return learner


def scores(learner: item_knn.Learner, *newest_first: int) -> list[float]:
    state = torch.zeros(1, 6)
    state[0, : len(newest_first)] = torch.tensor(newest_first, dtype=torch.float32)
    found: Tensor = learner.policy.scores(state, None)
    return [round(value, 5) for value in found[0, 2:].tolist()]


def test_similarities_by_hand() -> None:
    learner = neighbours()
    # c_2 = c_3 = c_4 = 2 users, c_23 = 2, c_24 = c_34 = 1: 2/√4, 1/√4; using 2 twice is one user
    assert scores(learner, 2) == [0.0, 1.0, 0.5, 0.0]
    assert scores(learner, 4) == [0.5, 0.5, 0.0, 0.0]
    assert scores(learner, 3, 4) == [1.5, 0.5, 0.5, 0.0]


def test_who_has_no_neighbours_gets_what_is_popular() -> None:
    learner = neighbours(temperature=0.1)
    # uses: 3, 2, 2 and 1; 5 was never used beside another item
    popular = [round(math.log(count + 1), 5) for count in (3, 2, 2, 1)]
    assert scores(learner) == scores(learner, 5) == popular
    logp = learner.policy.log_pi(torch.zeros(1, 6), torch.tensor([[2, 3, 4, 5]]))
    torch.testing.assert_close(logp.exp(), torch.tensor([[4 / 12, 3 / 12, 3 / 12, 2 / 12]]))


def test_what_neighbours_say_nothing_of_is_ordered_by_popularity() -> None:
    # 6 is used more often than 5, and neither beside 2
    log = whole(written_log([uses(2, 3), uses(5), uses(6), uses(6)]))
    encoder = window.Encoder(window.Config(length=3), toy_catalog(5))
    learner = item_knn.Learner(item_knn.Config(), encoder, toy_catalog(5), generator=Generator())
    learner.update(log)
    state = torch.zeros(1, 6)
    state[0, 0] = 2
    request = SlateRequest(k=3, exclude=torch.tensor([[2]]))
    assert learner.policy.recommend(state, request).items.tolist() == [[3, 6, 5]]


def test_blocks_of_items_give_the_same_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    whole_policy = neighbours().policy
    monkeypatch.setattr(item_knn, "MOST_PRODUCTS", 1)
    for name, value in neighbours().policy.state_dict().items():
        assert torch.equal(value, whole_policy.state_dict()[name]), name


def test_blocks_hold_few_products() -> None:
    assert [(block.start, block.stop) for block in item_knn._blocks(np.array([0.0, 1e6, 1e6, 3e6, 1.0, 1.0]))] == [
        (0, 3),
        (3, 4),
        (4, 6),
    ]


def test_a_user_of_many_events_counts_once() -> None:
    learner = neighbours()
    learner.update(whole(written_log([[], [], [], [], uses(*[2, 3, 5] * 1000)])))
    # c_2 = c_3 = 3, c_5 = 2, c_23 = 3, c_25 = 1
    assert scores(learner, 2) == [0.0, 1.0, round(1 / math.sqrt(6), 5), round(1 / math.sqrt(6), 5)]


def test_shrinking_decay_and_temperature_by_hand() -> None:
    assert scores(neighbours(shrink=2.0), 2) == [0.0, 0.5, 0.25, 0.0]
    assert scores(neighbours(decay=0.5), 3, 4) == [1.25, 0.25, 0.5, 0.0]
    assert scores(neighbours(temperature=0.1), 2) == [0.0, 10.0, 5.0, 0.0]


def test_only_the_nearest_neighbours_are_kept() -> None:
    assert scores(neighbours(neighbours=1), 2) == [0.0, 1.0, 0.0, 0.0]


def test_pairs_of_two_batches_are_pairs_of_one() -> None:
    once, twice = neighbours(), neighbours()
    halves = item_knn.Learner(once.policy.config, once.policy.encoder, toy_catalog(4), generator=Generator())
    halves.update(LOG.rows(slice(0, 2)))
    assert halves.policy is halves.policy  # neighbours are found only when pairs have come
    halves.update(LOG.rows(slice(2, 4)))
    for name, value in once.policy.state_dict().items():
        assert torch.equal(halves.policy.state_dict()[name], value), name
    twice.update(LOG)
    assert scores(twice, 2) == scores(once, 2)  # all counts doubled


def test_some_items_are_scored_as_among_all() -> None:
    policy = neighbours().policy
    state = torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.0, 0.0]])
    items = torch.tensor([[4, 2, 0]])
    assert torch.equal(policy.scores(state, items), policy.scores(state, None).gather(1, items))


@pytest.mark.parametrize("settings", [{"neighbours": 3}, {"decay": 0.9, "shrink": 0.0}], ids=["few", "decay"])
def test_its_settings_keep_the_contract(settings: dict[str, Any]) -> None:
    check_method(item_knn, settings=settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": 0}, "neighbours is 0; expected at least 1"),
        ({"decay": 0.0}, r"decay is 0\.0; expected a number in \(0, 1\]"),
        ({"decay": 1.5}, r"decay is 1\.5"),
        ({"temperature": 0.0}, r"temperature 0\.0 must be above 0"),
        ({"shrink": -1.0}, r"shrink -1\.0 not below 0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        item_knn.Config(**settings)


def test_item_knn_refuses_states_that_are_no_windows() -> None:
    with pytest.raises(ValueError, match='it needs the encoder "window"'):
        item_knn.Learner(item_knn.Config(), StatelessEncoder(), toy_catalog(4), generator=Generator())
