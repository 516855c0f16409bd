from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Generator, Tensor

from slatewise.config import convert
from slatewise.encoders import gru, observed
from slatewise.errors import InputError
from slatewise.log import Catalog, Vocabulary
from slatewise.methods import wolpertinger
from slatewise.testing import check_method, toy_catalog, toy_log
from slatewise.types import Exploration, SlateRequest, Trajectories, used_at_once

WIDTH = 3


def catalog(features: list[list[float]]) -> Catalog:
    """Items "a", "b", … = 2, 3, … with these features."""
    rows = np.concatenate([np.zeros((2, len(features[0]))), np.array(features)]).astype(np.float32)
    return Catalog(
        vocabulary=Vocabulary(names=pa.array([chr(97 + i) for i in range(len(features))])),
        text=("",) * len(rows),
        group=np.zeros(len(rows), np.int64),
        group_names=("",),
        features=rows,
    )


CORNERS = catalog([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def learner(items: Catalog = CORNERS, *, seed: int = 0, **settings: Any) -> wolpertinger.Learner:
    config = convert(wolpertinger.Config, {"embedding": "catalog", **settings}, where="wolpertinger")
    encoder = observed.Encoder(observed.Config(history=False, context_width=WIDTH), items)
    return wolpertinger.Learner(config, encoder, items, generator=Generator().manual_seed(seed))


def by_hand(
    *, proto: list[float], values: list[float], items: Catalog = CORNERS, **settings: Any
) -> wolpertinger.Learner:
    """The proto-action and the items' values are given, the same in every state."""
    critic = {"state_hidden": []} | settings.pop("critic", {})
    built = learner(items, actor={"hidden": []}, critic=critic, **settings)
    for networks in (built.policy.networks, built.target):
        with torch.no_grad():
            for weight in (*networks.actor.parameters(), *networks.critic().parameters()):
                weight.zero_()
            *_, bias = networks.actor.parameters()
            bias.copy_(torch.tensor(proto))
            table = networks.critic().bias
            assert table is not None
            table.weight[2:, 0] = torch.tensor(values)
    built.policy.train().eval()
    return built


def one_step(
    *, item: int, reward: float, terminated: bool = False, truncated: bool = False, picked: bool = True
) -> Trajectories:
    number = torch.zeros(1, 1, dtype=torch.int64)
    here = torch.ones(1, 1, dtype=torch.bool)
    return Trajectories(
        event_id=number,
        policy_id=number.clone(),
        user=number.clone(),
        time=number.clone(),
        terminated=here & terminated,
        truncated=here & truncated,
        slate=torch.tensor([[[item]]]),
        logp=torch.zeros(1, 1, 1),
        logp_known=here.clone(),
        reward=torch.tensor([[[reward]]]),
        cost=torch.zeros(1, 1, 1),
        **used_at_once((here & picked).unsqueeze(2), time=number, reward=torch.tensor([[[reward]]])),
        mask=here.clone(),
        learn=here.clone(),
        context=torch.zeros(1, 2, WIDTH),
    )


STATE = torch.zeros(1, WIDTH)
BY_OUTCOME: dict[str, Any] = {"link": "logistic", "item_span": True, "loss": "by_outcome"}
APPROXIMATE: dict[str, Any] = {"index": "approximate"}
TURNS: dict[str, Any] = {"twin": False, "smoothing": 0, "actor_every": 2}
TWIN = {"smoothing": 0, "actor_every": 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding": "catalog", "neighbours": 5, "td3": {}},
        {
            "neighbours": 7,
            "neighbour_penalty": 1.0,
            "critic": {"l2": 1e-3, "link": "logistic"},
            "search": {"refit_every": 2},
        },
        {"neighbour_share": 1.0, "critic": {"item_hidden": [8], "item_bias": False}},
        {"embedding": "catalog", "neighbours": 1},
        {"serve": "target", "target_rate": 0.3},
        {"critic": BY_OUTCOME | {"item_lr": 0.1}, "session_ends": "expected"},
        {"critic": BY_OUTCOME, "neighbour_share": 1.0, "td3": TWIN},
    ],
)
def test_contract_of_every_variant(settings: dict[str, Any]) -> None:
    check_method("wolpertinger", settings=settings)


def test_the_best_of_the_nearest_is_served() -> None:
    # the proto-action lies between a (1, 0) and b (0, 1), nearer to a; c is worth most and is far away
    values = [1.0, 2.0, 9.0, 0.0]
    for neighbours, served in ((1, 2), (2, 3), (3, 3), (4, 4)):
        built = by_hand(proto=[2.0, 1.0], values=values, neighbours=neighbours)
        assert built.policy.recommend(STATE, SlateRequest(k=1)).items.tolist() == [[served]], neighbours
        assert built.policy.searches == (neighbours < 4)


def test_what_is_excluded_leaves_its_place_to_the_next_nearest() -> None:
    built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 5.0], neighbours=2)
    # nearest first: a, b, d, c
    assert built.policy.recommend(STATE, SlateRequest(k=1, exclude=torch.tensor([[3]]))).items.tolist() == [[5]]
    assert built.policy.recommend(STATE, SlateRequest(k=1, candidates=torch.tensor([[2, 4, 3, 0]]))).items.tolist() == [
        [3]
    ]
    assert built.policy.recommend(STATE, SlateRequest(k=1, candidates=torch.tensor([[4, 2, 5]]))).items.tolist() == [
        [5]
    ]
    # a slate longer than k looks for more neighbours
    assert built.policy.recommend(STATE, SlateRequest(k=3)).items.tolist() == [[5, 3, 2]]


