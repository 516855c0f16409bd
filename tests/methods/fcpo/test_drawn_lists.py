"""The two distributions of lists held against torch.distributions, their slopes and metrics against its derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from slatewise.methods.fcpo.drawn_lists import Drawn, RowGaussians, RowSoftmaxes

LISTS, SLOTS, WIDTH, ROWS = 4, 2, 3, 7
SLATE = torch.tensor([[2, 3], [6, 2], [4, 0], [5, 4]])
"""The third list has an empty slot."""
SHOWN = SLATE > 0
EVERY = torch.ones(LISTS, dtype=torch.bool)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


OLD, NEW = normal(LISTS, SLOTS, 2 * WIDTH, seed=0), normal(LISTS, SLOTS, 2 * WIDTH, seed=1)
VECTORS, GAIN = normal(ROWS, WIDTH, seed=2), normal(LISTS, SLOTS, seed=3)
W = normal(LISTS, SLOTS, WIDTH, seed=4)


def categorical(outputs: Tensor) -> Categorical:
    """Row k over the items 2 … 6 without what stands in the slots before."""
    logits = outputs[..., :WIDTH] @ VECTORS.T
    logits[..., :2] = -1e9
    logits[torch.arange(LISTS), 1, SLATE[:, 0]] = -1e9
    return Categorical(logits=logits)


def gaussian(outputs: Tensor) -> Normal:
    mean, log_std = outputs.chunk(2, dim=2)
    return Normal(mean, log_std.exp())


def log_p_of_lists(outputs: Tensor) -> Tensor:
    log_p: Tensor = categorical(outputs).log_prob(SLATE)
    return log_p * SHOWN


def log_p_of_rows(outputs: Tensor) -> Tensor:
    log_p: Tensor = gaussian(outputs).log_prob(W).sum(dim=2)
    return log_p * SHOWN


def divergence_of_lists(outputs: Tensor) -> Tensor:
    return (kl_divergence(categorical(OLD), categorical(outputs)) * SHOWN).sum() / LISTS


def divergence_of_rows(outputs: Tensor) -> Tensor:
    return (kl_divergence(gaussian(OLD), gaussian(outputs)).sum(dim=2) * SHOWN).sum() / LISTS


Oracle = Callable[[Tensor], Tensor]
DISTRIBUTIONS = [
    pytest.param(RowSoftmaxes(OLD, VECTORS, SLATE, None, EVERY), log_p_of_lists, divergence_of_lists, id="softmaxes"),
    pytest.param(RowGaussians(OLD, W, SLATE, EVERY), log_p_of_rows, divergence_of_rows, id="gaussians"),
]


@pytest.mark.parametrize(("drawn", "log_p", "divergence"), DISTRIBUTIONS)
def test_ratios_and_divergences(drawn: Drawn, log_p: Oracle, divergence: Oracle) -> None:
    ours, kl = drawn.compare(NEW)
    # densities lack the constant that a ratio cancels
    torch.testing.assert_close(ours - drawn.log_p, log_p(NEW) - log_p(OLD))
    torch.testing.assert_close(kl, divergence(NEW))
    torch.testing.assert_close(drawn.compare(OLD)[1], torch.zeros((), dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("drawn", "log_p", "divergence"), DISTRIBUTIONS)
def test_the_slope_is_the_gradient(drawn: Drawn, log_p: Oracle, divergence: Oracle) -> None:
    outputs = OLD.clone().requires_grad_()
    (expected,) = torch.autograd.grad((GAIN * log_p(outputs)).sum() / LISTS, outputs)
    torch.testing.assert_close(drawn.slope(GAIN), expected)


@pytest.mark.parametrize(("drawn", "log_p", "divergence"), DISTRIBUTIONS)
def test_the_metric_is_the_hessian_of_the_divergence(drawn: Drawn, log_p: Oracle, divergence: Oracle) -> None:
    along = normal(LISTS, SLOTS, 2 * WIDTH, seed=5)
    _, expected = torch.autograd.functional.hvp(divergence, OLD, along)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(drawn.metric(along), expected)


def test_only_what_is_open_can_be_chosen() -> None:
    open_items = torch.ones(LISTS, ROWS, dtype=torch.bool)
    open_items[0, 6] = False
    drawn = RowSoftmaxes(OLD, VECTORS, SLATE, open_items, EVERY)
    logits = OLD[0, 0, :WIDTH] @ VECTORS[2:6].T
    expected = Categorical(logits=logits).log_prob(torch.tensor(0))
    torch.testing.assert_close(drawn.log_p[0, 0], expected)
