"""Per-position value baseline: predicts each slot's immediate reward and the return after the list."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from slatewise.nn.descent import descend
from slatewise.nn.state_dict import flat_state, restore_state
from slatewise.ops.initial import fan_in_


@dataclass(frozen=True, kw_only=True)
class SlotCriticConfig:
    """Size of a critic and how it learns."""

    hidden: int = 32
    lr: float = 0.05
    steps: int = 10
    """Steps in one update."""

    def __post_init__(self) -> None:
        for name in ("hidden", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; expected a number above 0")


class SlotCritic:
    """State → K values of slots and one of the future, learned by squared errors with Adam; starts at 0.

    The gradient does not go into the state.
    """

    def __init__(self, config: SlotCriticConfig, *, state_width: int, slots: int, generator: Generator) -> None:
        first = nn.Linear(state_width, config.hidden, device="meta").to_empty(device="cpu")
        last = nn.Linear(config.hidden, slots + 1, device="meta").to_empty(device="cpu")
        fan_in_(first.weight, generator)
        for weight in (first.bias, last.weight, last.bias):
            nn.init.zeros_(weight)
        self.network = nn.Sequential(first, nn.Tanh(), last)
        self.steps = config.steps
        self.generator = generator
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=config.lr, fused=True)

    @torch.no_grad()
    def advantage(
        self, state: Float[Tensor, "P D"], parts: Float[Tensor, "P K1"], shown: Bool[Tensor, "P K"]
    ) -> Float[Tensor, "P K"]:
        """Each slot's own reward and the return after the list, less their predictions; centred over lists, by slot.

        Args:
            state: before each list.
            parts: each slot's own reward; in the last column the return after the list.
            shown: True where the slot holds an item.
        """
        error = parts - self._predict(state, shown.shape[1])
        advantage = error[:, :-1] + error[:, -1:]
        mean = (advantage * shown).sum(dim=0) / shown.sum(dim=0).clamp(min=1)
        return advantage - mean

    def fit(
        self, state: Float[Tensor, "P D"], parts: Float[Tensor, "P K1"], shown: Bool[Tensor, "P K"], *, clip_norm: float
    ) -> float:
        """Take the steps of one update; returns the mean squared error before them."""
        weight = nn.functional.pad(shown.float(), (0, 1), value=1.0)
        first_loss = 0.0
        for number in range(self.steps):
            error = (self._predict(state, shown.shape[1]) - parts).square() * weight
            loss = error.sum() / weight.sum()
            first_loss = first_loss if number else float(loss.detach())
            descend(loss, list(self.network.parameters()), self.optimiser, clip_norm)
        return first_loss

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and moments."""
        flat = flat_state(self.network, self.optimiser, self.generator)
        flat.pop("generator")
        return flat

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        generator_state = {"generator": self.generator.get_state()}
        restore_state(self.network, self.optimiser, self.generator, state | generator_state)

    def _predict(self, state: Float[Tensor, "P D"], size: int) -> Float[Tensor, "P K1"]:
        values: Tensor = self.network(state)
        return torch.cat([values[:, :size], values[:, -1:]], dim=1)
