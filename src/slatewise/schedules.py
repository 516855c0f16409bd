"""Settings that change while a learner learns.

A field of a Config that may change has the type `float | Schedule`; a number is constant:

    lr = 0.003
    lr = { shape = "linear", first = 0.003, last = 0.0, updates = 2000 }

A learner reads `value_at(config.lr, updates)` before each update, so a resumed run goes on with the right value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A value that moves from `first` to `last` with the number of updates n, then stays.

        t = (n − start) / updates, clipped to [0, 1]
        linear      first · (1 − t) + last · t
        geometric   first · (last / first) ^ t

    Raises:
        ValueError: a count that is too small, a value below 0, or a geometric one that is 0.
    """

    shape: Literal["linear", "geometric"] = "linear"
    first: float
    last: float
    updates: int
    """Updates from `first` to `last`."""
    every: int = 1
    """Updates that share a value: a round of play, an epoch."""
    start: int = 0
    """Updates before it begins to move."""

    def __post_init__(self) -> None:
        if self.updates < 1 or self.every < 1 or self.start < 0:
            raise ValueError(
                f"a schedule of {self.updates} updates, {self.every} at a time, from update {self.start}: expected at "
                "least 1, 1 and 0"
            )
        if min(self.first, self.last) < 0 or (self.shape == "geometric" and not min(self.first, self.last) > 0):
            least = "above 0" if self.shape == "geometric" else "of 0 or more"
            raise ValueError(f"a {self.shape} schedule from {self.first} to {self.last}: expected numbers {least}")

    def at(self, updates: int) -> float:
        """The value after so many updates."""
        moved = min(max(updates - self.start, 0) // self.every * self.every, self.updates)
        if self.shape == "geometric":
            return self.first * float((self.last / self.first) ** (1 / self.updates)) ** moved
        share = moved / self.updates
        return self.first * (1 - share) + self.last * share


def linear(first: float, last: float, *, updates: int, every: int = 1, start: int = 0) -> Schedule:
    """A value that moves by the same amount with every update."""
    return Schedule(shape="linear", first=first, last=last, updates=updates, every=every, start=start)


def geometric(first: float, last: float, *, updates: int, every: int = 1, start: int = 0) -> Schedule:
    """A value that moves by the same factor with every update."""
    return Schedule(shape="geometric", first=first, last=last, updates=updates, every=every, start=start)


def value_at(setting: float | Schedule, updates: int) -> float:
    """A setting after so many updates."""
    return setting.at(updates) if isinstance(setting, Schedule) else setting


__all__ = ["Schedule", "geometric", "linear", "value_at"]
