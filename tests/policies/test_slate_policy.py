"""Requests with fixed positions, by hand, and those that no policy serves."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import Generator

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.policies.fixed import FixedPolicy
from slatewise.policies.topic import TopicDraws
from slatewise.types import Exploration, SlateRequest

# items 2, 3, 4, 5 with weights 8, 4, 2, 1
POLICY = FixedPolicy((8 / 15, 4 / 15, 2 / 15, 1 / 15))
STATE = torch.zeros(1, 1)


def fixed(*items: int) -> SlateRequest:
    return SlateRequest(k=len(items), fixed=torch.tensor([items]))


@pytest.mark.parametrize(
    ("request_", "served"),
    [
        (fixed(0, 5, 0), [2, 5, 3]),  # the best two stand around it
        (fixed(2, 0, 0), [2, 3, 4]),
        (fixed(5, 4, 3), [5, 4, 3]),  # nothing is left to the policy
        (fixed(0, 0, 0), [2, 3, 4]),
        (replace(fixed(0, 5, 0), exclude=torch.tensor([[2, 0]])), [3, 5, 4]),
        # a fixed item need not be a candidate; the last free position stays empty
        (replace(fixed(0, 5, 0), candidates=torch.tensor([[4, 0]])), [4, 5, 0]),
        (replace(fixed(0, 0, 5), candidates=torch.tensor([[5, 4]])), [4, 0, 5]),
    ],
)
def test_greedy_slates_around_fixed_items(request_: SlateRequest, served: list[int]) -> None:
    slates = POLICY.recommend(STATE, request_)
    assert slates.items.tolist() == [served]
    assert slates.logp.tolist() == [[0.0, 0.0, 0.0]]
    assert POLICY.log_prob(STATE, slates.items, request_).tolist() == [[0.0, 0.0, 0.0]]


def test_propensities_around_a_fixed_item() -> None:
    request = replace(fixed(0, 2, 0), exploration=Exploration(top_m=4))

    def factors(*slate: int) -> list[float]:
        chances: list[float] = POLICY.log_prob(STATE, torch.tensor([slate]), request)[0].exp().tolist()
        return chances

    # weights 4, 2, 1 are left beside item 2
    assert factors(3, 2, 4) == pytest.approx([4 / 7, 1.0, 2 / 3])
    assert factors(5, 2, 3) == pytest.approx([1 / 7, 1.0, 4 / 6])
    assert factors(3, 4, 5)[1] == 0.0  # another item where 2 is fixed
    assert factors(2, 2, 3)[0] == 0.0  # the fixed item at a free position
    slates = torch.tensor([[first, 2, last] for first, last in permutations((3, 4, 5), 2)])
    every = replace(request, fixed=torch.tensor([[0, 2, 0]]).expand(6, -1))
    total = POLICY.log_prob(STATE.expand(6, 1), slates, every).sum(dim=1).exp().sum()
    assert float(total) == pytest.approx(1.0)


def test_keep_counts_free_positions() -> None:
    request = replace(fixed(5, 0, 0), exploration=Exploration(top_m=4, keep=1))
    slates = POLICY.recommend(STATE, request, generator=Generator().manual_seed(0))
    assert slates.items[0, :2].tolist() == [5, 2]
    assert slates.logp[0, :2].tolist() == [0.0, 0.0]
    assert float(slates.logp[0, 2]) < 0


def test_a_slate_does_not_depend_on_what_is_fixed_for_others() -> None:
    rows = torch.tensor([[0, 5, 0], [0, 0, 0], [4, 0, 5], [3, 0, 0], [5, 2, 3]])
    together = POLICY.recommend(STATE.expand(5, 1), SlateRequest(k=3, fixed=rows)).items
    alone = [POLICY.recommend(STATE, SlateRequest(k=3, fixed=row.unsqueeze(0))).items[0].tolist() for row in rows]
    assert together.tolist() == alone == [[2, 5, 3], [2, 3, 4], [4, 2, 5], [3, 2, 4], [5, 2, 3]]


def test_topic_draws_keep_fixed_positions() -> None:
    policy = TopicDraws(StatelessEncoder(), torch.zeros(6, dtype=torch.int64), torch.ones(6), num_topics=1)
    request = SlateRequest(k=3, fixed=torch.tensor([[0, 3, 0]]).expand(200, -1))
    slates = policy.recommend(torch.zeros(200, 1), request, generator=Generator().manual_seed(0))
    assert bool((slates.items[:, 1] == 3).all())
    assert set(slates.items[:, [0, 2]].flatten().tolist()) == {2, 4, 5}
    # one of three, then one of two
    torch.testing.assert_close(slates.logp.exp(), torch.tensor([[1 / 3, 1.0, 1 / 2]]).expand(200, -1))
    assert torch.equal(policy.log_prob(torch.zeros(200, 1), slates.items, request), slates.logp)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SlateRequest(k=5), "slate size 5: the catalog has 4 items; choose 1 to that"),
        (fixed(0, 6), "fixed: item 6 at position 1 is not in the catalog"),
        (fixed(1, 0), "fixed: item 1 at position 0 is not in the catalog"),
        (fixed(3, 3), "fixed: item 3 at position 1 is excluded, or fixed at another position, too"),
        (replace(fixed(0, 3), exclude=torch.tensor([[3]])), "item 3 at position 1 is excluded"),
        (SlateRequest(k=1, exclude=torch.tensor([[3], [4]])), "exclude is for 2 users, the state for 1"),
    ],
)
def test_what_no_catalog_serves(request_: SlateRequest, message: str) -> None:
    slate = torch.zeros(1, request_.k, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        POLICY.recommend(STATE, request_)
    with pytest.raises(ValueError, match=message):
        POLICY.log_prob(STATE, slate, request_)


def test_a_slate_has_the_size_of_its_request() -> None:
    with pytest.raises(ValueError, match="a slate of 2 items under a request for k = 3"):
        POLICY.log_prob(STATE, torch.tensor([[2, 3]]), SlateRequest(k=3))


def test_requests_that_contradict_themselves() -> None:
    with pytest.raises(ValueError, match="slate size 0: expected at least 1 position"):
        SlateRequest(k=0)
    with pytest.raises(ValueError, match="fixed says what 3 positions show; expected k = 2"):
        SlateRequest(k=2, fixed=torch.zeros(1, 3, dtype=torch.int64))


def test_rows_of_a_request() -> None:
    request = SlateRequest(
        k=1,
        candidates=torch.tensor([[2, 3], [4, 5]]),
        fixed=torch.tensor([[0], [4]]),
        exploration=Exploration(top_m=2),
    )
    second = request.rows(torch.tensor([1]))
    assert second.candidates is not None
    assert second.candidates.tolist() == [[4, 5]]
    assert second.fixed is not None
    assert second.fixed.tolist() == [[4]]
    assert (second.k, second.exclude, second.exploration) == (1, None, Exploration(top_m=2))
    assert request.rows(slice(0, 1)).rows(torch.tensor([True])).k == 1
