from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from slatewise.methods.wolpertinger.proto_action import (
    best_of_nearest,
    expected_best,
    largest_columns,
    neighbour_gap,
    on_sphere,
    perturb,
    td_target,
    td_target_without_draw,
)


def best(q: float, b: float, c: float, p: float, k: float) -> float:
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (q, b, c, p, k)]
    return float(expected_best(numbers[0], half_width=numbers[1], loss=numbers[2], bad=numbers[3], k=numbers[4]))


def test_directions_by_hand() -> None:
    points = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-2.0, 0.0]])
    assert on_sphere(points).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0], [-1.0, 0.0]]


def test_on_the_sphere_the_nearest_has_the_largest_product() -> None:
    draw = Generator().manual_seed(0)
    items, query = (on_sphere(torch.randn(count, 5, generator=draw)) for count in (50, 7))
    by_distance = torch.cdist(query, items).argsort(dim=1)
    by_product = (query @ items.T).argsort(dim=1, descending=True)
    assert torch.equal(by_distance, by_product)


def test_noise_keeps_the_norm_and_no_noise_keeps_everything() -> None:
    proto = on_sphere(torch.randn(2000, 20, generator=Generator().manual_seed(0)))
    moved = perturb(proto, std=0.3, limit=2.0, generator=Generator().manual_seed(1))
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(2000))
    # noise of size .3, nearly all of it across: the cosine is about 1 / √1.09 = .958
    assert float((moved * proto).sum(dim=1).mean()) == pytest.approx(0.958, abs=0.01)
    torch.testing.assert_close(perturb(proto, std=0.0, limit=2.0, generator=Generator()), proto)


def test_targets_by_hand() -> None:
    reward, after = torch.tensor([1.0, 0.5]), torch.tensor([10.0, 10.0])
    ends = torch.tensor([False, True])
    assert td_target(reward, after, ends, 0.9).tolist() == [10.0, 0.5]


def test_the_gap_by_hand_moves_only_the_proto_action() -> None:
    at_proto, at_item = (torch.tensor(values, requires_grad=True) for values in ([3.0, 1.0], [1.0, 2.0]))
    gap = neighbour_gap(at_proto, at_item)
    assert float(gap.detach()) == pytest.approx((4 + 1) / 2)
    gap.backward()  # type: ignore[no-untyped-call]
    assert at_proto.grad is not None
    assert at_proto.grad.tolist() == [2.0, -1.0]
    assert at_item.grad is None


