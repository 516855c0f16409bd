import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers

from slatewise.ops.negatives import (
    Negatives,
    cumulative_share,
    in_batch,
    log_uniform,
    popular,
    uniform,
    whole_catalog,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_whole_catalog_stands_for_itself() -> None:
    negatives = whole_catalog(first=2, last=5)
    assert negatives.items.tolist() == [2, 3, 4, 5]
    assert negatives.log_weight.tolist() == [0, 0, 0, 0]


def test_column_by_hand() -> None:
    negatives = Negatives(items=torch.tensor([3, 7, 9]), log_weight=torch.zeros(3))
    assert negatives.column(torch.tensor([[9, 3], [2, 8], [10, 7]])).tolist() == [[2, 0], [-1, -1], [-1, 1]]


def test_uniform_by_hand() -> None:
    # 2 draws from 4 items, one from each half: every item drawn stands for two
    negatives = uniform(2, first=2, last=5, generator=_generator())
    assert len(negatives.items) == 2
    assert negatives.items[0] in (2, 3)
    assert negatives.items[1] in (4, 5)
    torch.testing.assert_close(negatives.log_weight, torch.full((2,), math.log(2)))


@pytest.mark.parametrize("count", [4, 5, 100])
def test_as_many_draws_as_items_are_the_whole_catalog(count: int) -> None:
    negatives = uniform(count, first=2, last=5, generator=_generator())
    assert negatives.items.tolist() == [2, 3, 4, 5]
    assert not negatives.log_weight.any()


def test_log_uniform_by_hand() -> None:
    # N = 3: q = log 2 / log 4, log 1.5 / log 4, log(4/3) / log 4 = .5, .2925, .2075; item 9 is the most used
    negatives = log_uniform(1, ranked=torch.tensor([9, 4, 6]), generator=_generator(3))
    share = {9: 0.5, 4: 0.292481, 6: 0.207519}[int(negatives.items)]
    torch.testing.assert_close(negatives.log_weight, torch.tensor([-math.log(share)]), rtol=1e-5, atol=0)


def test_cumulative_share_by_hand() -> None:
    # uses 3 : 1 : 0, one fifth of the draws uniform: .8·(3/4, 1/4, 0) + .2/3
    sums = cumulative_share(torch.tensor([3.0, 1.0, 0.0]), power=1.0, uniform_share=0.2)
    torch.testing.assert_close(sums, torch.tensor([0.6 + 1 / 15, 0.8 + 2 / 15, 1.0], dtype=torch.float64))


def test_nothing_used_yet_is_uniform() -> None:
    sums = cumulative_share(torch.zeros(4), power=0.75, uniform_share=0.1)
    torch.testing.assert_close(sums, torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64))


def test_popular_by_hand() -> None:
    cumulative = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)  # the second item is never drawn
    negatives = popular(4, cumulative=cumulative, first=2, generator=_generator())
    # four slices of a quarter: two fall on each of the outer items, which were expected twice
    assert negatives.items.tolist() == [2, 4]
    torch.testing.assert_close(negatives.log_weight, torch.zeros(2))


def test_in_batch_by_hand() -> None:
    shown = torch.tensor([5, 3, 5, 8, 3])
    share = torch.tensor([0.25, 0.5, 0.25, 0.125, 0.5])
    negatives = in_batch(shown, share=share)
    assert negatives.items.tolist() == [3, 5, 8]
    # 3 came twice, expected 4 · ½; 5 twice, expected 4 · ¼; 8 once, expected 4 · ⅛
    torch.testing.assert_close(negatives.log_weight, torch.tensor([1.0, 2.0, 2.0]).log())


def test_in_batch_needs_company() -> None:
    with pytest.raises(ValueError, match="at least 2 positions"):
        in_batch(torch.tensor([5]), share=torch.tensor([0.5]))


@given(count=integers(1, 40), size=integers(1, 60), seed=integers(0, 10_000))
def test_every_sampler_gives_distinct_items_of_the_catalog_in_rising_order(count: int, size: int, seed: int) -> None:
    ranked = torch.randperm(size, generator=_generator(seed)) + 2
    uses = torch.randint(0, 5, (size,), generator=_generator(seed)).float()
    cumulative = cumulative_share(uses, power=0.75, uniform_share=0.1)
    for negatives in (
        uniform(count, first=2, last=size + 1, generator=_generator(seed)),
        log_uniform(count, ranked=ranked, generator=_generator(seed)),
        popular(count, cumulative=cumulative, first=2, generator=_generator(seed)),
    ):
        assert len(negatives.items) <= max(count, size)
        assert bool((negatives.items.diff() > 0).all())
        assert int(negatives.items[0]) >= 2
        assert int(negatives.items[-1]) <= size + 1
        assert bool(torch.isfinite(negatives.log_weight).all())


def test_each_sampler_stands_for_the_catalog_on_average() -> None:
    """Σ weight · value over the negatives estimates Σ value over the catalog without bias."""
    size, rounds, generator = 30, 4000, _generator(1)
    value = torch.rand(size, generator=generator)
    uses = torch.arange(size).float()
    cumulative = cumulative_share(uses, power=1.0, uniform_share=0.1)
    ranked = torch.arange(size + 1, 1, -1)
    draws: dict[str, Callable[[], Negatives]] = {
        "uniform": lambda: uniform(5, first=2, last=size + 1, generator=generator),
        "log_uniform": lambda: log_uniform(5, ranked=ranked, generator=generator),
        "popular": lambda: popular(5, cumulative=cumulative, first=2, generator=generator),
    }
    for name, draw in draws.items():
        totals = torch.stack([(n.log_weight.exp() * value[n.items - 2]).sum() for n in (draw() for _ in range(rounds))])
        error = (totals.mean() - value.sum()).abs()
        assert float(error) < 4 * float(totals.std()) / math.sqrt(rounds), name


def test_same_generator_same_negatives() -> None:
    once, twice = (uniform(50, first=2, last=1000, generator=_generator(7)) for _ in range(2))
    assert torch.equal(once.items, twice.items)
