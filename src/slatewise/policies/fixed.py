"""The same distribution for every user."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from slatewise.encoders.stateless import Encoder as StatelessEncoder
from slatewise.log import FIRST_ITEM
from slatewise.policies.ranked import RankedPolicy


class FixedPolicy(RankedPolicy):
    """The same probabilities for everybody: scores are log-probabilities."""

    def __init__(self, probabilities: tuple[float, ...]) -> None:
        super().__init__(StatelessEncoder(), len(probabilities) + FIRST_ITEM)
        self.register_buffer("logits", torch.tensor([0.0] * FIRST_ITEM + list(probabilities)).log())

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Log-probabilities of some items, or of all rows for None."""
        logits = self.get_buffer("logits")
        return logits.expand(len(state), -1) if items is None else logits[items]
