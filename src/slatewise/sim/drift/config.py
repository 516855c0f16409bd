"""Constants of the video site, and who writes its log."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ItemsConfig:
    """How items are drawn.

    Raises:
        ValueError: a correlation outside [0, 1].
    """

    topic_spread: float = 0.5
    """How far item vectors stand from the centre of their topic (both of norm 1)."""
    appeal_std: float = 0.5
    """Standard deviation of the appeal; quality has 1."""
    length_minutes: float = 6.0
    """Median length of an item."""
    length_spread: float = 0.4
    """Standard deviation of its logarithm."""
    popularity_appeal: float = 0.5
    """Correlation of popularity with appeal."""

    def __post_init__(self) -> None:
        _check_share("popularity_appeal", self.popularity_appeal)


@dataclass(frozen=True, kw_only=True)
class ChoiceConfig:
    """What a user picks from a slate.

    Raises:
        ValueError: a decay outside [0, 1].
    """

    sensitivity: float = 4.0
    null_utility: float = 4.0
    """Utility of picking nothing."""
    position_decay: float = 0.95
    tiring: float = 0.5
    """Utility lost per unit of fatigue."""
    fatigue_decay: float = 0.85

    def __post_init__(self) -> None:
        _check_share("position_decay", self.position_decay)
        _check_share("fatigue_decay", self.fatigue_decay)


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """What share of an item is watched: σ of this sum."""

    bias: float = -0.5
    affinity: float = 1.5
    quality: float = 0.5
    noise: float = 0.5


@dataclass(frozen=True, kw_only=True)
class InterestConfig:
    """How interests begin and move.

    Raises:
        ValueError: no favourite.
    """

    favourites: int = 3
    """Topics that a new user likes; their interest has norm 1."""
    growth: float = 0.1
    cap: float = 2.0
    """Largest norm of an interest."""

    def __post_init__(self) -> None:
        _check_count("favourites", self.favourites)


@dataclass(frozen=True, kw_only=True)
class VisitConfig:
    """When users go and come back, whatever was shown.

    Raises:
        ValueError: a chance outside [0, 1].
    """

    end: float = 0.1
    """Chance that a visit ends after a slate; the time until the next is log-normal."""
    gap_hours: float = 8.0
    """Median time between two visits."""

    def __post_init__(self) -> None:
        _check_share("end", self.end)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Constants of the site.

    Raises:
        ValueError: a count below 1, or a slate larger than the catalog.
    """

    num_items: int = 10_000
    num_topics: int = 50
    width: int = 16
    """E: width of item vectors and interests."""
    slate_size: int = 16
    lifetime: int = 50
    """Slates that a user sees; then somebody new takes their place."""
    memory: int = 50
    """Watched items that a user remembers."""
    world_seed: int = 0
    """Of the items; users are drawn by the seed of `reset`."""
    items: ItemsConfig = field(default_factory=ItemsConfig)
    choice: ChoiceConfig = field(default_factory=ChoiceConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    interest: InterestConfig = field(default_factory=InterestConfig)
    visit: VisitConfig = field(default_factory=VisitConfig)

    def __post_init__(self) -> None:
        for name in ("num_items", "num_topics", "width", "slate_size", "lifetime", "memory"):
            _check_count(name, getattr(self, name))
        if self.slate_size > self.num_items:
            raise ValueError(f"slate_size is {self.slate_size}, the catalog has {self.num_items} items")


@dataclass(frozen=True, kw_only=True)
class World:
    """Who wrote the log: shares of the users, and how strongly popular items are favoured."""

    popular: float
    """Share of the policy that shows popular items, the same to everybody."""
    topical: float
    """Share of the policy that shows popular items of the topics picked lately."""
    uniform: float
    """Share of the policy that shows every item equally often."""
    exponent: float
    """An item of popularity rank ρ is drawn in proportion to ρ^−exponent."""


WORLDS = {
    "strong": World(popular=0.5, topical=0.4, uniform=0.1, exponent=1.0),
    "mild": World(popular=0.3, topical=0.4, uniform=0.3, exponent=0.5),
    "uniform": World(popular=0.0, topical=0.0, uniform=1.0, exponent=0.0),
}
"""Zipf's law and a tenth of random traffic; half that exponent and a third; all random, so nothing to correct."""


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; expected a number in [0, 1]")
