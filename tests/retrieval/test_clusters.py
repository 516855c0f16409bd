from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from slatewise.retrieval._clusters import balanced_clusters


def cost(points: Tensor, label: Tensor, count: int) -> Tensor:
    """Σ |x − m|² of each group."""
    total = torch.zeros(len(points))
    for cluster in range(count):
        members = (label == cluster).unsqueeze(2)
        centre = (points * members).sum(dim=1) / members.sum(dim=1).clamp(min=1)
        total += ((points - centre.unsqueeze(1)).square() * members).sum(dim=(1, 2))
    return total


def sizes(label: Tensor, count: int) -> Tensor:
    return torch.stack([(label == cluster).sum(dim=1) for cluster in range(count)], dim=1)


def in_turn(groups: int, rows: int, count: int) -> Tensor:
    """Row i in cluster i mod c: the lowest clusters have one more."""
    return (torch.arange(rows) % count).expand(groups, -1)


def test_pairs_on_a_line_by_hand() -> None:
    """0, 1 | 10, 11 | 50, 51, from a start where every pair is torn apart; and the odd one out stays with the rest."""
    points = torch.tensor([0.0, 10.0, 50.0, 1.0, 11.0, 51.0]).view(1, 6, 1)
    start = torch.tensor([[0, 0, 1, 1, 2, 2]])
    result = balanced_clusters(points, start, 3)[0].tolist()
    assert result[0] == result[3] != result[1] == result[4] != result[2] == result[5] != result[0]
    # five rows, two clusters: three of them must stand together, and 1 is nearer to 0 than 0.9 away from 2
    points = torch.tensor([0.0, 2.0, 1.0, 9.0, 10.0]).view(1, 5, 1)
    assert balanced_clusters(points, in_turn(1, 5, 2), 2)[0].tolist() == [0, 0, 0, 1, 1]


def test_groups_do_not_see_each_other() -> None:
    first, second = (torch.randn(1, 90, 3, generator=Generator().manual_seed(seed)) for seed in (0, 1))
    both = balanced_clusters(torch.cat([first, 50 + 9 * second]), in_turn(2, 90, 7), 7)
    assert torch.equal(both[0], balanced_clusters(first, in_turn(1, 90, 7), 7)[0])
    assert torch.equal(both[1], balanced_clusters(50 + 9 * second, in_turn(1, 90, 7), 7)[0])


@given(
    groups=st.integers(1, 4),
    rows=st.integers(1, 120),
    count=st.integers(2, 12),
    width=st.integers(1, 5),
    kinds=st.integers(1, 120),
    tail=st.sampled_from([1.0, 3.0, 6.0]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150)
def test_balanced_and_never_worse(
    groups: int, rows: int, count: int, width: int, kinds: int, tail: float, seed: int
) -> None:
    """Also with rows that are all the same, fewer rows than clusters, and long tails."""
    drawn = torch.randn(groups, kinds, width, generator=Generator().manual_seed(seed))
    points = (drawn.sign() * drawn.abs() ** tail)[:, torch.arange(rows) % kinds]
    start = in_turn(groups, rows, count)
    result = balanced_clusters(points, start, count)
    assert torch.equal(sizes(result, count), sizes(start, count))
    cost_before, cost_after = cost(points, start, count), cost(points, result, count)
    assert bool((cost_after <= cost_before + 1e-3 * points.square().sum(dim=(1, 2)) + 1e-6).all())


@pytest.mark.parametrize("rows", [3000, 20_000])
def test_clouds_are_found_from_a_start_that_parts_them_wrongly(rows: int) -> None:
    """Ten clouds, a quarter of each with the next; 20,000 rows are more than centres are looked for in."""
    generator = Generator().manual_seed(5)
    cloud = torch.arange(rows) % 10
    points = (6 * torch.randn(10, 8, generator=generator)[cloud] + torch.randn(rows, 8, generator=generator))[None]
    torn = (torch.arange(rows) // 10 % 4 == 0).long()
    start = ((cloud + torn) % 10)[None]
    result = balanced_clusters(points, start, 10)
    best = float(cost(points, cloud[None], 10))
    assert float(cost(points, start, 10)) > 3 * best
    assert float(cost(points, result, 10)) < 1.001 * best
