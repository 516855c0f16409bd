from __future__ import annotations

import math

import torch
from torch import Generator

from slatewise.methods.wolpertinger.two_towers import TwoTowerConfig, TwoTowers


def by_hand(*, item_span: bool = False, logistic: bool = True) -> TwoTowers:
    """Two items of one number each: the query is [2 ; 1], the keys are [vector ; bias]."""
    config = TwoTowerConfig(width=2, state_hidden=(), link="logistic" if logistic else "identity", item_span=item_span)
    critic = TwoTowers(config, state_width=1, item_width=1, num_rows=4, generator=Generator())
    with torch.no_grad():
        for weight in critic.parameters():
            weight.zero_()
        next(critic.state.parameters())[0, 0] = 2.0
        next(critic.item.parameters())[0, 0] = 1.0
        assert critic.bias is not None
        critic.bias.weight[2:, 0] = torch.tensor([0.0, 1.0])
        critic.level.fill_(3.0)
        if critic.item_span is not None:
            # softplus(log(e² − 1)) = 2 and softplus(0) = log 2
            critic.item_span.weight[2, 0] = math.log(math.e**2 - 1)
    return critic


STATE, VECTORS, ITEMS = torch.ones(2, 1), torch.tensor([[0.5], [0.5]]), torch.tensor([2, 3])


def test_values_by_hand() -> None:
    # products 2 · .5 + 0 = 1 and 2 · .5 + 1 = 2
    values = by_hand(logistic=False).action_values(STATE, VECTORS, ITEMS)
    torch.testing.assert_close(values, torch.tensor([3.0 + 1, 3.0 + 2]))
    chance = torch.sigmoid(torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(by_hand().action_values(STATE, VECTORS, ITEMS), 3 + math.log(2) * chance)
    torch.testing.assert_close(
        by_hand(item_span=True).action_values(STATE, VECTORS, ITEMS), 3 + torch.tensor([2.0, math.log(2)]) * chance
    )
    # a point that is no item has neither a bias nor a span of its own
    torch.testing.assert_close(
        by_hand(item_span=True).action_values(STATE, VECTORS, None), (3 + math.log(2) * chance[:1]).repeat(2)
    )


def test_what_a_logistic_critic_is_made_of_gives_its_value() -> None:
    critic = by_hand(item_span=True)
    logit, if_chosen, if_not = critic.by_outcome(STATE, VECTORS, ITEMS)
    torch.testing.assert_close(logit, torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(if_chosen, torch.tensor([5.0, 3 + math.log(2)]))
    torch.testing.assert_close(if_not, torch.tensor([3.0, 3.0]))
    chance = torch.sigmoid(logit)
    torch.testing.assert_close(chance * if_chosen + (1 - chance) * if_not, critic.action_values(STATE, VECTORS, ITEMS))


def test_a_ranking_becomes_values() -> None:
    product, level = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])
    for critic in (by_hand(logistic=False), by_hand(), by_hand(item_span=True)):
        spans = None if critic.monotone else critic.spans(ITEMS)
        with torch.no_grad():
            ranked = critic.ranking(product.clone(), spans)
            torch.testing.assert_close(critic.from_ranking(ranked, level), critic.values(product, level, ITEMS))
