from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists
from torch import Generator, Tensor

from slatewise.ops.sampling import available, chain_log_prob, draw, shortlist, shortlist_positions
from slatewise.types import Exploration

NONE = -math.inf
LOGS = torch.tensor([[4.0, 2.0, 1.0]]).log()
DRAWN = Exploration(top_m=3)


def probability(values: Tensor, places: list[int], exploration: Exploration | None) -> float:
    return float(chain_log_prob(values, torch.tensor([places]), exploration).sum().exp())


def test_a_draw_without_replacement_by_hand() -> None:
    # 2 of 4 + 2 + 1, then 4 of the 4 + 1 left
    assert probability(LOGS, [1, 0], DRAWN) == pytest.approx(2 / 7 * 4 / 5)
    assert probability(LOGS, [2, 1, 0], DRAWN) == pytest.approx(1 / 7 * 2 / 6)
    logp = chain_log_prob(LOGS, torch.tensor([[1, 0]]), DRAWN)
    torch.testing.assert_close(logp.exp(), torch.tensor([[2 / 7, 4 / 5]]))


def test_a_temperature_by_hand() -> None:
    # at ½ the weights are squared: 16, 4, 1
    cold = Exploration(top_m=3, temperature=0.5)
    assert probability(LOGS, [1, 0], cold) == pytest.approx(4 / 21 * 16 / 17)


def test_fixed_slots_by_hand() -> None:
    mixed = Exploration(top_m=3, keep=1)
    assert probability(LOGS, [0, 2], mixed) == pytest.approx(1 / 3)  # of 2 + 1
    assert probability(LOGS, [1, 0], mixed) == 0.0
    assert probability(LOGS, [0, 1, 2], Exploration(top_m=3, keep=3)) == 1.0
    assert probability(LOGS, [0, 2, 1], Exploration(top_m=3, keep=3)) == 0.0


def test_greedy_is_certain_and_all_else_impossible() -> None:
    assert chain_log_prob(LOGS, torch.tensor([[0, 1]]), None).tolist() == [[0.0, 0.0]]
    assert chain_log_prob(LOGS, torch.tensor([[1, 0]]), None).tolist() == [[NONE, NONE]]


def test_what_the_procedure_cannot_show_is_impossible() -> None:
    assert probability(LOGS, [0, 0], DRAWN) == 0.0  # twice
    assert probability(LOGS, [0, -2], DRAWN) == 0.0  # not in the shortlist
    assert probability(LOGS, [0, -1], DRAWN) == 0.0  # empty although something was left
    gone = torch.tensor([[1.0, 0.0, NONE]])
    assert probability(gone, [0, 2], DRAWN) == 0.0  # not available


def test_a_list_that_runs_out_ends_empty() -> None:
    two = torch.tensor([[math.log(3), 0.0, NONE]])
    assert probability(two, [1, 0, -1], DRAWN) == pytest.approx(1 / 4)
    assert probability(two, [1, 0, 2], DRAWN) == 0.0
    assert probability(two, [0, 1, -1], None) == 1.0
    nothing = torch.full((1, 3), NONE)
    assert probability(nothing, [-1, -1], DRAWN) == 1.0
    assert probability(nothing, [0, -1], None) == 0.0


def by_enumeration(values: list[float], places: tuple[int, ...], exploration: Exploration | None) -> float:
    """The procedure written out: the probability of a slate, slot by slot."""
    left = [place for place, value in enumerate(values) if value > NONE]
    fixed = len(places) if exploration is None else min(exploration.keep, len(places))
    result = 1.0
    for slot, place in enumerate(places):
        if not left:
            result *= place == -1
        elif slot < fixed:
            result *= place == left[0]
        else:
            assert exploration is not None
            weights = {other: math.exp(values[other] / exploration.temperature) for other in left}
            result *= weights.get(place, 0.0) / sum(weights.values())
        if place in left:
            left.remove(place)
    return result


@settings(max_examples=25, deadline=None)
@given(
    scores=lists(floats(-3, 3), max_size=4),
    gone=integers(0, 2),
    k=integers(1, 4),
    keep=integers(0, 4),
    temperature=floats(0.3, 3),
    greedy=integers(0, 3).map(lambda n: n == 0),
)
def test_every_slate_has_the_probability_of_the_procedure(
    scores: list[float], gone: int, k: int, keep: int, temperature: float, greedy: bool
) -> None:
    values = sorted(scores, reverse=True) + [NONE] * gone
    exploration = None if greedy else Exploration(top_m=6, keep=keep, temperature=temperature)
    slates = list(itertools.product([-2, -1, *range(len(values))], repeat=k))
    table = torch.tensor([values], dtype=torch.float64).expand(len(slates), -1)
    found = chain_log_prob(table, torch.tensor(slates), exploration).sum(dim=1).exp()
    expected = torch.tensor([by_enumeration(values, slate, exploration) for slate in slates], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(), torch.tensor(1.0, dtype=torch.float64))


