from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from slatewise.ops.list_rows import (
    LISTS_AT_ONCE,
    closed_columns,
    curvature_product,
    draw_rows,
    next_lists,
    open_columns,
    row_divergence,
    row_mean,
    row_normaliser,
    rows_log_prob,
)
from slatewise.types import Exploration

INF = float("inf")
# two rows over three columns
ROWS = torch.tensor([[[math.log(1), math.log(2), math.log(7)], [math.log(3), math.log(1), math.log(4)]]])


def test_the_best_column_that_is_left() -> None:
    assert draw_rows(ROWS, None, None).tolist() == [[2, 0]]
    assert rows_log_prob(ROWS, torch.tensor([[2, 0]]), None).tolist() == [[0.0, 0.0]]
    assert rows_log_prob(ROWS, torch.tensor([[2, 1]]), None).tolist() == [[0.0, -INF]]
    assert rows_log_prob(ROWS, torch.tensor([[2, 2]]), None).tolist() == [[0.0, -INF]]


def test_chances_by_hand() -> None:
    exploration = Exploration(top_m=3)
    # 7/10, then 3/(3 + 1) of what column 2 leaves
    logp = rows_log_prob(ROWS, torch.tensor([[2, 0]]), exploration)
    torch.testing.assert_close(logp.exp(), torch.tensor([[0.7, 0.75]]))
    # two best of row 1 are 7 and 2; column 2 taken leaves 3 and 1, column 1 taken leaves 3 and 4
    two = Exploration(top_m=2)
    torch.testing.assert_close(rows_log_prob(ROWS, torch.tensor([[1, 2]]), two).exp(), torch.tensor([[2 / 9, 4 / 7]]))
    assert rows_log_prob(ROWS, torch.tensor([[0, 2]]), two)[0, 0] == -INF
    # halved temperature: squares
    torch.testing.assert_close(
        rows_log_prob(ROWS, torch.tensor([[1, 2]]), Exploration(top_m=3, temperature=0.5)).exp(),
        torch.tensor([[4 / 54, 16 / 25]]),
    )
    # the first slot fixed
    torch.testing.assert_close(
        rows_log_prob(ROWS, torch.tensor([[2, 0]]), Exploration(top_m=3, keep=1)).exp(), torch.tensor([[1.0, 0.75]])
    )


def test_rows_that_run_out() -> None:
    rows = ROWS.clone()
    rows[:, :, :2] = -INF
    assert draw_rows(rows, None, None).tolist() == [[2, -1]]
    assert draw_rows(rows, Exploration(top_m=2), Generator().manual_seed(0)).tolist() == [[2, -1]]
    for exploration in (None, Exploration(top_m=3), Exploration(top_m=2)):
        assert rows_log_prob(rows, torch.tensor([[2, -1]]), exploration).tolist() == [[0.0, 0.0]]
        assert rows_log_prob(rows, torch.tensor([[-1, 2]]), exploration)[0, 0] == -INF
        assert rows_log_prob(rows, torch.tensor([[2, -2]]), exploration)[0, 1] == -INF


def test_of_equal_columns_the_first_is_the_best() -> None:
    rows = torch.zeros(2, 3, 40)
    rows[1, :, 7] = 1.0
    chosen = draw_rows(rows, None, None)
    assert chosen.tolist() == [[0, 1, 2], [7, 0, 1]]
    assert rows_log_prob(rows, chosen, None).tolist() == [[0.0] * 3] * 2
    assert rows_log_prob(rows, torch.tensor([[0, 2, 1], [7, 1, 0]]), None).tolist() == [[0.0, -INF, 0.0]] * 2


def test_refusals() -> None:
    with pytest.raises(ValueError, match="scores hold NaN"):
        draw_rows(torch.full((1, 1, 3), math.nan), None, None)
    with pytest.raises(ValueError, match="cannot be drawn without a generator"):
        draw_rows(ROWS, Exploration(), None)


@given(
    seed=st.integers(0, 1000),
    top_m=st.integers(1, 6),
    keep=st.integers(0, 3),
    closed=st.integers(0, 4),
)
def test_the_chances_of_all_lists_sum_to_one(seed: int, top_m: int, keep: int, closed: int) -> None:
    generator = Generator().manual_seed(seed)
    logits = torch.randn(1, 3, 5, generator=generator)
    logits[:, :, :closed] = -INF
    exploration = Exploration(top_m=top_m, keep=keep)
    length = min(3, 5 - closed)
    lists = [[*prefix, *[-1] * (3 - length)] for prefix in itertools.permutations(range(5), length)]
    logp = rows_log_prob(logits.expand(len(lists), -1, -1), torch.tensor(lists), exploration).sum(dim=1)
    assert float(logp.exp().sum()) == pytest.approx(1.0, abs=1e-5)
    drawn = draw_rows(logits, exploration, generator)
    assert bool(torch.isfinite(rows_log_prob(logits, drawn, exploration)).all())


