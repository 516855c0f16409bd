"""How often items were shown, and which of them are popular by it, now or as it drifts (Ge et al. 2021, sec. 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.log import FIRST_ITEM


@dataclass(frozen=True, kw_only=True)
class ExposureConfig:
    """Which items are popular."""

    share: float = 0.2
    """Share of the catalog that is popular: the items that were shown most."""
    mark: float = 10.0
    """What the vectors of popular items hold in a column of their own, with costs = exposure; the larger, the more a
    step that lowers the cost turns from all popular items, and the less it bends what rows say of single ones."""
    memory: float = 1.0
    """What an exposure still counts one update later."""
    regroup_every: int = 0
    """Updates after which the popular items are chosen again by exposure; 0 = once."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}; expected a share in (0, 1)")
        if not self.mark > 0:
            raise ValueError(f"mark is {self.mark}; expected a number above 0")
        if not 0 < self.memory <= 1:
            raise ValueError(f"memory is {self.memory}; expected a share in (0, 1]")
        if self.regroup_every < 0:
            raise ValueError(f"regroup_every is {self.regroup_every}; expected 0 or more")

    def num_popular(self, num_items: int) -> int:
        """How many items of a catalog are popular."""
        return int(self.share * num_items)


class Exposure:
    """Counts that fade, and the share of the items with the largest ones."""

    def __init__(self, config: ExposureConfig, num_rows: int) -> None:
        self.num_popular = config.num_popular(num_rows - FIRST_ITEM)
        self.memory = config.memory
        self.regroup_every = config.regroup_every
        self.counts: Float[Tensor, " rows"] = torch.zeros(num_rows)
        self.popular: Bool[Tensor, " rows"] = torch.zeros(num_rows, dtype=torch.bool)
        self.calls = 0

    def start(self, counts: Float[Tensor, " rows"]) -> None:
        """Start from the counts of a log."""
        self.counts = counts.clone()
        self.counts[:FIRST_ITEM] = 0.0
        self._regroup()

    def count(self, items: Int[Tensor, "*A"]) -> None:
        """Add what was shown; choose the popular items where there are none yet, or regrouping is due."""
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
        order = self.counts[FIRST_ITEM:].argsort(descending=True, stable=True)[: self.num_popular] + FIRST_ITEM
        return torch.zeros_like(self.popular).scatter_(0, order, True)

    def _regroup(self) -> None:
        self.popular = self.most_shown()