def test_log_propensities_never_exceed_zero() -> None:
    generator = Generator().manual_seed(0)
    values = torch.sort(torch.randn(500, 8, generator=generator) * 20, dim=1, descending=True).values
    exploration = Exploration(top_m=8, keep=1)
    logp = chain_log_prob(values, draw(values, 6, exploration, generator), exploration)
    assert bool(torch.isfinite(logp).all())
    assert float(logp.max()) <= 0.0


def test_draws_come_as_often_as_their_probability_says() -> None:
    exploration = Exploration(top_m=3, temperature=2.0)
    places = draw(LOGS.expand(20_000, -1), 2, exploration, Generator().manual_seed(1))
    for slate in itertools.permutations(range(3), 2):
        share = float((places == torch.tensor(slate)).all(dim=1).float().mean())
        assert share == pytest.approx(probability(LOGS, list(slate), exploration), abs=0.014)  # 4 σ ≤ 4 · ½/√20,000


def test_draw_by_hand() -> None:
    values = torch.tensor([[3.0, 2.0, 1.0], [3.0, NONE, NONE]])
    assert draw(values, 2, None, None).tolist() == [[0, 1], [0, -1]]
    assert draw(values, 4, None, None).tolist() == [[0, 1, 2, -1], [0, -1, -1, -1]]
    kept = draw(values, 4, Exploration(top_m=3, keep=1), Generator().manual_seed(0))
    assert kept[:, 0].tolist() == [0, 0]
    assert sorted(kept[0, 1:3].tolist()) == [1, 2]
    assert kept[:, 3].tolist() == [-1, -1]
    assert kept[1].tolist() == [0, -1, -1, -1]


def test_a_draw_needs_a_generator_unless_all_slots_are_fixed() -> None:
    with pytest.raises(ValueError, match=r"pass generator=torch\.Generator\(\)"):
        draw(LOGS, 2, DRAWN, None)
    assert draw(LOGS, 2, Exploration(top_m=3, keep=2), None).tolist() == [[0, 1]]


def test_shortlist_by_hand() -> None:
    scores = torch.tensor([[1.0, NONE, 5.0, 3.0]])
    values, columns = shortlist(scores, 2, None)
    assert (values.tolist(), columns.tolist()) == ([[5.0, 3.0]], [[2, 3]])
    values, columns = shortlist(scores, 2, Exploration(top_m=3))
    assert columns.tolist() == [[2, 3, 0]]
    values, columns = shortlist(scores, 2, Exploration(top_m=100))
    assert values.tolist() == [[5.0, 3.0, 1.0, NONE]]


def test_shortlist_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(ValueError, match="scores hold NaN"):
        shortlist(torch.tensor([[1.0, math.nan]]), 1, None)
    with pytest.raises(ValueError, match="a slate of 3 cannot be drawn from top_m = 2 candidates"):
        shortlist(torch.zeros(1, 5), 3, Exploration(top_m=2))


def test_no_candidates_give_an_empty_slate() -> None:
    values, _ = shortlist(torch.zeros(2, 0), 2, None)
    for exploration in (None, DRAWN):
        places = draw(values, 2, exploration, Generator())
        assert places.tolist() == [[-1, -1], [-1, -1]]
        assert chain_log_prob(values, places, exploration).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_places_of_by_hand() -> None:
    items = torch.tensor([[7, 5, 9]])
    assert shortlist_positions(torch.tensor([[9, 7, 0, 4]]), items, empty=0).tolist() == [[2, 0, -1, -2]]


def test_available_by_hand() -> None:
    items = torch.tensor([[0, 1, 5, 7, 5, 9], [3, 3, 3, 2, 2, 0]])
    # reserved numbers and what stood further left are not available
    assert available(items, None, first=2).tolist() == [
        [False, False, True, True, False, True],
        [True, False, False, True, False, False],
    ]
    exclude = torch.tensor([[9, 0, 5], [2, 0, 0]])
    assert available(items, exclude, first=2).tolist() == [
        [False, False, False, True, False, False],
        [True, False, False, False, False, False],
    ]


@settings(max_examples=25, deadline=None)
@given(
    row=lists(integers(0, 6), min_size=1, max_size=8),
    excluded=lists(integers(0, 6), max_size=4),
)
def test_available_keeps_the_first_of_each_allowed_item(row: list[int], excluded: list[int]) -> None:
    found = available(torch.tensor([row]), torch.tensor([excluded], dtype=torch.int64), first=2)
    expected = [item >= 2 and item not in excluded and item not in row[:place] for place, item in enumerate(row)]
    assert found[0].tolist() == expected