@pytest.mark.parametrize(
    ("q", "b", "c", "p", "k", "expected"),
    [
        # one neighbour: ½ · (Q − c) + ½ · Q = 5 − 1
        (5.0, 1.0, 2.0, 0.5, 1.0, 4.0),
        # two good ones: Q − b + 2b · ⅔
        (0.0, 3.0, 3.0, 0.0, 2.0, 1.0),
        # two at p = ½: ¼ · (−4) + ½ · 0 + ¼ · ⅔ (b = 2)
        (0.0, 2.0, 4.0, 0.5, 2.0, -1.0 + 0.25 * 2 / 3),
        # all bad
        (5.0, 1.0, 2.0, 1.0, 7.0, 3.0),
        # all alike
        (5.0, 0.0, 0.0, 0.3, 4.0, 5.0),
    ],
)
def test_expected_best_by_hand(q: float, b: float, c: float, p: float, k: float, expected: float) -> None:
    assert best(q, b, c, p, k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p", [1 - 1e-3, 1 - 1e-7, 1 - 1e-12])
def test_it_goes_to_its_limit_without_loss_of_digits(p: float) -> None:
    k, b, c = 50, 1.0, 2.0
    # Σ p^i in place of (1 − p^{k+1}) / (1 − p)
    ratio = math.fsum(p**i for i in range(k + 1))
    assert best(0.0, b, c, p, k) == pytest.approx(b - (p**k * (c - b) + 2 * b / (k + 1) * ratio), rel=1e-9)


def drawn(b: float, c: float, p: float, k: int, *, count: int, seed: int) -> Tensor:
    draw = Generator().manual_seed(seed)
    good = b * (2 * torch.rand(count, k, generator=draw) - 1)
    is_bad = torch.rand(count, k, generator=draw) < p
    return torch.where(is_bad, torch.tensor(-c), good).amax(dim=1)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("k", [1, 2, 5, 30])
def test_expected_best_is_what_draws_give(p: float, k: int) -> None:
    b, c, q = 1.0, 1.5, 10.0
    found = float(drawn(b, c, p, k, count=40_000, seed=k).mean())
    # within 1 % of the scale b, and of Q, which makes all values positive
    assert best(q, b, c, p, k) - q == pytest.approx(found, abs=0.01 * b)
    assert best(q, b, c, p, k) == pytest.approx(q + found, rel=0.01)


@given(b=st.floats(0, 5), more=st.floats(0, 5), p=st.floats(0, 1), k=st.integers(1, 200), q=st.floats(-100, 100))
def test_expected_best_lies_between_bad_and_best_and_grows_with_k(
    b: float, more: float, p: float, k: int, q: float
) -> None:
    one, other = best(q, b, b + more, p, k), best(q, b, b + more, p, k + 1)
    assert q - b - more - 1e-9 <= one <= other + 1e-9
    assert other <= q + b + 1e-9


def test_the_target_without_the_draw_by_hand() -> None:
    reward, following = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([10.0, 10.0, 10.0])
    ended, chance = torch.tensor([False, False, True]), torch.tensor([0.1, 0.2, 0.1])
    y, weight = td_target_without_draw(reward, following, ended, chance, 0.5)
    torch.testing.assert_close(y, torch.tensor([1 + 0.5 * 9, 0.5 * 8, 1 + 0.5 * 9]))
    torch.testing.assert_close(weight, torch.tensor([1 / 0.9, 1 / 0.8, 0.0]))


@given(chance=st.floats(0.0, 0.9), q=st.floats(-5.0, 5.0))
def test_the_mean_error_is_that_with_the_draw(chance: float, q: float) -> None:
    # both outcomes of the coin, by their chances
    reward, following = torch.full((2,), 0.5, dtype=torch.float64), torch.full((2,), 3.0, dtype=torch.float64)
    ended = torch.tensor([False, True])
    likely = torch.tensor([1 - chance, chance], dtype=torch.float64)
    y, weight = td_target_without_draw(reward, following, ended, torch.full_like(reward, chance), 0.9)
    torch.testing.assert_close(
        (likely * weight * (y - q)).sum(), (likely * (td_target(reward, following, ended, 0.9) - q)).sum()
    )


def test_the_best_of_the_nearest_by_hand() -> None:
    worth = torch.tensor([[5.0, 1.0, 3.0, 4.0]]).repeat(4, 1)
    closeness = torch.tensor([[0.1, 0.9, 0.8, 0.2]]).repeat(4, 1)
    for k, value, column in ((1, 1.0, 1), (2, 3.0, 2), (3, 4.0, 3), (4, 5.0, 0)):
        found = best_of_nearest(worth, closeness, k)
        assert [x[0].tolist() for x in found] == [[value], [column]], k
    assert [x[0].tolist() for x in best_of_nearest(worth, None, 4)] == [[5.0], [0]]


@given(k=st.integers(1, 30), seed=st.integers(0, 2**16))
def test_the_best_of_the_nearest_is_that_of_a_sorted_search(k: int, seed: int) -> None:
    draw = Generator().manual_seed(seed)
    worth, closeness = torch.randn(2, 5, 30, generator=draw)
    near = closeness.topk(k, dim=1).indices
    value, column = best_of_nearest(worth, closeness, k)
    largest, place = worth.gather(1, near).max(dim=1, keepdim=True)
    assert torch.equal(value, largest)
    assert torch.equal(column, near.gather(1, place))
    assert torch.equal(largest_columns(closeness, k).sort(dim=1).values, near.sort(dim=1).values)
