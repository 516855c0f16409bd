from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slatewise.errors import InputError
from slatewise.ops.slates import (
    Optimiser,
    best_slates,
    dinkelbach,
    greedy,
    linear_program,
    slate_value,
    top_k,
    uniform_slates,
)


def table(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def brute_force(v: np.ndarray, q: np.ndarray, v0: float, q0: float, k: int) -> float:
    """The best F over all slates of exactly k items."""
    best = -math.inf
    for slate in itertools.combinations(range(len(v)), k):
        at = list(slate)
        total = v0 + v[at].sum()
        best = max(best, q0 + (v[at] * (q[at] - q0)).sum() / total if total > 0 else q0)
    return best


def test_three_optimisers_by_hand() -> None:
    # v q = 4, 3.6, 3, 1 · with v_0 = 1, q_0 = 0, K = 2
    v, q, v0, q0 = table([4.0, 1.2, 0.6, 0.1]), table([1.0, 3.0, 5.0, 10.0]), table([1.0])[0], table([0.0])[0]
    free = torch.ones(1, 4, dtype=torch.bool)
    assert top_k(v, q, q0, 2, free=free).tolist() == [[0, 1]]  # (4 + 3.6)/6.2 = 1.23
    # 4/5 = .8, 3.6/2.2 = 1.64, 3/1.6 = 1.88, 1/1.1 = .91: item 2 first; then 7/5.6, 6.6/2.8 = 2.36, 4/1.7 = 2.35
    assert greedy(v, q, v0, q0, 2, free=free).tolist() == [[2, 1]]
    columns, value = dinkelbach(v, q, v0, q0, 2, free=free)
    assert columns.tolist() == [[2, 1]]
    torch.testing.assert_close(value, table([6.6 / 2.8])[0])
    torch.testing.assert_close(slate_value(v, q, v0, q0, torch.tensor([[0, 1]])), table([7.6 / 6.2])[0])
    torch.testing.assert_close(slate_value(v, q, v0, q0, torch.tensor([[2, -1]])), table([3 / 1.6])[0])


def test_a_learned_null_value_moves_all_values_alike() -> None:
    v, q, v0 = table([4.0, 1.2, 0.6, 0.1]), table([1.0, 3.0, 5.0, 10.0]), table([1.0])[0]
    for optimiser in ("top_k", "greedy", "optimal"):
        here = best_slates(v, q, v0, torch.zeros(1, dtype=torch.float64), 2, optimiser=optimiser)
        there = best_slates(v, q + 100, v0, torch.full((1,), 100.0, dtype=torch.float64), 2, optimiser=optimiser)
        assert here.tolist() == there.tolist()


def instances(count: int) -> list[tuple[np.ndarray, np.ndarray, float, float, int]]:
    """Random ones, every kind of hard one among them."""
    random = np.random.default_rng(7)
    found = []
    for number in range(count):
        size = int(random.integers(1, 9))
        k = size if number % 10 == 0 else int(random.integers(1, size + 1))  # C = K every tenth time
        v = np.exp(random.normal(0, 1.5, size))
        q, q0, v0 = random.normal(5, 4, size), float(random.normal(5, 4)), float(np.exp(random.normal(0, 1.5)))
        kind = number % 7
        if kind == 1:
            q = q0 - np.abs(random.normal(0, 3, size))  # every item worse than nothing
        elif kind == 2:
            v, q = np.round(v), np.round(q)  # ties, and weights of 0
        elif kind == 3:
            v0 = 10.0 ** -float(random.integers(3, 12))  # v_0 → 0
        elif kind == 4:
            v[:], q[:] = v[0], q[0]  # all the same
        elif kind == 5:
            q0 = 0.0
        elif kind == 6:
            v, q = v * 1e4, q * 1e3
        found.append((v, q, v0, q0, k))
    return found


def test_linear_program_dinkelbach_and_brute_force_agree() -> None:
    for v, q, v0, q0, k in instances(1000):
        best = brute_force(v, q, v0, q0, k)
        tolerance = 1e-9 * max(1.0, np.abs(q).max(), abs(q0))
        given_ = (torch.from_numpy(v[None]), torch.from_numpy(q[None]), table([v0])[0], table([q0])[0])
        columns, value = dinkelbach(*given_, k, free=torch.ones(1, len(v), dtype=torch.bool))
        assert abs(float(value) - best) <= tolerance
        assert len(set(columns[0].tolist())) == k
        assert abs(float(slate_value(*given_, columns)) - best) <= tolerance
        chosen, optimum = linear_program(v, q, v0, q0, k)
        assert abs(optimum - best) <= tolerance
        assert len(chosen) == k


def test_batched_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(3)
    v, q = torch.rand(200, 12, generator=generator).exp(), torch.randn(200, 12, generator=generator)
    v0, q0 = torch.rand(200, generator=generator), torch.randn(200, generator=generator)
    free = torch.rand(200, 12, generator=generator) < 0.7
    for optimiser in ("top_k", "greedy", "optimal"):
        together = best_slates(v, q, v0, q0, 4, optimiser=optimiser, free=free)
        for row in range(200):
            one = slice(row, row + 1)
            alone = best_slates(v[one], q[one], v0[one], q0[one], 4, optimiser=optimiser, free=free[one])
            assert together[row].tolist() == alone[0].tolist()


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 4))
@settings(max_examples=200)
def test_order_of_the_optimisers_and_greedys_guarantee(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randint(1, 6, (2,), generator=generator)
    shape = (64, 7)
    v = torch.exp(spread[0] * torch.randn(shape, generator=generator, dtype=torch.float64))
    q = torch.exp(spread[1] * torch.randn(shape, generator=generator, dtype=torch.float64))
    v0 = torch.exp(2 * torch.randn(64, generator=generator, dtype=torch.float64))
    q0 = torch.zeros(64, dtype=torch.float64)
    value = {}
    names: tuple[Optimiser, ...] = ("top_k", "greedy", "optimal")
    for optimiser in names:
        columns = best_slates(v, q, v0, q0, k, optimiser=optimiser)
        value[optimiser] = slate_value(v, q, v0, q0, columns)
    close = 1 + 1e-9
    assert bool((value["optimal"] * close >= value["top_k"]).all())
    assert bool((value["optimal"] * close >= value["greedy"]).all())
    assert bool((value["greedy"] * close >= value["optimal"] / k).all())  # all values ≥ q_0 = 0


def test_greedys_guarantee_is_tight() -> None:
    # a heavy item barely beats each of the two light ones alone; these add up, it does not
    v, q = table([1e9, 1e-3, 1e-3]), table([1.00001e-3, 1.0, 1.0])
    given_ = (v, q, table([1.0])[0], table([0.0])[0])
    free = torch.ones(1, 3, dtype=torch.bool)
    found = slate_value(*given_, greedy(*given_, 2, free=free))
    assert float(found / dinkelbach(*given_, 2, free=free)[1]) == pytest.approx(0.5, abs=2e-3)


def test_greedy_is_optimal_for_one_item() -> None:
    generator = torch.Generator().manual_seed(1)
    v, q = torch.rand(500, 9, generator=generator), torch.randn(500, 9, generator=generator)
    v0, q0 = torch.rand(500, generator=generator) + 0.1, torch.randn(500, generator=generator)
    one = best_slates(v, q, v0, q0, 1, optimiser="greedy")
    torch.testing.assert_close(
        slate_value(v, q, v0, q0, one),
        slate_value(v, q, v0, q0, best_slates(v, q, v0, q0, 1, optimiser="optimal")),
    )


def test_places_that_run_out_are_empty() -> None:
    v, q = torch.ones(1, 4), torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    free = torch.tensor([[True, False, True, False]])
    for optimiser in ("top_k", "greedy", "optimal"):
        found = best_slates(v, q, torch.ones(1), torch.zeros(1), 3, optimiser=optimiser, free=free)
        assert found.tolist() == [[2, 0, -1]]


@pytest.mark.parametrize(
    ("v", "q", "v0", "k", "message"),
    [
        ([1.0, 1.0], [1.0, 1.0], 1.0, 3, "a slate of 3 from 2 candidates"),
        ([1.0, 1.0], [1.0, math.nan], 1.0, 1, "value of user 0, candidate 1 is nan"),
        ([0.0, 0.0], [1.0, 1.0], 0.0, 1, "all choice weights of slate 0 are 0"),
        ([-1.0, 2.0], [1.0, 1.0], 1.0, 1, "expected finite numbers ≥ 0"),
    ],
)
def test_problems_without_a_best_slate(v: list[float], q: list[float], v0: float, k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        best_slates(torch.tensor([v]), torch.tensor([q]), torch.tensor([v0]), torch.zeros(1), k, optimiser="optimal")


@pytest.mark.parametrize(("count", "k"), [(4, 2), (60, 3)])
def test_uniform_slates(count: int, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = 24_000
    candidates = torch.arange(2, count + 2).expand(batch, -1)
    items, logp = uniform_slates(candidates, k, generator=generator)
    assert logp[0].exp().tolist() == pytest.approx([1 / (count - j) for j in range(k)])
    assert bool((torch.sort(items, dim=1).values.diff(dim=1) > 0).all())  # nothing twice
    for position in range(k):
        share = torch.bincount(items[:, position], minlength=count + 2)[2:] / batch
        assert float((share - 1 / count).abs().max()) < 5 * math.sqrt(1 / count / batch)
    if count == 4:
        pairs = torch.bincount(items[:, 0] * 10 + items[:, 1])
        assert len(pairs[pairs > 0]) == 12
        assert float((pairs[pairs > 0] / batch - 1 / 12).abs().max()) < 5 * math.sqrt(1 / 12 / batch)


def test_uniform_slates_larger_than_the_candidates() -> None:
    with pytest.raises(InputError, match="a slate of 3 from 2"):
        uniform_slates(torch.tensor([[2, 3]]), 3, generator=torch.Generator())


def test_a_draw_beside_a_row_with_few_candidates() -> None:
    # user 0 has three equal items for two places, user 1 may be shown one item: together as many as without a draw
    weight, value = torch.ones(2, 3), torch.tensor([[2.0, 2.0, 2.0], [1.0, 5.0, 9.0]])
    free = torch.tensor([[True, True, True], [False, True, False]])
    columns, best = dinkelbach(weight, value, torch.ones(2), torch.zeros(2), 2, free=free)
    assert len(set(columns[0].tolist())) == 2
    assert columns[1].tolist() == [1, -1]
    # (2 + 2) / (1 + 2) and 5 / (1 + 1)
    torch.testing.assert_close(best, torch.tensor([4 / 3, 2.5]))
