"""Recurrent encoders: rolled-out steps, repeated states, and item tables learned by the rows that were read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slatewise.encoders import cfn, gru
from slatewise.nn.item_table import RowWiseAdagrad
from slatewise.ops.history import uses_of
from slatewise.sim.toys import catalog
from slatewise.types import Trajectories, used_at_once

Built = cfn.Encoder | gru.Encoder
SETTINGS = {"width": 5, "item_width": 4, "reward_edges": (0.5,), "context_width": 2}
BUILD: dict[str, Callable[[torch.Generator], Built]] = {
    "cfn": lambda g: cfn.Encoder(cfn.Config(**SETTINGS), catalog(30), generator=g),  # type: ignore[arg-type]
    "gru": lambda g: gru.Encoder(gru.Config(**SETTINGS), catalog(30), generator=g),  # type: ignore[arg-type]
    "lstm": lambda g: gru.Encoder(gru.Config(cell="lstm", **SETTINGS), catalog(30), generator=g),  # type: ignore[arg-type]
}
every_cell = pytest.mark.parametrize("cell", BUILD)


def _encoder(cell: str) -> Built:
    encoder = BUILD[cell](torch.Generator().manual_seed(1))
    encoder.eval()
    return encoder


def _trajectories(batch: int = 6, steps: int = 9, slate: int = 3, seed: int = 0) -> Trajectories:
    g = torch.Generator().manual_seed(seed)
    length = torch.randint(1, steps + 1, (batch, 1), generator=g)
    mask = torch.arange(steps) < length
    mask[0] = True
    no = torch.zeros(batch, steps, dtype=torch.bool)
    zeros = torch.zeros(batch, steps, slate)
    time = torch.arange(steps).expand(batch, steps) * 1_000_000
    items = torch.randint(2, 32, (batch, steps, slate), generator=g) * mask.unsqueeze(2)
    reward = torch.rand(batch, steps, slate, generator=g) * mask.unsqueeze(2)
    used = (torch.rand(batch, steps, slate, generator=g) < 0.4) & mask.unsqueeze(2)
    return Trajectories(
        event_id=torch.arange(batch * steps).view(batch, steps),
        policy_id=torch.zeros(batch, steps, dtype=torch.int64),
        user=torch.arange(batch).unsqueeze(1).expand(batch, steps),
        time=time,
        terminated=no,
        truncated=no,
        slate=items,
        logp=zeros,
        logp_known=no,
        reward=reward,
        cost=zeros,
        **used_at_once(used, time=time, reward=reward),
        mask=mask,
        learn=mask,
        context=torch.rand(batch, steps + 1, 2, generator=g),
    )


@every_cell
def test_steps_rolled_out_are_the_forward_pass(cell: str) -> None:
    encoder, trajectories = _encoder(cell), _trajectories()
    with torch.no_grad():
        states = encoder(trajectories)
        carry = encoder.initial(len(trajectories.mask))
        rolled = [encoder.state(carry, trajectories.observation(0))]
        for t in range(trajectories.mask.shape[1]):
            carry = encoder.step(carry, uses_of(trajectories.step(t)))
            rolled.append(encoder.state(carry, trajectories.observation(t + 1)))
    torch.testing.assert_close(states, torch.stack(rolled, dim=1), rtol=1e-4, atol=1e-6)


@every_cell
def test_a_step_without_a_use_repeats_the_state(cell: str) -> None:
    encoder, trajectories = _encoder(cell), _trajectories()
    trajectories = trajectories.replace(context=torch.zeros_like(trajectories.context))
    with torch.no_grad():
        states = encoder(trajectories)
    still = ~trajectories.used.any(dim=2)
    assert bool(still.any())
    assert torch.equal(states[:, 1:][still], states[:, :-1][still])
    assert not torch.equal(states[:, 1:][~still], states[:, :-1][~still])


@every_cell
def test_nobody_used_anything(cell: str) -> None:
    trajectories = _trajectories()
    trajectories = trajectories.replace(used=torch.zeros_like(trajectories.used))
    with torch.no_grad():
        states = _encoder(cell)(trajectories)
    assert states.shape == (6, 10, 5)


def _gradient(encoder: Built, trajectories: Trajectories) -> dict[str, Tensor]:
    encoder(trajectories).square().sum().backward()
    return {name: value.grad.clone() for name, value in encoder.named_parameters() if value.grad is not None}


@every_cell
def test_a_table_learned_by_row_gets_the_gradient_of_a_dense_one(cell: str) -> None:
    trajectories = _trajectories()
    dense, by_row = _encoder(cell), _encoder(cell)
    expected = _gradient(dense, trajectories)
    optimiser = RowWiseAdagrad({"items": by_row.reader.item}, learning_rate=0.1, frozen=2)
    before = by_row.reader.item.weight.clone()
    found = _gradient(by_row, trajectories)
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])
    table = expected["reader.item.weight"]
    optimiser.step()
    read = table.abs().sum(dim=1) > 0
    assert bool(read.any())
    assert bool((~read[2:]).any())
    memory = table.square().mean(dim=1)
    after = before - 0.1 * table / (memory.sqrt() + 1e-10).unsqueeze(1)
    torch.testing.assert_close(by_row.reader.item.weight[2:], after[2:])
    assert torch.equal(by_row.reader.item.weight[~read], before[~read])
