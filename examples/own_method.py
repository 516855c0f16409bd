"""A method of one's own in one file: popularity that forgets. From the folder above:

slatewise train configs/ml-100k/popularity.toml --method examples.own_method --set method.half_life_days=30
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from slatewise.log import Catalog
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.types import Trajectories

DEFAULT_ENCODER = "window"
DAY = 86_400_000_000


@dataclass(frozen=True, kw_only=True)
class Config:
    half_life_days: float = 7.0


class Policy(RankedPolicy):
    """π(a) ∝ 1 + Σ 2^(−age / half-life) over the uses of a. Slates and propensities follow from `scores`."""

    def __init__(
        self, _: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        super().__init__(encoder, catalog.num_rows)
        self.register_buffer("count", torch.zeros(catalog.num_rows, dtype=torch.float64))
        self.register_buffer("newest", torch.zeros((), dtype=torch.int64))

    def scores(self, state: Tensor, items: Tensor | None) -> Tensor:
        logits = torch.log1p(self.get_buffer("count")).to(state.dtype)
        return logits.expand(len(state), -1) if items is None else logits[items]


class Learner:
    single_pass = True  # one pass over the log is all there is to learn

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.half_life, self.policy = config.half_life_days * DAY, Policy(config, encoder, catalog)
        self.state_dict, self.load_state_dict = self.policy.state_dict, self.policy.load_state_dict

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        counts = trajectories.used & trajectories.learn.unsqueeze(2)
        item, time = trajectories.slate[counts], trajectories.used_time[counts]
        count, newest = self.policy.get_buffer("count"), self.policy.get_buffer("newest")
        now = torch.maximum(newest, trajectories.used_time.max())
        count *= torch.exp2((newest - now).double() / self.half_life)  # what was counted before has aged
        count.index_add_(0, item, torch.exp2((time - now).double() / self.half_life))
        newest.copy_(now)
        return {"loss": 0.0}
