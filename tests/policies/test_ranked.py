from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.policies.ranked import RankedPolicy
from slatewise.retrieval.exact import Exact
from slatewise.types import Exploration, SlateRequest

STATE = torch.zeros(1, 1)


class Four(RankedPolicy):
    """Items 2 to 5 with weights 8, 4, 3, 1; the reserved numbers score best, and must never show."""

    def __init__(self) -> None:
        super().__init__(StatelessEncoder(), 6)

    def scores(self, state: Tensor, items: Tensor | None) -> Tensor:
        logits = torch.tensor([99.0, 98.0, math.log(8), math.log(4), math.log(3), 0.0])
        return logits.expand(len(state), -1) if items is None else logits[items]


POLICY = Four()


def test_single_draws_by_hand() -> None:
    log_pi = POLICY.log_pi(STATE, torch.tensor([[2, 3, 4, 5, 0, 1]]))
    torch.testing.assert_close(log_pi.exp(), torch.tensor([[1 / 2, 1 / 4, 3 / 16, 1 / 16, 0.0, 0.0]]))


def test_greedy_slates_by_hand() -> None:
    slates = POLICY.recommend(STATE, SlateRequest(k=2))
    assert slates.items.tolist() == [[2, 3]]
    assert slates.logp.tolist() == [[0.0, 0.0]]
    assert POLICY.recommend(STATE, SlateRequest(k=2, exclude=torch.tensor([[2, 0]]))).items.tolist() == [[3, 4]]
    assert POLICY.recommend(STATE, SlateRequest(k=2, candidates=torch.tensor([[5, 3, 0, 3]]))).items.tolist() == [
        [3, 5]
    ]


def test_lists_that_run_out_end_in_item_0() -> None:
    slates = POLICY.recommend(STATE, SlateRequest(k=3, candidates=torch.tensor([[0, 4, 1]])))
    assert slates.items.tolist() == [[4, 0, 0]]
    assert slates.logp.tolist() == [[0.0, 0.0, 0.0]]
    everything = torch.tensor([[2, 3, 4, 5]])
    assert POLICY.recommend(STATE, SlateRequest(k=2, exclude=everything)).items.tolist() == [[0, 0]]


def test_propensities_by_hand() -> None:
    exploration = Exploration(top_m=3)

    def probability(slate: list[int], **settings: Tensor) -> float:
        request = SlateRequest(k=2, exploration=exploration, **settings)
        return float(POLICY.log_prob(STATE, torch.tensor([slate]), request).sum().exp())

    assert probability([3, 2]) == pytest.approx(4 / 15 * 8 / 11)
    assert probability([3, 2], exclude=torch.tensor([[4]])) == pytest.approx(4 / 13 * 8 / 9)  # 5 moves up
    assert probability([3, 5], candidates=torch.tensor([[3, 5]])) == pytest.approx(4 / 5)
    for impossible in ([2, 2], [2, 0], [2, 1], [0, 2]):
        assert probability(impossible) == 0.0


def test_slates_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="slate size 5: the catalog has 4 items; choose 1 to that"):
        POLICY.recommend(STATE, SlateRequest(k=5))
    with pytest.raises(ValueError, match="a slate of 3 cannot be drawn from top_m = 2"):
        POLICY.recommend(STATE, SlateRequest(k=3, exploration=Exploration(top_m=2)), generator=Generator())
    with pytest.raises(ValueError, match="without a generator"):
        POLICY.recommend(STATE, SlateRequest(k=1, exploration=Exploration()))


def test_an_empty_catalog_has_no_policy() -> None:
    with pytest.raises(ValueError, match="the catalog is empty"):
        RankedPolicy(StatelessEncoder(), 2)


def test_a_method_must_give_scores() -> None:
    with pytest.raises(TypeError, match="RankedPolicy gives no scores"):
        RankedPolicy(StatelessEncoder(), 6).recommend(STATE, SlateRequest(k=1))


def test_no_users_get_no_slates() -> None:
    assert POLICY.recommend(STATE[:0], SlateRequest(k=2)).items.shape == (0, 2)


