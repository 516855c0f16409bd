from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, none, one_of

from slatewise.ops.returns import discounted_returns, threshold

NEVER = torch.zeros(1, 3, dtype=torch.bool)


def test_returns_by_hand() -> None:
    # 3 · 2 + .5 · 3 = 3.5 · 1 + .5 · 3.5 = 2.75
    returns = discounted_returns(torch.tensor([[1.0, 2.0, 3.0]]), 0.5, ends=NEVER)
    torch.testing.assert_close(returns, torch.tensor([[2.75, 3.5, 3.0]]))


def test_nothing_counts_beyond_the_end_of_a_session() -> None:
    ends = torch.tensor([[False, True, False]])
    returns = discounted_returns(torch.tensor([[1.0, 2.0, 3.0]]), 0.5, ends=ends)
    torch.testing.assert_close(returns, torch.tensor([[2.0, 2.0, 3.0]]))  # 1 + .5 · 2


def test_a_horizon_in_time_by_hand() -> None:
    time = torch.tensor([[0, 10, 25]])
    returns = discounted_returns(torch.tensor([[1.0, 2.0, 3.0]]), 0.5, ends=NEVER, time=time, horizon=10)
    # at the horizon counts (1 + .5 · 2), beyond it does not (2)
    torch.testing.assert_close(returns, torch.tensor([[2.0, 2.0, 3.0]]))


def test_padding_has_no_time_and_shortens_no_horizon() -> None:
    # two steps 15 apart, then padding, of which the time is 0
    time, reward = torch.tensor([[100, 115, 0, 0, 0]]), torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0]])
    ends = torch.zeros(1, 5, dtype=torch.bool)
    returns = discounted_returns(reward, 0.5, ends=ends, time=time, horizon=10)
    torch.testing.assert_close(returns, torch.tensor([[1.0, 2.0, 0.0, 0.0, 0.0]]))
    returns = discounted_returns(reward, 0.5, ends=ends, time=time, horizon=15)
    torch.testing.assert_close(returns, torch.tensor([[2.0, 2.0, 0.0, 0.0, 0.0]]))


@settings(max_examples=25, deadline=None)
@given(
    gamma=floats(0, 1),
    steps=integers(1, 7),
    horizon=one_of(none(), integers(0, 20)),
    seed=integers(0, 10_000),
)
def test_returns_are_the_sum_written_out(gamma: float, steps: int, horizon: int | None, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    reward = torch.randn(2, steps, dtype=torch.float64, generator=generator)
    ends = torch.rand(2, steps, generator=generator) < 0.3
    time = torch.randint(0, 8, (2, steps), generator=generator).cumsum(dim=1)
    expected = torch.zeros_like(reward)
    for row in range(2):
        for t in range(steps):
            for later in range(t, steps):
                if horizon is None or time[row, later] <= time[row, t] + horizon:
                    expected[row, t] += gamma ** (later - t) * reward[row, later]
                if ends[row, later]:
                    break
    result = discounted_returns(reward, gamma, ends=ends, time=time, horizon=horizon)
    torch.testing.assert_close(result, expected)


def test_no_steps_have_no_returns() -> None:
    nothing = torch.zeros(2, 0)
    assert discounted_returns(nothing, 0.9, ends=nothing.bool()).shape == (2, 0)


def test_a_horizon_needs_times() -> None:
    with pytest.raises(ValueError, match="a horizon in time needs the times of the steps"):
        discounted_returns(torch.zeros(1, 3), 0.9, ends=NEVER, horizon=5)


def test_threshold_by_hand() -> None:
    ratings = torch.tensor([[3.5, 4.0], [5.0, 0.0]])
    assert threshold(ratings, 4.0).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert threshold(ratings, None) is ratings
