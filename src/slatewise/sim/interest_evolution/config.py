"""Constants of interest evolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slatewise.ops.choice import ChoiceModel

STOCK = 1 << 16
"""Documents, shared evenly by the topics."""


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """How documents are examined from the top, where the choice is a cascade."""

    attention: float = 0.65
    """Chance that the user reads the next document."""
    scaling: float = 0.05
    """Chance that a document that is read is chosen, per x + 1 or e^x."""

    def __post_init__(self) -> None:
        if not 0 <= self.attention <= 1:
            raise ValueError(f"attention is {self.attention}; expected a number in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the environment; the defaults are RecSim's.

    Raises:
        ValueError: a count below 1, a slate larger than the candidates, a budget or length that is not above 0, a share
            outside [0, 1], or choice constants that give no probability.
    """

    num_topics: int = 20
    num_candidates: int = 10
    """C."""
    slate_size: int = 3
    choice: ChoiceModel = "proportional"
    """How a user picks: proportional (the released environment), mnl (the paper's main table) or a cascade."""
    null_mass: float = 1.0
    """Affinity of picking nothing; its weight is null_mass + 1 (proportional) or e^null_mass (mnl)."""
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    bad_share: float = 0.7
    """Share of topics with mean quality from lowest_quality to 0; the others go from 0 to highest_quality."""
    lowest_quality: float = -3.0
    highest_quality: float = 3.0
    quality_std: float = 0.1
    length: float = 4.0
    """Minutes of a document."""
    budget: float = 200.0
    """Minutes that a new user has."""
    null_cost: float = 0.5
    """Minutes lost when nothing is picked."""
    budget_gain: float = 0.9 / 3.4
    """Minutes that a minute of quality 1 gives back."""
    interest_step: float = 0.3
    budget_visible: bool = False
    """Observe the minutes left as well: the last number of the context, in units of `budget`. The paper hides them."""

    def __post_init__(self) -> None:
        for name in ("num_topics", "num_candidates", "slate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.num_topics > STOCK // 64:
            raise ValueError(f"num_topics is {self.num_topics}; expected at most {STOCK // 64}")
        if self.slate_size > self.num_candidates:
            raise ValueError(
                f"slate_size is {self.slate_size} with {self.num_candidates} candidates; a slate cannot be larger"
            )
        for name in ("length", "budget", "null_cost"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} is {value}; expected minutes above 0, else sessions never end")
        for name in ("bad_share", "interest_step"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number in [0, 1]")
        if self.quality_std < 0:
            raise ValueError(f"quality_std is {self.quality_std}; expected a number ≥ 0")
        if self.choice == "proportional" and not self.null_mass > -1:
            raise ValueError(f"null_mass is {self.null_mass}; expected more than −1, else all weights can be 0")
        highest = self.cascade.scaling * (2.0 if self.choice == "proportional_cascade" else math.e)
        if self.choice.endswith("cascade") and not 0 <= highest <= 1:
            raise ValueError(
                f"cascade.scaling is {self.cascade.scaling}: a favourite would be picked {highest:.3g} times"
            )
        # with e.g. gain 1 a session of the best topic would give back more time than it takes
        if self.budget_gain * max(self.highest_quality, -self.lowest_quality) >= 1:
            raise ValueError(
                f"budget_gain is {self.budget_gain}; the best documents would give more time than they take"
            )

    @property
    def topic_quality(self) -> NDArray[np.float32]:
        """Mean quality per topic."""
        bad = int(self.num_topics * self.bad_share)
        means = [np.linspace(self.lowest_quality, 0, bad), np.linspace(0, self.highest_quality, self.num_topics - bad)]
        return np.concatenate(means).astype(np.float32)
