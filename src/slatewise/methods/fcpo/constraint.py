"""The cost limit: how far it is kept, and the Lagrange multiplier on it (dual ascent)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MARGIN = 0.01
"""By how much a recent cost may lie above its limit and count as keeping it."""


@dataclass(frozen=True, kw_only=True)
class MultiplierConfig:
    """How the multiplier follows the cost."""

    lr: float = 0.5
    """By how much a unit of cost above its limit raises the multiplier in one update."""
    gain: float = 0.0
    """What a unit of cost above its limit adds to it for the moment; damps its swings (Stooke et al. 2020)."""

    def __post_init__(self) -> None:
        for name in ("lr", "gain"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more")


class ConstraintMonitor:
    """Costs of the updates so far against the limit; None = no limit, and the multiplier stays 0."""

    def __init__(self, config: MultiplierConfig, *, limit: float | None) -> None:
        self.config = config
        self.limit = limit
        self.multiplier = 0.0
        self.updates = 0
        self.recoveries = 0
        """Steps that went straight down the cost because no point of the trust region kept the limit."""
        self.recent_cost = 0.0
        self.least_cost = float("inf")

    def excess(self, cost: float) -> float:
        """By how much a cost is above the limit; without one, the cost."""
        return cost - (self.limit or 0.0)

    def penalty(self, excess: float) -> float:
        """The multiplier with what the excess adds to it for the moment, ≥ 0."""
        return max(0.0, self.multiplier + self.config.gain * excess)

    def record(self, cost: float, *, recovery: bool = False) -> None:
        """Count an update, and move the multiplier by its cost (dual ascent)."""
        self.recoveries += recovery
        self.recent_cost = 0.8 * self.recent_cost + 0.2 * cost if self.updates else cost
        self.least_cost = min(self.least_cost, cost)
        self.updates += 1
        if self.limit is not None:
            self.multiplier = max(0.0, self.multiplier + self.config.lr * (cost - self.limit))

    def violation(self) -> str | None:
        """A warning if the limit is not met now; None where there is none, or it is met."""
        if self.limit is None or not self.updates or self.recent_cost <= self.limit + MARGIN:
            return None
        return (
            f"the cost limit {self.limit:g} was not met: {self.recent_cost:.3f} after {self.updates} updates, and the "
            f"least cost reached is {self.least_cost:.3f}. Raise method.cost_limit, or learn longer or in larger steps "
            "(method.trust_region.max_kl)."
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Multiplier and counters."""
        counters = [self.multiplier, self.updates, self.recoveries, self.recent_cost, self.least_cost]
        return {"counters": torch.tensor(counters, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        self.multiplier, updates, recoveries, self.recent_cost, self.least_cost = state["counters"].tolist()
        self.updates, self.recoveries = round(updates), round(recoveries)
