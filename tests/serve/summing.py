"""An encoder of one's own, found by its dotted path: sums of what was used, of which every bit is exact."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.ops.history import at_count, history_of
from slatewise.protocols import Carry
from slatewise.types import Observation, Trajectories, Uses


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many numbers are seen."""

    context_width: int = 2


class Encoder(nn.Module):
    """carry ← ½ carry + item · reward / 64 for each use; the state adds it to the context."""

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.width = self.context_width = config.context_width

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        history = history_of(trajectories)
        carries = [self.initial(len(trajectories.mask))]
        for place in range(history.uses.item.shape[1]):
            carries.append(self.step(carries[-1], history.uses.columns(slice(place, place + 1))))
        return trajectories.context + at_count(torch.stack(carries, dim=1), history.count)

    def initial(self, num_users: int) -> Carry:
        return torch.zeros(num_users, 1)

    def step(self, carry: Carry, uses: Uses) -> Carry:
        for place in range(uses.item.shape[1]):
            said = (uses.item[:, place] * uses.reward[:, place] / 64).unsqueeze(1)
            carry = torch.where(uses.present[:, place : place + 1], 0.5 * carry + said, carry)
        return carry

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        return observation.context + carry
