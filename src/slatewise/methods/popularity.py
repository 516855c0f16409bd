"""The most used items first, the same for everybody: π(a) ∝ count(a) + 1.

Unknown users: the same list as for everybody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, Catalog
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.types import Trajectories

DEFAULT_ENCODER = "window"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Has no settings."""


class Policy(RankedPolicy):
    """Counts of uses per item."""

    count: Tensor

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        del config, generator
        super().__init__(encoder, catalog.num_rows)
        self.register_buffer("count", torch.zeros(catalog.num_rows, dtype=torch.float64))

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """log(count + 1), in double precision."""
        logits = torch.log1p(self.count)
        return logits.expand(len(state), -1) if items is None else logits[items]

    def vectors(self) -> Float[Tensor, "N E"]:
        """log(count + 1) of every real item: vectors of one number, the same for everybody."""
        return torch.log1p(self.count)[FIRST_ITEM:].unsqueeze(1)

    def item_bias(self) -> Float[Tensor, " N"] | None:
        """None: the vectors say all."""
        return None

    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The number 1."""
        return torch.ones(len(state), 1, dtype=self.count.dtype)


class Learner:
    """Counts."""

    single_pass = True

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.policy = Policy(config, encoder, catalog, generator=generator)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """Count the uses of a batch; the loss is −mean log π of them."""
        item = trajectories.slate[trajectories.used & trajectories.learn.unsqueeze(2)]
        item = item[item >= FIRST_ITEM]
        count = self.policy.count
        count += torch.bincount(item, minlength=len(count)).to(count.dtype)
        share = torch.log1p(count[item]) - torch.log((count[FIRST_ITEM:] + 1).sum())
        return {"loss": float(-share.mean()) if len(item) else 0.0}

    def state_dict(self) -> dict[str, Tensor]:
        """The counts."""
        return dict(self.policy.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        self.policy.load_state_dict(state)