class Circle(RankedPolicy):
    """Forty items on a circle; a state is a direction."""

    def __init__(self) -> None:
        super().__init__(StatelessEncoder(), 42)
        angle = torch.arange(40) * (2 * math.pi / 40)
        self.points = torch.stack([angle.cos(), angle.sin()], dim=1)

    def scores(self, state: Tensor, items: Tensor | None) -> Tensor:
        every = torch.nn.functional.pad(state @ self.points.T, (2, 0))
        return every if items is None else every.gather(1, items)

    def vectors(self) -> Tensor:
        return self.points

    def item_bias(self) -> Tensor | None:
        return None

    def query(self, state: Tensor) -> Tensor:
        return state


def test_a_search_goes_on_until_it_has_met_enough_allowed_items() -> None:
    states = torch.tensor([[1.0, 0.1], [-1.0, 0.3]])
    # nothing near the first direction is allowed
    allowed = torch.arange(42) % 40 > 12
    request = SlateRequest(k=3, allowed=allowed, exclude=torch.tensor([[30, 31], [22, 22]]))
    scanning, searching = Circle(), Circle()
    searching.retrieve_with(Exact())
    slates = searching.recommend(states, request)
    assert torch.equal(slates.items, scanning.recommend(states, request).items)
    assert bool(allowed[slates.items].all())
    alone = searching.recommend(states[1:], request.rows(slice(1, 2)))
    assert torch.equal(alone.items, slates.items[1:])
    drawn = SlateRequest(k=3, allowed=allowed, exploration=Exploration(top_m=6))
    slates = searching.recommend(states, drawn, generator=Generator().manual_seed(0))
    torch.testing.assert_close(scanning.log_prob(states, slates.items, drawn), slates.logp)


class ReadsTen(Exact):
    """Like an index whose lists hold no more than ten items."""

    def fit(self, vectors: Tensor, items: Tensor | None = None) -> ReadsTen:
        super().fit(vectors, items)
        return self

    def search(self, query: Tensor, c: int) -> tuple[Tensor, Tensor]:
        items, scores = super().search(query, c)
        return items.index_fill(1, torch.arange(10, c), 0), scores.index_fill(1, torch.arange(10, c), -math.inf)


def test_all_items_are_scored_where_the_lists_of_an_index_have_no_allowed_ones() -> None:
    scanning, searching = Circle(), Circle()
    searching.retrieve_with(ReadsTen())
    # of the first state, all that is allowed lies opposite
    states = torch.tensor([[1.0, 0.1], [-1.0, 0.3]])
    allowed = (torch.arange(42) >= 17) & (torch.arange(42) < 27)
    for exclude in (None, torch.tensor([[20, 21], [22, 0]])):
        request = SlateRequest(k=12, allowed=allowed, exclude=exclude)
        slates = searching.recommend(states, request)
        assert torch.equal(slates.items, scanning.recommend(states, request).items)
        assert (slates.items[0] > 0).sum() == (10 if exclude is None else 8)
        alone = searching.recommend(states[:1], request.rows(slice(0, 1)))
        assert torch.equal(alone.items, slates.items[:1])


def test_allowed_items_by_hand() -> None:
    allowed = torch.tensor([True, True, False, True, True, False])
    request = SlateRequest(k=3, allowed=allowed)
    assert POLICY.recommend(STATE, request).items.tolist() == [[3, 4, 0]]
    fixed = SlateRequest(k=2, allowed=allowed, fixed=torch.tensor([[5, 0]]))
    assert POLICY.recommend(STATE, fixed).items.tolist() == [[5, 3]]
    drawn = SlateRequest(k=1, allowed=allowed, exploration=Exploration())
    logp = POLICY.log_prob(STATE.expand(3, -1), torch.tensor([[2], [3], [4]]), drawn)
    torch.testing.assert_close(logp.exp(), torch.tensor([[0.0], [4 / 7], [3 / 7]]))
    with pytest.raises(ValueError, match="allowed is for 5 item numbers, the catalog has 4 items and 2"):
        POLICY.recommend(STATE, SlateRequest(k=1, allowed=allowed[1:]))