def test_propensities_by_hand() -> None:
    built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=2)
    every = Exploration(top_m=4)
    slate = torch.tensor([[2, 3], [3, 2], [2, 4]])
    with torch.no_grad():
        found = built.policy.log_prob(STATE.expand(3, -1), slate, SlateRequest(k=slate.shape[1], exploration=every))
    e = torch.e
    # softmax of 1 and 2, then nothing else is left; c is never shown
    torch.testing.assert_close(found[0].exp(), torch.tensor([1 / (1 + e), 1.0]))
    torch.testing.assert_close(found[1].exp(), torch.tensor([e / (1 + e), 1.0]))
    assert float(found[2, 1]) == -torch.inf
    pi = built.policy.log_pi(STATE, torch.tensor([[1, 2, 3, 4, 5]])).exp()
    torch.testing.assert_close(pi, torch.tensor([[0.0, 1 / (1 + e), e / (1 + e), 0.0, 0.0]]))


def test_the_whole_policy_is_inside_the_target() -> None:
    # γ = ½; the next value is that of the best of the two nearest, not of the best of all
    for neighbours, following in ((1, 1.0), (2, 2.0), (4, 9.0)):
        built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=neighbours, gamma=0.5)
        loss = built.update(one_step(item=5, reward=3.0))["loss"]
        assert loss == pytest.approx((3 + 0.5 * following - 0.0) ** 2, rel=1e-5)
    built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=2, gamma=0.5)
    assert built.update(one_step(item=5, reward=3.0, terminated=True))["loss"] == pytest.approx(9.0)
    before = {name: value.clone() for name, value in built.policy.state_dict().items()}
    assert built.update(one_step(item=5, reward=3.0, truncated=True))["loss"] == 0.0
    assert all(torch.equal(value, before[name]) for name, value in built.policy.state_dict().items())


def test_by_outcome_every_part_learns_from_its_own_steps() -> None:
    settings: dict[str, Any] = {"critic": BY_OUTCOME, "gamma": 0.5}
    # with all weights 0: c = 0, h = softplus(0) = log 2, every item is chosen with chance ½, so max Q' = log 2 / 2
    y = 3 + 0.5 * math.log(2) / 2
    built = by_hand(proto=[2.0, 1.0], values=[0.0] * 4, neighbours=4, **settings)
    assert built.update(one_step(item=5, reward=3.0))["loss"] == pytest.approx(math.log(2) + (math.log(2) - y) ** 2)
    built = by_hand(proto=[2.0, 1.0], values=[0.0] * 4, neighbours=4, **settings)
    nothing = one_step(item=5, reward=3.0, picked=False)
    assert built.update(nothing)["loss"] == pytest.approx(math.log(2) + y**2)
    spans = built.networks.critic().item_span
    assert spans is not None
    assert not bool(spans.weight.any())


