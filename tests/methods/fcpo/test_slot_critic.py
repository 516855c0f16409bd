from __future__ import annotations

import pytest
import torch
from torch import Generator

from slatewise.methods.fcpo.slot_critic import SlotCritic, SlotCriticConfig


def critic(steps: int = 1) -> SlotCritic:
    config = SlotCriticConfig(hidden=4, lr=0.05, steps=steps)
    return SlotCritic(config, state_width=1, slots=2, generator=Generator().manual_seed(0))


STATES = torch.zeros(2, 1)
PARTS = torch.tensor([[1.0, 0.0, 5.0], [0.0, 2.0, 1.0]])
"""Of two lists: what the first and the second slot gave, and what followed."""


def test_advantages_by_hand() -> None:
    # the critic says 0: 1 + 5, 0 + 5; 0 + 1, 2 + 1; less the means of the slots, 3.5 and 4
    shown = torch.ones(2, 2, dtype=torch.bool)
    torch.testing.assert_close(critic().advantage(STATES, PARTS, shown), torch.tensor([[2.5, 1.0], [-2.5, -1.0]]))


def test_an_empty_slot_counts_for_no_mean() -> None:
    shown = torch.tensor([[True, True], [True, False]])
    assert critic().advantage(STATES, PARTS, shown)[0].tolist() == [2.5, 0.0]
    # squared errors 1 + 0 + 25 + 0 + 1, of five numbers
    assert critic().fit(STATES, PARTS, shown, clip_norm=1e9) == pytest.approx(27 / 5)


def test_it_learns_the_mean_of_each_part() -> None:
    built = critic(steps=800)
    built.fit(STATES, PARTS, torch.ones(2, 2, dtype=torch.bool), clip_norm=1e9)
    # all states are the same, so what is left over is the distance from the mean of the lists
    torch.testing.assert_close(
        built.advantage(STATES, PARTS + torch.tensor([4.0, 0.0, 0.0]), torch.ones(2, 2, dtype=torch.bool)),
        torch.tensor([[2.5, 1.0], [-2.5, -1.0]]),
        atol=1e-3,
        rtol=0,
    )
    left = PARTS - built.network(STATES).detach()
    torch.testing.assert_close(left, torch.tensor([[0.5, -1.0, 2.0], [-0.5, 1.0, -2.0]]), atol=1e-2, rtol=0)
