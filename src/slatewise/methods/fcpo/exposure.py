"""How often items were shown, and which of them are popular by it, now or as it drifts (Ge et al. 2021, sec. 3.2)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM


class Exposure:
    """Counts that fade, and the share of the items with the largest ones.

    Args:
        num_rows: rows of an item table.
        share: of the items that is popular, in (0, 1).
        memory: what a count is still worth after one more of `count`.
        regroup_every: calls of `count` after which the popular items are chosen anew; 0 = once.
    """

    def __init__(self, num_rows: int, *, share: float, memory: float = 1.0, regroup_every: int = 0) -> None:
        self.number = int(share * (num_rows - FIRST_ITEM))
        self.memory = memory
        self.regroup_every = regroup_every
        self.counts: Float[Tensor, " rows"] = torch.zeros(num_rows)
        self.popular: Bool[Tensor, " rows"] = torch.zeros(num_rows, dtype=torch.bool)
        self.calls = 0

    def start(self, counts: Float[Tensor, " rows"]) -> None:
        """Begin with what a log shows."""
        self.counts = counts.clone()
        self.counts[:FIRST_ITEM] = 0.0
        self._regroup()

    def count(self, items: Int[Tensor, "*A"]) -> None:
        """Add what was shown; choose the popular items where there are none yet, or their time has come."""
        shown = torch.bincount(items.flatten(), minlength=len(self.counts)).float()
        shown[:FIRST_ITEM] = 0.0
        self.counts = self.memory * self.counts + shown
        self.calls += 1
        due = self.regroup_every > 0 and self.calls % self.regroup_every == 0
        if due or not bool(self.popular.any()):
            self._regroup()

    def state_dict(self) -> dict[str, Tensor]:
        """Counts, groups, calls."""
        return {"counts": self.counts, "popular": self.popular, "calls": torch.tensor(self.calls)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        self.counts, self.popular = state["counts"].clone(), state["popular"].clone()
        self.calls = int(state["calls"])

    def most_shown(self) -> Bool[Tensor, " rows"]:
        """The items that would be popular if they were chosen now."""
        order = self.counts[FIRST_ITEM:].argsort(descending=True, stable=True)[: self.number] + FIRST_ITEM
        return torch.zeros_like(self.popular).scatter_(0, order, True)

    def _regroup(self) -> None:
        self.popular = self.most_shown()
