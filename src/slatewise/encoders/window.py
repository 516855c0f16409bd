"""The last L picks themselves as the state, newest first: for methods that count instead of learn.

The state is (B, 2L): item numbers, then the rewards that came with them. Numbers up to 2²⁴ are exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.ops.choices import compacted, picked
from slatewise.protocols import Carry
from slatewise.types import Observation, Step, Trajectories

MOST_ITEMS = 2**24


@dataclass(frozen=True, kw_only=True)
class Config:
    """A window over the user's picks."""

    length: int = 512
    """L: how many picks are remembered."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length is {self.length}; expected at least 1 pick to remember")


class Encoder(nn.Module):
    """Has no weights."""

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        del generator
        if catalog.num_rows > MOST_ITEMS:
            raise ValueError(f"the window encoder holds item numbers up to {MOST_ITEMS:,}; got {catalog.num_rows:,}")
        self.config = config
        self.width = 2 * config.length

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """The window before each step and after the last."""
        moves = trajectories.mask & (trajectories.choice >= 0)
        order, count = compacted(moves)
        item = picked(trajectories.slate, trajectories.choice).gather(1, order).float()
        reward = picked(trajectories.reward, trajectories.choice).gather(1, order)
        if not order.shape[1]:
            return item.new_zeros(*count.shape, self.width)
        back = count.unsqueeze(2) - 1 - torch.arange(self.config.length, device=count.device)
        at = back.clamp(min=0).flatten(1)
        parts = [values.gather(1, at).view(back.shape).masked_fill(back < 0, 0.0) for values in (item, reward)]
        return torch.cat(parts, dim=2)

    def initial(self, observation: Observation) -> tuple[Carry, Float[Tensor, "B D"]]:
        """An empty window; the memory is the state."""
        empty = observation.context.new_zeros(len(observation.user), self.width)
        return empty, empty.clone()

    def step(self, carry: Carry, step: Step, observation: Observation) -> tuple[Carry, Float[Tensor, "B D"]]:
        """The window with one more pick at its head."""
        del observation
        items, rewards = carry.chunk(2, dim=1)
        item = picked(step.slate, step.choice).float().unsqueeze(1)
        reward = picked(step.reward, step.choice).unsqueeze(1)
        shifted = torch.cat([item, items[:, :-1], reward, rewards[:, :-1]], dim=1)
        carry = torch.where((step.choice >= 0).unsqueeze(1), shifted, carry)
        return carry, carry.clone()
