"""Chaos-free network: the state forgets by itself, so a long silence leads back to the start.

Laurent & von Brecht, "A recurrent neural network without chaos", ICLR 2017; the cell of Chen et al. 2019, eq. 4:

    z = σ(U_z s + W_z u + b_z)      i = σ(U_i s + W_i u + b_i)      s' = z ⊙ tanh(s) + i ⊙ tanh(W_a u)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from slatewise.encoders._history import HistoryConfig, HistoryReader
from slatewise.log import Catalog
from slatewise.ops.cfn import cfn_states, cfn_step
from slatewise.ops.history import at_count
from slatewise.ops.initial import fan_in_
from slatewise.protocols import Carry
from slatewise.types import Observation, Trajectories, Uses


@dataclass(frozen=True, kw_only=True)
class Config(HistoryConfig):
    """A chaos-free recurrent encoder."""


class Encoder(nn.Module):
    """The first state is 0; the gates start half open."""

    def __init__(self, config: Config, catalog: Catalog, *, generator: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.context_width = config.context_width or 0
        self.reader = HistoryReader(config, catalog)
        self.recurrent = nn.Parameter(torch.zeros(2 * config.width, config.width))
        """[U_z ; U_i]"""
        self.input = nn.Parameter(torch.zeros(3 * config.width, config.item_width))
        """[W_z ; W_i ; W_a]"""
        self.bias = nn.Parameter(torch.zeros(2 * config.width))
        """[b_z ; b_i]"""
        if generator is not None:
            self.reader.reset(generator)
            fan_in_(self.recurrent, generator)
            fan_in_(self.input, generator)

    def forward(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """States before each step and after the last."""
        inputs, count = self.reader.history(trajectories)
        start = inputs.new_zeros(len(count), self.width)
        moved = cfn_states(inputs, start, self.input, self.bias, self.recurrent)
        states = torch.cat([start.unsqueeze(1), moved], dim=1)
        return self.reader.see(at_count(states, count), trajectories.context)

    def initial(self, num_users: int) -> Carry:
        """Memory of users without history: 0. The memory is the state without its context."""
        return self.recurrent.new_zeros(num_users, self.width)

    def step(self, carry: Carry, uses: Uses) -> Carry:
        """Memory after some more uses."""
        inputs = self.reader.read(uses.item, uses.reward)
        for place, present in enumerate(uses.present.unsqueeze(2).unbind(dim=1)):
            next_state = cfn_step(inputs[:, place], carry, self.input, self.bias, self.recurrent)
            carry = torch.where(present, next_state, carry)
        return carry

    def state(self, carry: Carry, observation: Observation) -> Float[Tensor, "B D"]:
        """State of users who are seen now."""
        return self.reader.see(carry, observation.context)
