"""No history: the state is one zero, for policies that treat every user alike or that know the state otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.types import Observation, Trajectories, Uses


@dataclass(frozen=True, kw_only=True)
class Config:
    """Has no settings."""


class Encoder(nn.Module):
    """Width 1, always 0."""

    width = 1

    def __init__(
        self, config: Config | None = None, catalog: Catalog | None = None, *, generator: Generator | None = None
    ) -> None:
        super().__init__()
        del catalog, generator
        self.config = config or Config()

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S 1"]:
        """Zeros."""
        batch, steps = trajectories.mask.shape
        return torch.zeros(batch, steps + 1, 1)

    def initial(self, num_users: int) -> Float[Tensor, "B 0"]:
        """Nothing to remember."""
        return torch.zeros(num_users, 0)

    def step(self, carry: Float[Tensor, "B 0"], uses: Uses) -> Float[Tensor, "B 0"]:
        """Nothing to remember."""
        del uses
        return carry

    def state(self, carry: Float[Tensor, "B 0"], observation: Observation) -> Float[Tensor, "B 1"]:
        """Zeros."""
        del observation
        return torch.zeros(len(carry), 1)
