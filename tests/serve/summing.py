"""An encoder of one's own, found by its dotted path: what it remembers holds what was seen before each step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.ops.choices import picked
from slatewise.types import Observation, Step, Trajectories


@dataclass(frozen=True, kw_only=True)
class Config:
    """How many numbers are seen."""

    context_width: int = 2


class Encoder(nn.Module):
    """carry = s = Σ (1, picked item · reward) · (1 + context before that step) + context now."""

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.width = self.context_width = config.context_width

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        states = [self.initial(trajectories.observation(0))[0]]
        for t in range(trajectories.mask.shape[1]):
            states.append(self.step(states[-1], trajectories.step(t), trajectories.observation(t + 1))[0])
        return torch.stack(states, dim=1)

    def initial(self, observation: Observation) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B D"]]:
        return observation.context, observation.context

    def step(
        self, carry: Float[Tensor, "B M"], step: Step, observation: Observation
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B D"]]:
        said = picked(step.slate, step.choice) * picked(step.reward, step.choice) / 100
        carry = 0.5 * carry + said.unsqueeze(1) + observation.context
        return carry, carry
