"""[serve] of a run's configuration; the options of `slatewise serve` stand above it."""

from __future__ import annotations

from dataclasses import dataclass

from slatewise.types import Exploration


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a policy is served where a request does not say otherwise."""

    top_m: int = 100
    """How many of the best items may be shown (a longer slate raises it to its own length)."""
    keep: int | None = None
    """First positions that hold the best items, in order; None = half of the slate."""
    temperature: float = 1.0
    """The other positions are drawn by softmax(score / temperature)."""
    greedy: bool = False
    """Show the best items and draw nothing: every propensity is 1, and the log can judge no other policy."""
    allow_repeats: bool = False
    """Recommend items again that the user had already."""
    rewards: dict[str, float] | None = None
    """Outcome type → reward of one unit of its value, as `data import` is told; None = the value itself."""

    def __post_init__(self) -> None:
        self.exploration(1)

    def exploration(
        self, k: int, *, top_m: int | None = None, keep: int | None = None, temperature: float | None = None
    ) -> Exploration:
        """Exploration for a slate of k items; what is given stands above what is configured.

        Raises:
            ValueError: a number that `Exploration` refuses.
        """
        if keep is None:
            keep = k // 2 if self.keep is None else self.keep
        return Exploration(
            top_m=max(self.top_m, k) if top_m is None else top_m,
            keep=keep,
            temperature=self.temperature if temperature is None else temperature,
        )

    def reward(self, outcome_type: str, value: float) -> float:
        """What an outcome is worth; one of a type that the table does not name is worth nothing."""
        return value if self.rewards is None else value * self.rewards.get(outcome_type, 0.0)
