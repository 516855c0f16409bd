"""Common parts of the recurrent encoders: settings, and the cell's input features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, Catalog, LogPart
from slatewise.nn.dropout import Dropout
from slatewise.nn.item_table import ItemTable
from slatewise.ops.choices import bucket, bucket_edges
from slatewise.ops.history import history_of
from slatewise.ops.initial import normal_, uniform_
from slatewise.types import Trajectories

C = TypeVar("C", bound="HistoryConfig")


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """Settings of an encoder that reads a history use by use."""

    width: int = 64
    """D: width of the state."""
    item_width: int = 64
    """Width of the item table U that the state reads."""
    dropout: float = 0.0
    """Share of the inputs set to 0 in training."""
    reward_edges: tuple[float, ...] | None = None
    """Borders of the reward buckets the cell reads; None = quantiles of the training log, () = rewards not read."""
    context_width: int | None = None
    """X; None = as the training log has it."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.item_width < 1:
            raise ValueError(f"width {self.width} and item_width {self.item_width} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected a share in [0, 1)")

    def resolve(self: C, part: LogPart) -> C:
        """The settings with what was left open filled from the training part of a log."""
        edges = self.reward_edges
        if edges is None:
            edges = bucket_edges(part.use_rewards())
        width = part.interactions.context_width if self.context_width is None else self.context_width
        return replace(self, reward_edges=edges, context_width=width)


class HistoryReader(nn.Module):
    """Item and reward bucket of each use → input of the cell; the context of a decision → what the state adds."""

    edges: Tensor

    def __init__(self, config: HistoryConfig, catalog: Catalog) -> None:
        super().__init__()
        self.config = config
        self.dropout = Dropout(config.dropout)
        self.item = ItemTable(catalog.num_rows, config.item_width, catalog.content)
        """U"""
        self.register_buffer("edges", torch.tensor(config.reward_edges or (), dtype=torch.float32))
        self.bucket = nn.Parameter(torch.zeros(len(self.edges) + 1, config.item_width))
        self.context = nn.Parameter(torch.zeros(config.width, config.context_width or 0))

    def reset(self, generator: Generator) -> None:
        """Draw the initial weights."""
        self.item.reset(self.config.item_width**-0.5, generator)
        normal_(self.bucket, self.config.item_width**-0.5, generator)
        uniform_(self.context, max(1, self.context.shape[1]) ** -0.5, generator)
        with torch.no_grad():
            self.item.weight[:FIRST_ITEM] = 0.0  # padding and unknown items contribute nothing

    def history(self, trajectories: Trajectories) -> tuple[Float[Tensor, "B L E"], Int[Tensor, "B S"]]:
        """Cell inputs of all uses in the order of their arrival; how many of them each state has read."""
        history = history_of(trajectories)
        return self.read(history.uses.item, history.uses.reward), history.count

    def read(self, item: Int[Tensor, "*A"], reward: Float[Tensor, "*A"]) -> Float[Tensor, "*A E"]:
        """Item row + bucket row, with dropout while training."""
        features: Tensor = self.item(item)
        if len(self.edges):
            features = features + nn.functional.embedding(bucket(reward, self.edges), self.bucket)
        mask = self.dropout.keep_mask(features)
        return features if mask is None else features * mask / (1.0 - self.dropout.share)

    def see(self, state: Float[Tensor, "*A D"], context: Float[Tensor, "*A X"]) -> Float[Tensor, "*A D"]:
        """Add the context that is observed before the decision to the state."""
        return state + context @ self.context.T if self.context.shape[1] else state
