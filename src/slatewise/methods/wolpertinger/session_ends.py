"""How often a session ends after a step in which something was chosen, and after one in which nothing was."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class SessionEnds:
    """Counts of steps by outcome: rows nothing chosen and something chosen, columns went on and ended."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2, dtype=torch.float64)

    def chance(self, chosen: Bool[Tensor, " P"], ended: Bool[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Count these steps, then give the share of ends among all with the same outcome, each inside (0, 1)."""
        ones = torch.ones(len(chosen), dtype=self.counts.dtype)
        self.counts.index_put_((chosen.long(), ended.long()), ones, accumulate=True)
        went_on, over = self.counts.unbind(dim=1)
        # add-one (Laplace) smoothing: no chance is 0 or 1
        return ((over + 1) / (went_on + over + 2)).float()[chosen.long()]
