from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists

from slatewise.ops.importance import (
    importance_weight,
    self_normalised,
    self_normalised_baseline,
    top_k_multiplier,
)


def test_importance_weight_by_hand() -> None:
    log_pi, log_beta = torch.tensor([0.5, 0.1, 0.9]).log(), torch.tensor([0.25, 0.4, 0.01]).log()
    torch.testing.assert_close(importance_weight(log_pi, log_beta), torch.tensor([2.0, 0.25, 90.0]))
    torch.testing.assert_close(importance_weight(log_pi, log_beta, cap=3.0), torch.tensor([2.0, 0.25, 3.0]))


def test_no_gradient_goes_through_the_weight() -> None:
    log_pi = torch.tensor([-1.0], requires_grad=True)
    assert not importance_weight(log_pi, torch.tensor([-2.0])).requires_grad


def test_an_item_that_the_policy_never_shows_weighs_nothing() -> None:
    weight = importance_weight(torch.tensor([-math.inf]), torch.tensor([-2.0]), cap=5.0)
    assert weight.tolist() == [0.0]


def test_top_k_multiplier_by_hand() -> None:
    log_pi = torch.tensor([0.5, 0.1]).log()
    torch.testing.assert_close(top_k_multiplier(log_pi, k=2), torch.tensor([1.0, 1.8]))  # 2 · (1 − π)
    assert top_k_multiplier(log_pi, k=1).tolist() == [1.0, 1.0]


def test_top_k_multiplier_at_its_ends() -> None:
    certain, never = torch.tensor([0.0]), torch.tensor([-math.inf])
    assert top_k_multiplier(certain, k=4).tolist() == [0.0]
    assert top_k_multiplier(never, k=4).tolist() == [4.0]
    # π = 1 − 10⁻⁷: λ = 2 · 10⁻⁷, of which log1p(−exp) would keep no digit
    torch.testing.assert_close(top_k_multiplier(torch.tensor([-1e-7]), k=2), torch.tensor([2e-7]), atol=0, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(pi=floats(1e-6, 1 - 1e-6), k=integers(1, 64))
def test_top_k_multiplier_is_the_slope_of_alpha(pi: float, k: int) -> None:
    x = torch.tensor(pi, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(1 - (1 - x) ** k, x)
    torch.testing.assert_close(top_k_multiplier(x.detach().log(), k), slope)


def test_self_normalised_by_hand() -> None:
    # mean 2
    torch.testing.assert_close(self_normalised(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([0.5, 1.0, 1.5]))
    assert self_normalised(torch.zeros(2)).tolist() == [0.0, 0.0]
    assert self_normalised(torch.zeros(0)).tolist() == []


@settings(max_examples=25, deadline=None)
@given(weights=lists(floats(1e-3, 1e3), min_size=1, max_size=8), scale=floats(0.1, 10))
def test_self_normalised_weights_average_one_whatever_their_scale(weights: list[float], scale: float) -> None:
    weight = torch.tensor(weights, dtype=torch.float64)
    normalised = self_normalised(weight * scale)
    torch.testing.assert_close(normalised.mean(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(normalised, self_normalised(weight))


def test_self_normalised_baseline_by_hand() -> None:
    weight, returns = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 6.0])
    assert float(self_normalised_baseline(weight, returns)) == 5.0  # (2 + 18) / 4
    assert float(self_normalised_baseline(torch.zeros(2), returns)) == 0.0


@settings(max_examples=25, deadline=None)
@given(weights=lists(floats(1e-3, 1e3), min_size=1, max_size=8), shift=floats(-5, 5))
def test_the_baseline_moves_with_the_returns(weights: list[float], shift: float) -> None:
    weight = torch.tensor(weights, dtype=torch.float64)
    returns = torch.linspace(-1, 1, len(weight), dtype=torch.float64)
    moved = self_normalised_baseline(weight, returns + shift) - self_normalised_baseline(weight, returns)
    torch.testing.assert_close(moved, torch.tensor(shift, dtype=torch.float64))
