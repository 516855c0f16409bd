"""What a policy is worth in a world that can be solved."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What a policy shows at each state, and what that earns."""

    shown: Int[Tensor, " S"]
    """Row of the item shown at each state: its number less 2."""
    values: Float[Tensor, " S"]
    """Expected return from each state, float64."""

    @property
    def value(self) -> float:
        """Expected return of a session, which starts at any state, all alike."""
        return float(self.values.mean())
