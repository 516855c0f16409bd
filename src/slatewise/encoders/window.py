"""The last L uses themselves as the state, newest first: for methods that count instead of learn.

The state is (B, 2L): item numbers, then the rewards that came with them. Numbers up to 2²⁴ are exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.ops.history import history_of
from slatewise.protocols import Carry
from slatewise.types import Observation, Trajectories, Uses

MOST_ITEMS = 2**24


@dataclass(frozen=True, kw_only=True)
class Config:
    """A window over the user's uses."""

    length: int = 512
    """L: how many uses are remembered."""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length is {self.length}; expected at least 1 use to remember")


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
        history = history_of(trajectories)
        item, reward, count = history.uses.item.float(), history.uses.reward, history.count
        if not item.shape[1]:
            return item.new_zeros(*count.shape, self.width)
        back = count.unsqueeze(2) - 1 - torch.arange(self.config.length, device=count.device)
        at = back.clamp(min=0).flatten(1)
        parts = [values.gather(1, at).view(back.shape).masked_fill(back < 0, 0.0) for values in (item, reward)]
        return torch.cat(parts, dim=2)

    def initial(self, num_users: int) -> Carry:
        """An empty window; the memory is the state."""
        return torch.zeros(num_users, self.width)

    def step(self, carry: Carry, uses: Uses) -> Carry:
        """The window with some more uses at its head."""
        for place, present in enumerate(uses.present.unsqueeze(2).unbind(dim=1)):
            items, rewards = carry.chunk(2, dim=1)
            item, reward = uses.item[:, place : place + 1].float(), uses.reward[:, place : place + 1]
            shifted = torch.cat([item, items[:, :-1], reward, rewards[:, :-1]], dim=1)
            carry = torch.where(present, shifted, carry)
        return carry

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        """The window."""
        del observation
        return carry.clone()
