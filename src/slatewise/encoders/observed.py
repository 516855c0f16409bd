"""What is observed of the user is the state, with a fading record of what they used: for worlds that show their users.

    state = [context ; h]      h ← decay · h + f(used item) after each use

f are the item's features, or its group as one-hot where the catalog has no features. Nothing is learned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.log import Catalog, LogPart
from slatewise.ops.history import at_count, history_of
from slatewise.protocols import Carry
from slatewise.types import Observation, Trajectories, Uses


@dataclass(frozen=True, kw_only=True)
class Config:
    """What belongs to the state."""

    history: bool = True
    """False leaves h out: the context alone is the state, as in a world that shows all there is to know."""
    decay: float = 0.9
    """What a use still counts after the next one."""
    context_width: int | None = None
    """X; None = as the training log has it."""

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}; expected a number in [0, 1)")

    def resolve(self, part: LogPart) -> Config:
        """The settings with the width of the context filled in."""
        return replace(
            self, context_width=part.interactions.context_width if self.context_width is None else self.context_width
        )


class Encoder(nn.Module):
    """Has no weights."""

    features: Tensor

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        del generator
        self.config = config
        self.context_width = config.context_width or 0
        features = torch.from_numpy(np.ascontiguousarray(catalog.features, dtype=np.float32))
        if not features.shape[1]:
            group = torch.from_numpy(np.ascontiguousarray(catalog.group))
            features = nn.functional.one_hot(group, len(catalog.group_names))[:, 1:].float()
        features = features[:, : features.shape[1] if config.history else 0]
        # not a weight: the catalog has it
        self.register_buffer("features", features, persistent=False)
        self.width = (config.context_width or 0) + features.shape[1]
        if not self.width:
            raise ValueError(
                "nothing is observed: the log has no context, the catalog neither features nor groups; "
                "choose an encoder that learns from item numbers, such as gru"
            )

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """States before each step and after the last."""
        record = trajectories.context.new_zeros(len(trajectories.mask), self.features.shape[1])
        if not self.config.history:
            return torch.cat(
                [trajectories.context, record.unsqueeze(1).expand(-1, trajectories.context.shape[1], -1)], 2
            )
        history = history_of(trajectories)
        records = [record]
        for item in history.uses.item.unbind(dim=1):
            records.append(self.config.decay * records[-1] + self.features[item])
        return torch.cat([trajectories.context, at_count(torch.stack(records, dim=1), history.count)], dim=2)

    def initial(self, num_users: int) -> Carry:
        """Nothing used."""
        return self.features.new_zeros(num_users, self.features.shape[1])

    def step(self, carry: Carry, uses: Uses) -> Carry:
        """The record with some more uses."""
        for item, present in zip(uses.item.unbind(dim=1), uses.present.unsqueeze(2).unbind(dim=1), strict=True):
            carry = torch.where(present, self.config.decay * carry + self.features[item], carry)
        return carry

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        """The context, and the record."""
        return torch.cat([observation.context, carry], dim=1)
