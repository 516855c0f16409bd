from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator

from slatewise.data.batches import trajectories
from slatewise.encoders import liked
from slatewise.log import LogPart, Windows
from slatewise.testing import check_encoder, toy_catalog, written_log
from slatewise.types import Trajectories

LOG = written_log(
    [
        [
            {"items": [5, 6], "rewards": [4, 4], "used": [0, 1]},
            {"items": [7, 8], "rewards": [1, 0], "used": [0]},
            {"items": [9, 5], "rewards": [0, 5], "used": [1]},
        ]
    ]
)


def batch() -> Trajectories:
    zero = np.array([0])
    return trajectories(LOG, Windows(user=zero, start=zero, learn=zero, stop=np.array([3])))


def encoder(**settings: float) -> liked.Encoder:
    config = liked.Config(width=2, reward_at_least=4.0, context_width=0, **settings)
    built = liked.Encoder(config, toy_catalog())
    with torch.no_grad():
        built.item.weight[5] = torch.tensor([0.3, 0.0])
        built.item.weight[6] = torch.tensor([0.0, 0.6])
        built.bias.copy_(torch.tensor([0.1, 0.0]))
    return built


def test_every_liked_item_of_a_list_counts_by_hand() -> None:
    before_tanh = torch.atanh(encoder()(batch())[0])
    expected = torch.tensor(
        [
            [0.1, 0.0],
            [0.1 + 0.3 / 3**0.5, 0.6 / 3**0.5],  # both items of the list
            [0.1 + 0.3 / 3**0.5, 0.6 / 3**0.5],  # a reward of 1 is not enough
            [0.1 + 0.6 / 4**0.5, 0.6 / 4**0.5],
        ]
    )
    torch.testing.assert_close(before_tanh, expected)


def test_what_the_log_does_not_like_is_the_middle_of_its_positive_rewards() -> None:
    def resolved(config: liked.Config, *rewards: float) -> liked.Config:
        events = [{"items": [2], "rewards": [reward], "context": [0.0] * 3} for reward in rewards]
        return config.resolve(LogPart.whole(written_log([events])))

    assert resolved(liked.Config(), 0, 0, 1, 4, 5).reward_at_least == 4
    assert resolved(liked.Config(), 0, 0) == liked.Config(reward_at_least=0.5, context_width=3)
    assert resolved(liked.Config(reward_at_least=1.0), 0, 0, 1, 4, 5).reward_at_least == 1


def test_dropout_leaves_out_whole_items_from_its_own_generator() -> None:
    part = encoder(dropout=0.5).train()
    assert torch.equal(part(batch()), encoder()(batch())), "nobody lent a generator"
    states = set()
    part.dropout.generator = Generator().manual_seed(0)
    for _ in range(60):
        states.add(tuple(round(float(x), 4) for x in torch.atanh(part(batch())[0, 1]).detach()))
    whole, root2 = 3**0.5, 2**0.5
    every = {(0.1, 0.0), (0.1 + 0.3 / root2, 0.0), (0.1, 0.6 / root2), (0.1 + 0.3 / whole, 0.6 / whole)}
    assert states == {(round(x, 4), round(y, 4)) for x, y in every}


@pytest.mark.parametrize("settings", [{"width": 3}, {"reward_at_least": 0.5, "dropout": 0.2}])
def test_it_keeps_the_contract(settings: dict[str, float]) -> None:
    check_encoder("liked", settings=settings)


@pytest.mark.parametrize(("settings", "message"), [({"width": 0}, "width is 0"), ({"dropout": 1.0}, "dropout is 1")])
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        liked.Config(**settings)  # type: ignore[arg-type]
