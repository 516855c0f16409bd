"""Settings of REINFORCE's parts: β̂, imitation, the items that stand for the catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from slatewise.nn.negatives import Sampler
from slatewise.schedules import Schedule, value_at


@dataclass(frozen=True, kw_only=True)
class BehaviourConfig:
    """Where β̂ comes from."""

    model: Literal["shared", "by_policy", "separate", "frequency"] = "shared"
    """A head on π's state with the gradient stopped (the paper's), such a head for every policy that the log names, one
    with an encoder of its own, or how often an item was shown, whatever the state."""
    propensities: Literal["logged", "estimated"] = "logged"
    """logged: from a log of single items, β is the propensity that the log has, and β̂ where a row has none; estimated:
    β̂ everywhere. Slates are weighted by β̂ either way."""
    logging_policies: int = 0
    """Heads of by_policy: the policies that the log names, and one for what has no name."""

    def __post_init__(self) -> None:
        if (self.model == "by_policy") != (self.logging_policies > 0):
            raise ValueError(
                f'logging_policies is {self.logging_policies} with model "{self.model}"; expected the number of '
                'logging policies + 1 with model "by_policy", and 0 with every other'
            )


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """First updates in which π learns every shown item, rewarded or not, as cloning does.

    Rewards are fewer than items shown, and what imitation teaches the state is a better start than chance.
    """

    retired_keys: ClassVar[Mapping[str, str]] = {
        "updates": "Set imitation.epochs: 0.5 imitates for the first half of the first epoch, whatever the log's size."
    }
    epochs: float = 0.0
    """How long, in passes over the log; parts of a pass count."""
    start: Literal["even", "popularity"] = "even"
    """Biases of π and β̂ before the first update: all 0, or the log of how often items were used, or shown, in the
    training part. A short log then need not teach first which items are popular."""
    lr: float | Schedule | None = None
    """Learning rate until rewards count; None = the method's lr. A lower one afterwards keeps more of it."""

    def __post_init__(self) -> None:
        if not 0 <= self.epochs < math.inf:
            raise ValueError(f"epochs is {self.epochs}; expected 0 or more")
        if self.lr is not None and not value_at(self.lr, 0) > 0:
            raise ValueError(f"lr is {self.lr}; expected a number above 0, or none at all")


@dataclass(frozen=True, kw_only=True)
class NegativesConfig:
    """Items that stand for the catalog in the softmax of a step."""

    count: int | None = None
    """0 = all of the catalog, exactly; None = 0 up to 50,000 items, 2,048 above. With negatives, item tables are
    learned by the rows a step reads."""
    sampler: Sampler = "popularity"
    """Where the negatives come from."""
    table_lr: float = 0.05
    """Learning rate of item tables that are learned by row (row-wise Adagrad)."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 0:
            raise ValueError(f"count is {self.count}; expected 0 (all items) or more")
        if not self.table_lr > 0:
            raise ValueError(f"table_lr is {self.table_lr}; expected a number above 0")
