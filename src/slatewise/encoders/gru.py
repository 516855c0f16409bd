"""Gated recurrent states: GRU (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997) over the user's picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.encoders._history import HistoryConfig, HistoryReader
from slatewise.log import Catalog
from slatewise.ops.choices import at_count
from slatewise.ops.gru import gru_states
from slatewise.ops.initial import uniform_
from slatewise.protocols import Carry
from slatewise.types import Observation, Step, Trajectories


@dataclass(frozen=True, kw_only=True)
class Config(HistoryConfig):
    """A recurrent encoder."""

    cell: Literal["gru", "lstm"] = "gru"


class Encoder(nn.Module):
    """s' = cell(s, read(item, reward)); the first state is 0."""

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.context_width = config.context_width or 0
        self.reader = HistoryReader(config, catalog)
        layer = nn.GRU if config.cell == "gru" else nn.LSTM
        # built the ordinary way, a layer draws its first values from the global generator
        self.cell = layer(config.item_width, config.width, batch_first=True, device="meta").to_empty(device="cpu")
        for weight in self.cell.parameters():
            nn.init.zeros_(weight)
        if generator is not None:
            self.reader.reset(generator)
            for weight in self.cell.parameters():
                uniform_(weight, config.width**-0.5, generator)

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """States before each step and after the last; steps that do not move the state repeat it."""
        inputs, count = self.reader.moving(trajectories)
        batch = len(count)
        states = inputs.new_zeros(batch, 1, self.width)
        if inputs.shape[1]:
            states = torch.cat([states, self.run(inputs)], dim=1)
        return self.reader.see(at_count(states, count), trajectories.context)

    def run(self, inputs: Float[Tensor, "B L E"]) -> Float[Tensor, "B L D"]:
        """States after each input."""
        if self.config.cell == "gru":
            return gru_states(inputs, inputs.new_zeros(len(inputs), self.width), *self.cell.parameters())
        states: Tensor = self.cell(inputs)[0]
        return states

    def initial(self, observation: Observation) -> tuple[Carry, Float[Tensor, "B D"]]:
        """Memory and state of users without history."""
        start = self.reader.bucket.new_zeros(self.width)
        carry = start.new_zeros(len(observation.user), self.width * (1 if self.config.cell == "gru" else 2))
        return carry, self.reader.see_first(start, observation)

    def step(self, carry: Carry, step: Step, observation: Observation) -> tuple[Carry, Float[Tensor, "B D"]]:
        """Memory and state after one more step; carry is (B, D) for GRU, (B, 2D) = [h ; c] for LSTM."""
        inputs, moves = self.reader.moved_by(step)
        memory = carry.unsqueeze(0)
        if self.config.cell == "lstm":
            _, (hidden, cell) = self.cell(inputs.unsqueeze(1), tuple(part.contiguous() for part in memory.chunk(2, 2)))
            after = torch.cat([hidden, cell], dim=2).squeeze(0)
        else:
            after = self.cell(inputs.unsqueeze(1), memory)[1].squeeze(0)
        carry = torch.where(moves.unsqueeze(1), after, carry)
        return carry, self.reader.see(carry[:, : self.width], observation.context)