def test_the_chance_of_an_end_stands_in_for_its_draw() -> None:
    built = by_hand(
        proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=4, gamma=0.5, session_ends="expected", lr=1e-9
    )
    # one step of each kind is counted before any was seen; this one went on: the chance of an end is 1 of 3
    first = built.update(one_step(item=5, reward=3.0))["loss"]
    assert first == pytest.approx((3 + 0.5 * 9 * 2 / 3) ** 2 * 1.5, rel=1e-4)
    # what came after the end, nobody saw
    assert built.update(one_step(item=5, reward=3.0, terminated=True))["loss"] == 0.0
    assert built.ends.counts.tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_tables_learn_by_row_and_only_the_rows_that_were_read() -> None:
    built = learner(neighbours=2, critic={"item_lr": 0.1}, lr=1e-9)
    built.update(one_step(item=3, reward=2.0))
    bias = built.networks.critic().bias
    assert bias is not None
    # Adagrad's first step is as long as its rate, whatever the gradient
    torch.testing.assert_close(bias.weight[:, 0], torch.tensor([0.0, 0.0, 0.0, 0.1, 0.0, 0.0]))


def test_one_item_is_chosen_as_from_a_sorted_search() -> None:
    draw = Generator().manual_seed(3)
    items = catalog(torch.randn(20, 4, generator=draw).tolist())
    state = torch.randn(50, WIDTH, generator=draw)
    for neighbours in (1, 5, 20):
        built = learner(items, critic={"link": "logistic", "item_span": True}, neighbours=neighbours)
        with torch.no_grad():
            for weight in built.policy.networks.parameters():
                weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.3)
        built.policy.train().eval()
        near, _ = built.policy.nearest(built.policy.networks.proto(state), built.policy.count)
        values = built.policy.networks.values(state, near)
        expected = near.gather(1, values.argmax(dim=1, keepdim=True))
        with torch.no_grad():
            assert torch.equal(built.policy.recommend(state, SlateRequest(k=1)).items, expected)
            every = built.policy.recommend(state, SlateRequest(k=built.policy.count)).items[:, :1]
        assert torch.equal(every, expected)


def test_of_twins_the_smaller_value_is_believed() -> None:
    built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=4, gamma=1.0, td3=TWIN)
    with torch.no_grad():
        for networks in (built.policy.networks, built.target):
            for weight in networks.critic(1).parameters():
                weight.zero_()
            networks.critic(1).level.fill_(4.0)
    # the first chooses c (9), the second says 4: y = 4, errors 4 − 0 and 4 − 4
    assert built.update(one_step(item=5, reward=0.0))["loss"] == pytest.approx(16.0, rel=1e-5)


def test_the_penalty_by_hand() -> None:
    built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=1, neighbour_penalty=1.0)
    # at the proto-action, which has no bias of its own, the critic says 0; at the nearest item (a) it says 1
    assert built.update(one_step(item=5, reward=0.0))["neighbour_gap"] == pytest.approx(1.0)


def test_the_actor_moves_up_the_critic() -> None:
    # the critic stands where it is
    built = learner(neighbours=1, seed=1, lr=1e-12, actor={"lr": 0.05})
    figures = [built.update(one_step(item=2, reward=0.0, terminated=True))["actor_loss"] for _ in range(60)]
    assert figures[-1] < figures[0]
    # on the sphere the best point of a linear critic is the direction of its gradient
    query, _ = built.policy.networks.critic().queries(STATE)
    weight = built.policy.networks.critic().item[0].weight
    assert isinstance(weight, Tensor)
    best = torch.nn.functional.normalize(query @ weight, dim=1)
    assert float((built.policy.networks.proto(STATE) * best).sum().detach()) > 0.99


