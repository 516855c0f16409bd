"""Uniformly random slates: the floor that every policy must clear, and the cleanest logging policy there is.

Deviations: without exploration it still draws, because a fixed slate would not be random; so it needs a generator, and
`exploration` changes nothing.

Unknown users: a random slate, as for everybody else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, Catalog
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.types import Exploration, SlateRequest, Slates, Trajectories

DEFAULT_ENCODER = "window"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Has no settings."""


class Policy(RankedPolicy):
    """π(a|s) = 1/N."""

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        del config, generator
        super().__init__(encoder, catalog.num_rows)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """All the same."""
        return state.new_zeros(len(state), self.num_rows if items is None else items.shape[1])

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """Slates drawn without replacement from all that may be shown."""
        return super().draw_slates(state, self._from_everything(request), generator)

    def slate_factors(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """−log of the number of items that were left for each position."""
        return super().slate_factors(state, slate, self._from_everything(request))

    def _from_everything(self, request: SlateRequest) -> SlateRequest:
        size = self.num_rows if request.candidates is None else request.candidates.shape[1]
        return replace(request, exploration=Exploration(top_m=max(request.k, size)))


class Learner:
    """Learns nothing."""

    single_pass = True

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self.policy = Policy(config, encoder, catalog, generator=generator)

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """Look at a batch and keep nothing; the loss is that of guessing: log N."""
        del trajectories
        return {"loss": math.log(self.policy.num_rows - FIRST_ITEM)}

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the encoder, if it has any."""
        return dict(self.policy.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        self.policy.load_state_dict(state)
