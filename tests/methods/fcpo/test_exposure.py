from __future__ import annotations

import pytest
import torch
from torch import Generator

from slatewise.methods.fcpo.exposure import Exposure, ExposureConfig
from slatewise.methods.fcpo.slot_critic import SlotCritic, SlotCriticConfig


def popular(exposure: Exposure) -> list[int]:
    found: list[int] = exposure.popular.nonzero().flatten().tolist()
    return found


def test_groups_that_drift() -> None:
    exposure = Exposure(ExposureConfig(share=0.34, memory=0.5, regroup_every=2), 8)  # 2 of 6 items
    exposure.count(torch.tensor([[2, 3], [2, 0]]))
    assert popular(exposure) == [2, 3]  # the first count chooses
    exposure.count(torch.tensor([4, 4, 4, 1]))
    # 2: ½ · 2, 3: ½ · 1, 4: 3
    assert exposure.counts.tolist() == [0, 0, 1.0, 0.5, 3.0, 0, 0, 0]
    assert popular(exposure) == [2, 4]
    exposure.count(torch.tensor([5] * 9))
    assert popular(exposure) == [2, 4]  # not yet
    assert exposure.most_shown().nonzero().flatten().tolist() == [4, 5]
    exposure.count(torch.tensor([5]))
    assert popular(exposure) == [4, 5]


def test_groups_that_stay() -> None:
    exposure = Exposure(ExposureConfig(share=0.34), 8)
    exposure.start(torch.tensor([9.0, 9.0, 0, 0, 1, 0, 2, 0]))
    assert exposure.counts[:2].tolist() == [0.0, 0.0]
    for _ in range(5):
        exposure.count(torch.tensor([2] * 9))
    assert popular(exposure) == [4, 6]
    again = Exposure(ExposureConfig(share=0.34), 8)
    again.load_state_dict(exposure.state_dict())
    assert popular(again) == [4, 6]
    assert torch.equal(again.counts, exposure.counts)


def test_a_critic_learns_what_slots_give_and_what_follows() -> None:
    generator = Generator().manual_seed(0)
    config = SlotCriticConfig(hidden=8, lr=0.05, steps=200)
    critic = SlotCritic(config, state_width=2, slots=3, generator=generator)
    state = torch.randn(64, 2, generator=generator)
    parts = torch.stack([state[:, 0], torch.full((64,), 2.0), torch.full((64,), 5.0)], dim=1)
    shown = torch.ones(64, 2, dtype=torch.bool)
    # it begins at 0: own + what follows, centred slot by slot
    first = critic.advantage(state, parts, shown)
    torch.testing.assert_close(first[:, 0], state[:, 0] - state[:, 0].mean())
    assert not bool(first[:, 1].any())
    before = critic.fit(state, parts, shown, clip_norm=5.0)
    assert before == pytest.approx(float(parts.square().mean()), rel=1e-5)
    assert critic.fit(state, parts, shown, clip_norm=5.0) < 0.05
    assert float(critic.advantage(state, parts, shown).abs().max()) < 0.5