@pytest.mark.parametrize(
    "settings", [{}, {"neighbour_penalty": 1.0}, {"td3": TURNS | {"twin": True}, "critic": {"item_lr": 0.1}}]
)
def test_the_actor_loss_moves_the_actor_alone(settings: dict[str, Any]) -> None:
    """An update with the actor's turn and one without it come to the same critics, vectors and encoder, bit for bit."""
    after = []
    for updates in (0, 1):
        items, generator = toy_catalog(), Generator().manual_seed(0)
        encoder = gru.Encoder(gru.Config(width=6, item_width=5, context_width=2), items, generator=generator)
        # the norm of the gradient is that of both losses together, so it must not be cut
        table = {"td3": TURNS, "lr": 0.1, "clip_norm": 1e9} | settings
        config = convert(wolpertinger.Config, table, where="wolpertinger")
        built = wolpertinger.Learner(config, encoder, items, generator=generator)
        built.updates = updates
        start = {name: weight.clone() for name, weight in built.policy.named_parameters()}
        built.update(toy_log(items))
        weights = dict(built.policy.named_parameters())
        assert not all(torch.equal(weight, start[name]) for name, weight in weights.items())
        after.append({name: weight.detach().clone() for name, weight in weights.items()})
    with_actor, without_actor = after
    differing = {name for name, weight in with_actor.items() if not torch.equal(weight, without_actor[name])}
    assert differing == {name for name in with_actor if name.startswith("networks.actor.")}


def test_the_target_is_of_the_target_networks_alone() -> None:
    built = by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, 9.0, 0.0], neighbours=1, gamma=0.5)
    with torch.no_grad():
        *_, bias = built.target.actor.parameters()
        bias.copy_(torch.tensor([1.0, 2.0]))
        table = built.target.critic().bias
        assert table is not None
        table.weight[2:, 0] = torch.tensor([3.0, 4.0, 5.0, 6.0])
    # the learning actor is nearest to a, the target's to b; of b the learning critic says 2, the target's 4
    assert built.update(one_step(item=5, reward=3.0))["loss"] == pytest.approx((3 + 0.5 * 4) ** 2, rel=1e-5)


def test_the_logistic_link_keeps_the_order_of_the_product() -> None:
    one, other = (
        by_hand(proto=[2.0, 1.0], values=[1.0, 2.0, -9.0, 0.0], critic={"link": link})
        for link in ("identity", "logistic")
    )
    ranked = [built.policy.recommend(STATE, SlateRequest(k=4)).items.tolist() for built in (one, other)]
    assert ranked[0] == ranked[1] == [[3, 2, 5, 4]]
    values = other.policy.networks.values(STATE, torch.tensor([[5, 3]]))
    scale = torch.nn.functional.softplus(torch.zeros(()))
    torch.testing.assert_close(values, scale * torch.sigmoid(torch.tensor([[0.0, 2.0]])))


def test_values_of_few_items_are_those_of_all() -> None:
    items = toy_catalog(200)
    built = learner(items, td3=TWIN)
    state = torch.randn(4, WIDTH, generator=Generator().manual_seed(0))
    some = torch.randint(2, 202, (4, 2), generator=Generator().manual_seed(1))
    for number in (0, 1):
        every = built.policy.networks.values(state, torch.arange(202).expand(4, -1), number=number)
        torch.testing.assert_close(built.policy.networks.values(state, some, number=number), every.gather(1, some))
    torch.testing.assert_close(built.policy.scores(state, None), every_of(built, state))


def every_of(built: wolpertinger.Learner, state: Tensor) -> Tensor:
    return built.policy.networks.values(state, torch.arange(202).expand(len(state), -1))


def test_what_serves_is_what_learns_or_what_follows() -> None:
    step = one_step(item=2, reward=1.0)
    for serve in ("current", "target"):
        built = learner(serve=serve, target_rate=0.25, lr=0.1)
        before = built.networks.critic().level.clone()
        built.update(step)
        moved = float((built.networks.critic().level - before).detach())
        assert abs(moved) > 0.05
        served = float((built.policy.networks.critic().level - before).detach())
        assert served == pytest.approx(moved if serve == "current" else 0.25 * moved, rel=1e-4)


