from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers
from torch import Generator

from slatewise.nn.softmax import SoftmaxHead


def test_scores_and_probabilities_by_hand() -> None:
    head = SoftmaxHead(1, 5, temperature=0.5)
    with torch.no_grad():
        head.item.weight.copy_(torch.tensor([[9.0], [9.0], [0.0], [math.log(2) / 2], [0.0]]))
        head.bias.weight.copy_(torch.tensor([[9.0], [9.0], [0.0], [0.0], [math.log(5)]]))
        state = torch.tensor([[1.0]])
        # s/τ = 2: items 2, 3, 4 score 0, ln 2, ln 5; the reserved rows do not count, so the sum is 8
        assert head.scores(state, torch.tensor([[2, 4]])).tolist() == [[0.0, pytest.approx(math.log(5))]]
        torch.testing.assert_close(head.scores(state, None)[0, 2:], torch.tensor([1.0, 2.0, 5.0]).log())
        log_pi = head.log_prob(state.expand(3, -1), torch.tensor([2, 3, 4]))
    torch.testing.assert_close(log_pi.exp(), torch.tensor([1 / 8, 2 / 8, 5 / 8]))


@settings(max_examples=20, deadline=None)
@given(width=integers(1, 20), temperature=floats(0.1, 5), seed=integers(0, 1000))
def test_vectors_and_query_give_the_scores(width: int, temperature: float, seed: int) -> None:
    generator = Generator().manual_seed(seed)
    head = SoftmaxHead(width, 9, temperature=temperature, generator=generator)
    with torch.no_grad():
        head.bias.weight.normal_(generator=generator)
        state = torch.randn(3, width, generator=generator)
        product = head.query(state) @ head.vectors().T
        torch.testing.assert_close(product + head.item_bias(), head.scores(state, None)[:, 2:])
        torch.testing.assert_close(
            head.log_prob(state, torch.tensor([2, 3, 8])).exp(),
            torch.softmax(head.scores(state, None)[:, 2:], dim=1)[torch.arange(3), torch.tensor([0, 1, 6])],
        )


def test_reserved_rows_get_no_gradient() -> None:
    head = SoftmaxHead(3, 6, generator=Generator().manual_seed(0))
    head.log_prob(torch.ones(2, 3), torch.tensor([2, 5])).sum().backward()  # type: ignore[no-untyped-call]
    for weight in (head.item.weight, head.bias.weight):
        assert weight.grad is not None
        assert not bool(weight.grad[:2].any())
        assert bool(weight.grad[2:].any(dim=1).all())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_cannot_be(temperature: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        SoftmaxHead(2, 5, temperature=temperature)


def test_a_head_that_starts_from_counts_gives_items_their_popularity() -> None:
    head = SoftmaxHead(2, 4, generator=Generator().manual_seed(0))
    head.start_from_counts(torch.tensor([7, 7, 3, 0]))  # of the reserved rows nothing is read
    log_prob = head.log_prob(torch.zeros(2, 2), torch.tensor([2, 3]))
    torch.testing.assert_close(log_prob.exp(), torch.tensor([0.8, 0.2]))  # 3 + 1 and 0 + 1 of 5
    torch.testing.assert_close(head.bias.weight[:2], torch.zeros(2, 1))