def test_lists_come_as_often_as_they_should() -> None:
    exploration, count = Exploration(top_m=3), 20_000
    drawn = draw_rows(ROWS.expand(count, -1, -1), exploration, Generator().manual_seed(0))
    for first, second in itertools.permutations(range(3), 2):
        chance = float(rows_log_prob(ROWS, torch.tensor([[first, second]]), exploration).sum().exp())
        share = float(((drawn[:, 0] == first) & (drawn[:, 1] == second)).float().mean())
        assert abs(share - chance) < 5 * math.sqrt(chance / count)


def test_earlier_slots_close_their_columns() -> None:
    open_columns = torch.tensor([[False, True, True, True, True]])
    closed = closed_columns(torch.tensor([[2, 4, 0], [3, 1, 2]]), open_columns)
    assert closed.int().tolist() == [
        [[1, 0, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]],  # to an empty slot everything is open
        [[1, 0, 0, 0, 0], [1, 0, 0, 1, 0], [1, 1, 0, 1, 0]],
    ]


def test_normalisers_and_divergence_by_hand() -> None:
    # V: three columns of 0, log 3 and anything, the last one closed; w = 1 gives ¼ and ¾, w = 0 gives ½ and ½
    vectors = torch.tensor([[0.0], [math.log(3)], [9.0]])
    closed = torch.tensor([[[False, False, True]]])
    old, new = torch.ones(1, 1, 1), torch.zeros(1, 1, 1)
    normaliser = [row_normaliser(rows, vectors, closed) for rows in (old, new)]
    assert [float(value) for value in normaliser] == pytest.approx([math.log(4), math.log(2)])
    mean = row_mean(old, vectors, closed, normaliser[0])
    torch.testing.assert_close(mean, torch.full((1, 1, 1), 0.75 * math.log(3)))
    result = row_divergence(old, new, mean, *normaliser)
    assert float(result) == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert float(row_divergence(old, old, mean, normaliser[0], normaliser[0])) == 0.0


@given(lists=st.integers(0, 2 * LISTS_AT_ONCE + 1))
def test_lists_in_parts_are_the_lists_at_once(lists: int) -> None:
    generator = Generator().manual_seed(lists)
    rows = torch.randn(lists, 2, 3, generator=generator, dtype=torch.float64)
    vectors = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    closed = torch.zeros(lists, 2, 5, dtype=torch.bool)
    closed[:, :, 1] = True
    logits = (rows @ vectors.T).masked_fill(closed, -INF)
    normaliser = row_normaliser(rows, vectors, closed)
    torch.testing.assert_close(normaliser, torch.logsumexp(logits, dim=2))
    p = torch.softmax(logits, dim=2)
    torch.testing.assert_close(row_mean(rows, vectors, closed, normaliser), p @ vectors)
    hessian = torch.einsum("pkn,ne,nf->pkef", p, vectors, vectors)
    hessian = hessian - torch.einsum("pke,pkf->pkef", p @ vectors, p @ vectors)
    expected = (hessian @ rows.unsqueeze(3)).squeeze(3)
    torch.testing.assert_close(curvature_product(p, vectors, rows), expected)


def test_open_columns() -> None:
    assert open_columns(torch.tensor([[1, 3], [0, 0]]), 4).int().tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]


def test_curvature_by_hand() -> None:
    # p = (½, ½), V = (1, −1): the variance of ±1 is 1, so H = 1; p = (.9, .1): 4 · .09
    vectors, along = torch.tensor([[1.0], [-1.0]]), torch.tensor([[[2.0]]])
    assert float(curvature_product(torch.tensor([[[0.5, 0.5]]]), vectors, along)) == pytest.approx(2.0)
    assert float(curvature_product(torch.tensor([[[0.9, 0.1]]]), vectors, along)) == pytest.approx(0.72)


@given(seed=st.integers(0, 1000))
def test_curvature_is_the_hessian_of_the_divergence(seed: int) -> None:
    generator = Generator().manual_seed(seed)
    vectors = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    row = torch.randn(3, generator=generator, dtype=torch.float64)
    along = torch.randn(3, generator=generator, dtype=torch.float64)
    p = torch.softmax(vectors @ row, dim=0)

    def kl(other: torch.Tensor) -> torch.Tensor:
        return (p * (p.log() - torch.log_softmax(vectors @ other, dim=0))).sum()

    hessian = torch.autograd.functional.hessian(kl, row)  # type: ignore[no-untyped-call]
    result = curvature_product(p.view(1, 1, 6), vectors, along.view(1, 1, 3)).flatten()
    torch.testing.assert_close(result, hessian @ along, atol=1e-8, rtol=1e-6)


def test_the_next_items_that_count_are_a_list() -> None:
    item = torch.tensor([[5, 6, 7, 5, 8]])
    counts = torch.tensor([[True, False, True, True, True]])
    assert next_lists(item, counts, 3).tolist() == [[[5, 7, 0], [7, 5, 8], [7, 5, 8], [5, 8, 0], [8, 0, 0]]]
    assert next_lists(item, counts & False, 2).tolist() == [[[0, 0]] * 5]
