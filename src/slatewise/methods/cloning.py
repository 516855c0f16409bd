"""Behaviour cloning: predict what the log shows next. Maximum likelihood of the shown items, nothing else.

    max Σ_t Σ_k log π(a_{t,k} | s_t)

On a log of uses (ratings, plays) this is next-item prediction as in GRU4Rec (Hidasi et al., ICLR 2016) with the full
softmax; on a log of impressions it imitates the logging policy.

Unknown users: the slate of the state without history, which the first step of every user in the log trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import Catalog
from slatewise.nn.descent import descend
from slatewise.nn.dropout import let_dropout_draw
from slatewise.nn.softmax import SoftmaxHead
from slatewise.nn.state_dict import flat_state, restore_state
from slatewise.ops.shown_rows import at_rows, shown_rows
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.schedules import Schedule, value_at
from slatewise.types import Trajectories

DEFAULT_ENCODER = "gru"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of cloning."""

    temperature: float = 1.0
    """τ of the softmax."""
    lr: float | Schedule = 3e-3
    weight_decay: float = 0.0
    clip_norm: float = 5.0
    """Upper limit of the gradient's norm."""


class Policy(RankedPolicy):
    """π(a|s) = softmax(sᵀv_a / τ + b_a)."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        super().__init__(encoder, catalog.num_rows)
        self.head = SoftmaxHead(
            encoder.width,
            catalog.num_rows,
            temperature=config.temperature,
            content=catalog.content,
            generator=generator,
        )

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Logits."""
        return self.head.scores(state, items)

    def vectors(self) -> Float[Tensor, "N E"]:
        """v_a of every real item."""
        return self.head.vectors()

    def item_bias(self) -> Float[Tensor, " N"]:
        """b_a of every real item."""
        return self.head.item_bias()

    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The state over τ."""
        return self.head.query(state)

    def behaviour_states(self, trajectories: Trajectories) -> Float[Tensor, "B S D"]:
        """The clone is itself the estimate of who wrote the log."""
        return self.encoder(trajectories)

    def log_behaviour(self, state: Float[Tensor, "P D"], logged_by: Int[Tensor, " P"]) -> Float[Tensor, "P N"]:
        """Log π of every row, whoever showed what; −inf for reserved rows."""
        del logged_by
        return self.head.log_probs(state)


class Learner:
    """Adam on the log-likelihood."""

    single_pass = False

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.policy = Policy(config, encoder, catalog, generator=generator)
        self.parameters: list[nn.Parameter] = list(self.policy.parameters())
        self.optimiser = torch.optim.Adam(
            self.parameters, lr=value_at(config.lr, 0), weight_decay=config.weight_decay, fused=True
        )
        self.generator = generator
        self.config = config
        let_dropout_draw(self.policy, generator)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """One step on a batch; the loss is −mean log π of the shown items."""
        rows = shown_rows(trajectories.slate, trajectories.learn)
        if not len(rows):
            return {"loss": 0.0}
        self.policy.train()
        state = at_rows(self.policy.encoder(trajectories), rows)
        item = trajectories.slate[rows[:, 0], rows[:, 1], rows[:, 2]]
        loss = -self.policy.head.log_prob(state, item).mean()
        descend(loss, self.parameters, self.optimiser, self.config.clip_norm, lr=self.config.lr)
        self.policy.eval()
        return {"loss": float(loss.detach())}

    def state_dict(self) -> dict[str, Tensor]:
        """Weights, moments and the generator."""
        return flat_state(self.policy, self.optimiser, self.generator)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        restore_state(self.policy, self.optimiser, self.generator, state)
