"""Balanced k-means held against k-means-constrained, which assigns by minimum-cost flow (Bradley et al. 2000).

Prices on clusters are faster than a flow and not exact. How much tightness they may cost is stated here: nothing to
speak of where one density rules; up to half as much again where groups of a few rows each have centres far apart and
unequal shares of the rows.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from k_means_constrained import KMeansConstrained
from torch import Generator, Tensor

from slatewise.retrieval.tree import Cut, build


def spread(points: Tensor, label: Tensor) -> float:
    """Σ |x − m|² over all clusters."""
    clusters = [points[label == cluster] for cluster in range(int(label.max()) + 1)]
    return sum(float((rows - rows.mean(dim=0)).square().sum()) for rows in clusters)


def clusters(points: Tensor, count: int, cut: Cut) -> Tensor:
    """Which child of the root each row stands below, in a tree of arity `count`."""
    numbers = torch.arange(2, len(points) + 2)
    depth = next(depth for depth in range(1, 9) if count**depth >= len(points))
    tree = build(points, numbers, depth=depth, arity=count, cut=cut)
    leaves_of_a_child: int = count ** (depth - 1)
    return tree.leaves(numbers) // leaves_of_a_child


def by_flow(points: Tensor, start: Tensor, count: int) -> Tensor:
    centres = torch.stack([points[start == cluster].mean(dim=0) for cluster in range(count)])
    model = KMeansConstrained(
        n_clusters=count,
        size_min=len(points) // count,
        size_max=-(-len(points) // count),
        init=centres.double().numpy(),
        n_init=1,
        n_jobs=1,
        random_state=0,
    )
    return torch.from_numpy(np.asarray(model.fit_predict(points.double().numpy()), np.int64))


@pytest.mark.parametrize(
    ("kind", "rows", "count", "width", "ratio"),
    [
        ("normal", 120, 5, 4, 1.03),
        ("normal", 400, 8, 6, 1.03),
        ("normal", 605, 3, 8, 1.03),
        ("normal", 1000, 10, 16, 1.03),
        ("long tail", 400, 8, 6, 1.03),
        ("long tail", 1000, 10, 16, 1.03),
        ("uneven clouds", 605, 3, 8, 1.03),
        ("uneven clouds", 1000, 10, 16, 1.1),
        ("uneven clouds", 300, 20, 3, 1.5),
    ],
)
def test_as_tight_as_by_flow(kind: str, rows: int, count: int, width: int, ratio: float) -> None:
    generator = Generator().manual_seed(1)
    points = torch.randn(rows, width, generator=generator)
    if kind == "long tail":
        points = points.sign() * points.square()
    elif kind == "uneven clouds":
        centres = 4 * torch.randn(count, width, generator=generator)
        points = points + centres[torch.randint(count, (rows,), generator=generator)]
    start, ours = clusters(points, count, "pca"), clusters(points, count, "kmeans")
    expected = by_flow(points, start, count)
    assert sorted(torch.bincount(ours).tolist()) == sorted(torch.bincount(expected).tolist())
    assert spread(points, ours) <= ratio * spread(points, expected)
    assert spread(points, ours) <= spread(points, start)
