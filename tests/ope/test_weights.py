from __future__ import annotations

import math

import pytest
import torch

from slatewise.ope.weights import effective_number, generalised_pareto_shape, largest_share, pareto_k


def test_the_effective_number_and_the_largest_share_by_hand() -> None:
    weight = torch.tensor([2.0, 1.0, 1.0, 0.0])
    assert effective_number(weight) == pytest.approx(16 / 6)
    assert largest_share(weight) == 0.5
    assert effective_number(torch.full((7,), 3.0)) == pytest.approx(7)
    assert (effective_number(torch.zeros(3)), largest_share(torch.zeros(3))) == (0.0, 0.0)


def test_the_shape_of_a_small_sample() -> None:
    """The grid of 32 values of θ worked out one by one, in another order of operations."""
    excess = [0.1, 0.4, 0.9, 2.0, 8.0]
    grid = 30 + 2
    quartile = excess[0]  # ⌊5/4 + ½⌋ = 1
    theta = [1 / 8 + (1 - math.sqrt(grid / (j - 0.5))) / (3 * quartile) for j in range(1, grid + 1)]
    shape = [sum(math.log(1 - t * x) for x in excess) / 5 for t in theta]
    likelihood = [5 * (math.log(-t / k) - k - 1) for t, k in zip(theta, shape, strict=True)]
    weight = [1 / sum(math.exp(other - one) for other in likelihood) for one in likelihood]
    mean = sum(w * t for w, t in zip(weight, theta, strict=True))
    expected = sum(math.log(1 - mean * x) for x in excess) / 5
    assert generalised_pareto_shape(torch.tensor(excess, dtype=torch.float64)) == pytest.approx(expected)
    assert expected == pytest.approx(1.1590, abs=1e-4)


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.2])
def test_the_shape_of_a_pareto_sample(shape: float) -> None:
    # P(X > x) = x^(−1/k): its tail is a generalised Pareto distribution of shape k from any threshold on
    uniform = torch.rand(40_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    # 600 weights lie in the tail: the standard error of k̂ is about (1 + k) / √600
    assert pareto_k((1 - uniform) ** -shape) == pytest.approx(shape, abs=3 * (1 + shape) / math.sqrt(600))


def test_bounded_weights_have_a_light_tail() -> None:
    uniform = torch.rand(5_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert pareto_k(uniform) < 0


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(0), torch.ones(1000), torch.arange(10.0), torch.tensor([0.0, 2.0]).repeat(500)],
    ids=["none", "equal", "few", "two values"],
)
def test_no_tail(weight: torch.Tensor) -> None:
    assert pareto_k(weight) == -math.inf


def test_rounding_makes_no_tail() -> None:
    # steps of weight 4 with one chance in four, each a little off, as log-propensities in single precision are
    generator = torch.Generator().manual_seed(0)
    step = (
        4.0
        * (torch.rand(2000, 10, generator=generator) < 0.25)
        * (1 + 1e-7 * torch.randn(2000, 10, generator=generator))
    )
    assert len(torch.unique(step.sum(dim=1))) > 30
    assert pareto_k(step.sum(dim=1)) == -math.inf
