"""What a user liked so far, as a set: the sum of the vectors of every used item whose reward says so.

    s = tanh(Σ_{i liked} U_i / √(1 + n) + C x + b)        n: how many were liked, x: what is seen before the decision

It knows no order, so it suits sessions in which taste does not change, and of a list in which several items were liked
it reads all in one operation, where the recurrent encoders need one step for each. Without the bend it is one half of a
linear autoencoder of the items (Sedhain et al. 2015 read ratings in this way).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.nn.dropout import Dropout
from slatewise.nn.item_table import ItemTable
from slatewise.ops.history import arrivals
from slatewise.ops.initial import normal_, uniform_
from slatewise.protocols import Carry
from slatewise.types import Observation, Trajectories, Uses

UNKNOWN_SCALE = 0.5
"""What counts as liked where no log has said how rewards are given: a reward that comes or does not."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A set of liked items."""

    width: int = 64
    """D: width of the state, and of the item table U."""
    reward_at_least: float | None = None
    """From this reward on an item counts as liked; None = the median of the training log's positive rewards."""
    dropout: float = 0.0
    """Share of the liked items that are left out in training."""
    context_width: int | None = None
    """X; None = as the training log has it."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width is {self.width}; expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected a share in [0, 1)")

    def resolve(self, part: LogPart) -> Config:
        """The settings with what was left open filled from the training part of a log."""
        least = self.reward_at_least
        if least is None:
            rewards = part.use_rewards()
            positive = rewards[rewards > 0]
            least = float(np.median(positive)) if len(positive) else UNKNOWN_SCALE
        width = part.interactions.context_width if self.context_width is None else self.context_width
        return replace(self, reward_at_least=least, context_width=width)


class Encoder(nn.Module):
    """The memory is the sum and how many it is of: (B, D + 1)."""

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.context_width = config.context_width or 0
        self.width = config.width
        self.least = UNKNOWN_SCALE if config.reward_at_least is None else config.reward_at_least
        self.dropout = Dropout(config.dropout)
        self.item = ItemTable(catalog.num_rows, config.width, catalog.content)
        """U"""
        self.bias = nn.Parameter(torch.zeros(config.width))
        self.context = nn.Parameter(torch.zeros(config.width, config.context_width or 0))
        if generator is not None:
            self.item.reset(config.width**-0.5, generator)
            normal_(self.bias.view(1, -1), 0.1, generator)
            uniform_(self.context, max(1, self.context.shape[1]) ** -0.5, generator)
            with torch.no_grad():
                self.item.weight[:FIRST_ITEM] = 0.0  # padding and unknown items contribute nothing

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """States before each step and after the last."""
        arrival = arrivals(trajectories)
        following = torch.arange(1, arrival.shape[1] + 1).view(1, -1, 1)
        liked = self._likes(trajectories.slate, trajectories.use_reward, arrival <= arrival.shape[1])
        sums = self._sums(trajectories.slate, liked & (arrival == following))
        late = liked & (arrival > following)
        if bool(late.any()):
            row, item = late.nonzero()[:, 0], trajectories.slate[late]
            added = torch.cat([self.item(item), self.bias.new_ones(len(item), 1)], dim=1)
            sums = sums.index_put((row, arrival[late] - 1), added, accumulate=True)
        return self._see(nn.functional.pad(sums.cumsum(dim=1), (0, 0, 1, 0)), trajectories.context)

    def initial(self, num_users: int) -> Carry:
        """Nothing liked yet."""
        return self.bias.new_zeros(num_users, self.width + 1)

    def step(self, carry: Carry, uses: Uses) -> Carry:
        """With what was liked of some more uses."""
        return carry + self._sums(uses.item, self._likes(uses.item, uses.reward, uses.present))

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        """State of users who are seen now."""
        return self._see(carry, observation.context)

    def _sums(self, item: Int[Tensor, "*B K"], liked: Bool[Tensor, "*B K"]) -> Float[Tensor, "*B D1"]:
        """[Σ U_i ; n] over the liked items of every list."""
        weight = liked.to(self.bias.dtype).unsqueeze(-2)
        total = (weight @ self.item(item * liked)).squeeze(-2)
        return torch.cat([total, weight.sum(dim=-1)], dim=-1)

    def _likes(
        self, item: Int[Tensor, "*B K"], reward: Float[Tensor, "*B K"], used: Bool[Tensor, "*B K"]
    ) -> Bool[Tensor, "*B K"]:
        liked = used & (reward >= self.least) & (item >= FIRST_ITEM)
        mask = self.dropout.keep_mask(liked)
        return liked if mask is None else liked & mask.bool()

    def _see(self, sums: Float[Tensor, "*B D1"], context: Float[Tensor, "*B X"]) -> Float[Tensor, "*B D"]:
        scaled = sums[..., :-1] / (1 + sums[..., -1:]).sqrt()
        logits = scaled + self.bias
        return torch.tanh(logits + context @ self.context.T if self.context.shape[1] else logits)
