from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers

from slatewise.ops.calibration import reliability
from slatewise.ops.sessions import autocorrelation, fit_wear, mixture_draw, mixture_log_density, sum_since_reset


def test_sums_begin_anew_by_hand() -> None:
    amount = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, -1.0, 2.0, 0.0, 7.0]])
    reset = torch.tensor([[False, True, False, True, False], [False, False, False, False, True]])
    expected = torch.tensor([[1.0, 3.0, 3.0, 7.0, 5.0], [1.0, 0.0, 2.0, 2.0, 9.0]])
    torch.testing.assert_close(sum_since_reset(amount, reset), expected)
    both = sum_since_reset(torch.stack([amount, 2 * amount], dim=2), reset)
    torch.testing.assert_close(both, torch.stack([expected, 2 * expected], dim=2))


@given(seed=integers(0, 2**31))
def test_sums_begin_anew_as_a_loop_has_it(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    amount = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    reset = torch.rand(3, 7, generator=generator) < 0.3
    result = sum_since_reset(amount, reset)
    for row in range(3):
        total = 0.0
        for t in range(7):
            total += float(amount[row, t])
            assert float(result[row, t]) == pytest.approx(total)
            total = 0.0 if reset[row, t] else total


def test_autocorrelation_by_hand() -> None:
    turns = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 9.0, 9.0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    assert autocorrelation(turns, mask, 1) == pytest.approx(-1.0)  # pairs do not reach over into another session
    assert autocorrelation(turns[:1], mask[:1], 2) == pytest.approx(1.0)
    assert math.isnan(autocorrelation(torch.ones(2, 4), mask, 1))
    assert math.isnan(autocorrelation(turns, mask, 4))


def test_mixture_density_by_hand() -> None:
    logits = torch.tensor([math.log(1.0), math.log(3.0)])
    mean, log_std = torch.tensor([0.0, 2.0]), torch.tensor([0.0, math.log(2.0)])
    at_one = 0.25 * math.exp(-0.5) / math.sqrt(2 * math.pi) + 0.75 * math.exp(-0.125) / (2 * math.sqrt(2 * math.pi))
    result = mixture_log_density(torch.tensor(1.0), logits, mean, log_std)
    assert float(result) == pytest.approx(math.log(at_one), abs=1e-6)


def test_a_mixture_draws_its_parts_in_their_shares() -> None:
    logits = torch.tensor([[math.log(1.0), math.log(3.0)]]).expand(4, 2)
    mean, log_std = torch.tensor([[0.0, 2.0]]).expand(4, 2), torch.tensor([[0.0, math.log(2.0)]]).expand(4, 2)
    uniform, normal = torch.tensor([0.0, 0.24, 0.26, 0.999]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    torch.testing.assert_close(
        mixture_draw(logits, mean, log_std, uniform, normal), torch.tensor([1.0, -1.0, 4.0, 0.0])
    )


def test_wear_is_found_where_sessions_end_at_their_limit() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.tensor([0.05, 0.02, 0.1], dtype=torch.float64)
    counts = torch.randint(1, 9, (400, 3), generator=generator).double()
    counts = counts / (counts @ true).unsqueeze(1)  # each session ends where its wear is 1
    result = fit_wear(counts.T @ counts, counts.sum(dim=0), torch.full((3,), 0.3, dtype=torch.float64), ridge=1e-6)
    torch.testing.assert_close(result, true, rtol=1e-4, atol=1e-6)


def test_wear_before_anything_was_seen_is_the_prior() -> None:
    prior = torch.tensor([0.1, 0.2], dtype=torch.float64)
    nothing = torch.zeros(2, dtype=torch.float64)
    torch.testing.assert_close(fit_wear(torch.zeros(2, 2, dtype=torch.float64), nothing, prior), prior)


def test_reliability_by_hand() -> None:
    result = reliability(torch.tensor([0.1, 0.2, 0.9, 1.0]), torch.tensor([False, True, True, True]), bins=2)
    assert result.count.tolist() == [2, 2]
    assert result.predicted.tolist() == pytest.approx([0.15, 0.95])
    assert result.observed.tolist() == [0.5, 1.0]
    assert result.error == pytest.approx(0.5 * 0.35 + 0.5 * 0.05)


def test_an_empty_bin_is_no_error() -> None:
    result = reliability(torch.tensor([0.5, 0.5]), torch.tensor([True, False]), bins=4)
    assert math.isnan(result.predicted[0].item())
    assert result.error == 0.0
