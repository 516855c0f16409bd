"""How a policy is evaluated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a policy is evaluated."""

    k: tuple[int, ...] = (10,)
    """Lengths of the lists."""
    liked_at_least: float | None = None
    """Held-out items with at least this reward count as liked and get columns of their own."""
    exclude_seen: bool = True
    """Items that the user used before are not recommended."""
    batch_size: int = 256
    """Users at once."""
    max_history: int = 1024
    """Newest events of a user that the state reads."""

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k is {list(self.k)}; expected list lengths of at least 1, for example [10]")
        if self.batch_size < 1 or self.max_history < 1:
            raise ValueError("batch_size and max_history must be at least 1")
