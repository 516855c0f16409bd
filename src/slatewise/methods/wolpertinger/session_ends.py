"""How often a session ends after a step in which something was picked, and after one in which nothing was."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class SessionEnds:
    """Counts of steps by what happened: rows nothing and something picked, columns went on and ended."""

    def __init__(self) -> None:
        self.counts = torch.zeros(2, 2, dtype=torch.float64)

    def chance(self, picked: Bool[Tensor, " P"], ended: Bool[Tensor, " P"]) -> Float[Tensor, " P"]:
        """Count these steps, then give the share of ends among all with the same outcome, each inside (0, 1)."""
        ones = torch.ones(len(picked), dtype=self.counts.dtype)
        self.counts.index_put_((picked.long(), ended.long()), ones, accumulate=True)
        went_on, over = self.counts.unbind(dim=1)
        # as if one step of each kind had been seen before: nothing is certain
        return ((over + 1) / (went_on + over + 2)).float()[picked.long()]
