from __future__ import annotations

import pytest
import torch
from torch import nn

from slatewise.nn.descent import descend, num_steps
from slatewise.schedules import linear


def test_a_scheduled_step_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimiser = torch.optim.SGD([weight], lr=99.0, momentum=0.0)
    descend(2 * weight.sum(), [weight], optimiser, 10.0, lr=linear(0.5, 0.0, updates=2))
    assert weight.item() == 0.0  # 1 − .5 · 2
    descend(2 * weight.sum(), [weight], optimiser, 0.5, lr=0.25)
    # a number leaves the optimiser's own rate, .5 by now, alone; the gradient is clipped from 2 to .5
    assert weight.item() == pytest.approx(-0.25, abs=1e-5)


def test_an_optimiser_counts_its_steps() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimiser = torch.optim.Adam([weight], lr=0.1)
    schedule = linear(0.4, 0.1, updates=3)
    rates = []
    for steps in range(4):
        assert num_steps(optimiser) == steps
        descend(weight.square().sum(), [weight], optimiser, 1.0, lr=schedule)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])
