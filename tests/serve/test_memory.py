"""Memories: moved one use at a time they hold what `forward` computes, and bytes keep every bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.serve.world import NUM_ITEMS, catalog
from torch import Generator

from slatewise import config as configs
from slatewise.ops.history import history_of
from slatewise.protocols import StateEncoder
from slatewise.serve.memory import carry_after_each, carry_bytes, carry_from
from slatewise.types import Trajectories

ENCODERS: list[tuple[str, dict[str, object]]] = [
    ("gru", {"context_width": 2, "reward_edges": [1.0, 3.0]}),
    ("gru", {"context_width": 2, "reward_edges": [1.0], "cell": "lstm"}),
    ("cfn", {"context_width": 2, "reward_edges": [1.0, 3.0]}),
    ("window", {"length": 5}),
]


def encoder(name: str, settings: dict[str, object]) -> StateEncoder:
    module = configs.find("encoders", name)
    if name != "window":
        settings = {"width": 8, "item_width": 6, **settings}
    config = configs.convert(module.Config, settings, where="test")
    built: StateEncoder = module.Encoder(config, catalog(), generator=Generator().manual_seed(3))
    return built


def past(steps: int, *, seed: int = 0) -> Trajectories:
    """One user, three items a slate, none to three of them used, up to two decisions later; context of two numbers."""
    generator = Generator().manual_seed(seed)
    shape = (1, steps, 3)
    slate = torch.randint(2, NUM_ITEMS + 2, shape, generator=generator)
    reward = torch.randint(0, 5, shape, generator=generator).float()
    used = torch.rand(shape, generator=generator) < 0.5
    seen = torch.randn(1, steps + 1, 2, generator=generator)
    no = torch.zeros(1, steps, dtype=torch.bool)
    number = torch.arange(steps).unsqueeze(0)
    moments = number.unsqueeze(2) * 1000 + torch.randint(0, 2500, shape, generator=generator)
    return Trajectories(
        event_id=number, policy_id=number, user=torch.zeros_like(number), time=number * 1000, terminated=no,
        truncated=no, slate=slate, logp=-torch.rand(shape, generator=generator), logp_known=~no, reward=reward,
        cost=torch.zeros_like(reward), used=used, used_time=torch.where(used, moments, 0),
        use_reward=torch.where(used, reward, 0.0), mask=~no, learn=~no, context=seen,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "settings"), ENCODERS)
def test_a_memory_moved_use_by_use_reads_as_forward_does(name: str, settings: dict[str, object]) -> None:
    model, history = encoder(name, settings), past(9)
    order = history_of(history)
    with torch.inference_mode():
        states = model(history)
        for steps in (0, 1, 2, 9):
            uses = order.uses.columns(slice(0, int(order.count[0, steps])))
            carry = carry_after_each(model, model.initial(1), uses)
            torch.testing.assert_close(model.state(carry, history.observation(steps)), states[:, steps])


@pytest.mark.parametrize(("name", "settings"), ENCODERS)
def test_bytes_between_all_uses_change_no_bit(name: str, settings: dict[str, object]) -> None:
    model, uses = encoder(name, settings), history_of(past(6)).uses
    with torch.inference_mode():
        straight = carry_after_each(model, model.initial(1), uses)
        carry = model.initial(1)
        for place in range(uses.item.shape[1]):
            carry = carry_from(carry_bytes(model.step(carry, uses.columns(slice(place, place + 1)))))
    assert torch.equal(carry, straight)


def test_a_carry_is_float32_in_little_endian() -> None:
    assert carry_bytes(torch.tensor([[1.0, -2.0]])) == np.array([1.0, -2.0], "<f4").tobytes()
    assert carry_from(carry_bytes(torch.zeros(1, 0))).shape == (1, 0)