def test_learned_vectors_are_searched_where_they_are() -> None:
    built = learner(toy_catalog(30), embedding="learned", neighbours=3, search={"refit_every": 2}, lr=0.1)
    where = built.policy.positions.clone()
    step = one_step(item=4, reward=1.0)
    built.update(step)
    assert torch.equal(built.policy.positions, where)
    built.update(step)
    moved = torch.nn.functional.normalize(built.policy.networks.vectors().detach()[2:], dim=1)
    torch.testing.assert_close(built.policy.positions, moved)
    assert not torch.equal(built.policy.positions, where)


def test_an_approximate_search_serves_nearly_the_same() -> None:
    draw = Generator().manual_seed(0)
    items = toy_catalog(3000)
    features = torch.cat([torch.zeros(2, 8), torch.randn(3000, 8, generator=draw)])
    items = replace(items, features=features.numpy())
    searches: list[dict[str, Any]] = [{}, APPROXIMATE, APPROXIMATE | {"flat_below": 100, "probes": 40}]
    exact, flat, lists = (learner(items, neighbours=60, search=search) for search in searches)
    state = torch.randn(100, WIDTH, generator=draw)
    best = exact.policy.recommend(state, SlateRequest(k=1)).items
    assert float((flat.policy.recommend(state, SlateRequest(k=1)).items == best).float().mean()) > 0.95
    assert float((lists.policy.recommend(state, SlateRequest(k=1)).items == best).float().mean()) > 0.9


def test_one_item_is_served() -> None:
    built = learner(catalog([[0.5, 0.5]]))
    slates = built.policy.recommend(STATE, SlateRequest(k=1, exploration=Exploration(top_m=1)), generator=Generator())
    assert (slates.items.tolist(), slates.logp.tolist()) == ([[2]], [[0.0]])
    assert built.update(one_step(item=2, reward=1.0))["loss"] >= 0


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1.0, 0.0], [float("nan"), 1.0]], 'item "b" hold NaN or infinity'),
        ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], 'items "a" and "c" have the same features'),
        ([[1.0, 0.0], [0.0, 0.0]], 'item "b" are all 0'),
    ],
)
def test_features_that_cannot_be_searched(features: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner(catalog(features))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": 5}, "neighbours is 5, the catalog has 4 items"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"neighbour_share": 0.0}, "neighbour_share is 0.0"),
        ({"gamma": 1.5}, "gamma is 1.5"),
        ({"target_rate": 0.0}, "target_rate is 0.0"),
        ({"neighbour_penalty": -1.0}, "neighbour_penalty is -1.0"),
        ({"item_width": 0}, "item_width is 0"),
        ({"critic": {"value_unit": 0.0}}, r"\[critic\]: value_unit is 0.0"),
        ({"critic": {"width": 1}}, r"\[critic\]: width is 1"),
        ({"critic": {"l2": -1.0}}, "l2 is -1.0"),
        ({"critic": {"item_span": True}}, "need link"),
        ({"critic": {"loss": "by_outcome"}}, "need link"),
        ({"critic": {"state_hidden": [0]}}, "hidden widths"),
        ({"actor": {"hidden": [0]}}, r"\[actor\]: hidden widths"),
        ({"td3": {"actor_every": 0}}, "actor_every is 0"),
        ({"td3": {"smoothing": -0.1}}, "smoothing is -0.1"),
        ({"search": {"probes": 0}}, "probes is 0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, InputError), match=message):
        learner(**settings)


def test_vectors_of_a_catalog_without_features() -> None:
    bare = replace(CORNERS, features=np.zeros((6, 0), np.float32))
    config = wolpertinger.Config(embedding="catalog")
    encoder = observed.Encoder(observed.Config(history=False, context_width=WIDTH), CORNERS)
    with pytest.raises(ValueError, match="the catalog has no features"):
        wolpertinger.Policy(config, encoder, bare)
