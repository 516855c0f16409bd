"""Gated recurrent states: GRU (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997) over the user's uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.encoders._history import HistoryConfig, HistoryReader
from slatewise.log import Catalog
from slatewise.ops.gru import gru_states
from slatewise.ops.history import at_count
from slatewise.ops.initial import uniform_
from slatewise.protocols import Carry
from slatewise.types import Observation, Trajectories, Uses


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
        # on the meta device, because an ordinary layer draws its initial weights from the global generator
        self.cell = layer(config.item_width, config.width, batch_first=True, device="meta").to_empty(device="cpu")
        for weight in self.cell.parameters():
            nn.init.zeros_(weight)
        if generator is not None:
            self.reader.reset(generator)
            for weight in self.cell.parameters():
                uniform_(weight, config.width**-0.5, generator)

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """States before each step and after the last."""
        inputs, count = self.reader.history(trajectories)
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

    def initial(self, num_users: int) -> Carry:
        """Memory of users without history: 0; (B, D) for GRU, (B, 2D) = [h ; c] for LSTM."""
        return self.reader.bucket.new_zeros(num_users, self.width * (1 if self.config.cell == "gru" else 2))

    def step(self, carry: Carry, uses: Uses) -> Carry:
        """Memory after some more uses."""
        inputs = self.reader.read(uses.item, uses.reward)
        for place, present in enumerate(uses.present.unsqueeze(2).unbind(dim=1)):
            carry = torch.where(present, self._advance(inputs[:, place : place + 1], carry), carry)
        return carry

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        """State of users who are seen now."""
        return self.reader.see(carry[:, : self.width], observation.context)

    def _advance(self, inputs: Float[Tensor, "B 1 E"], carry: Carry) -> Carry:
        memory = carry.unsqueeze(0)
        if self.config.cell == "lstm":
            _, (hidden, cell) = self.cell(inputs, tuple(part.contiguous() for part in memory.chunk(2, 2)))
            return torch.cat([hidden, cell], dim=2).squeeze(0)
        memory_after: Tensor = self.cell(inputs, memory)[1].squeeze(0)
        return memory_after
