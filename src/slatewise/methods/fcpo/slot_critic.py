"""What every slot of a list gives by itself, and what follows the list: the baseline of gains that are told by slot."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from slatewise.nn.descent import descend
from slatewise.nn.state_dict import flat_state, restore_state
from slatewise.ops.initial import fan_in_


class SlotCritic:
    """State → K values of slots and one of the future, learned by squared errors with Adam; starts at 0.

    The gradient does not go into the state.
    """

    def __init__(
        self, state_width: int, slots: int, *, hidden: int, lr: float, steps: int, generator: Generator
    ) -> None:
        first = nn.Linear(state_width, hidden, device="meta").to_empty(device="cpu")
        last = nn.Linear(hidden, slots + 1, device="meta").to_empty(device="cpu")
        fan_in_(first.weight, generator)
        for weight in (first.bias, last.weight, last.bias):
            nn.init.zeros_(weight)
        self.network = nn.Sequential(first, nn.Tanh(), last)
        self.steps = steps
        self.generator = generator
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=lr, fused=True)

    @torch.no_grad()
    def advantage(
        self, state: Float[Tensor, "P D"], parts: Float[Tensor, "P K1"], shown: Bool[Tensor, "P K"]
    ) -> Float[Tensor, "P K"]:
        """What each slot gave and what followed, less what was expected; centred over the lists, slot by slot.

        Args:
            state: before each list.
            parts: what each slot gave itself; in the last column what followed the list.
            shown: True where the slot holds an item.
        """
        rest = parts - self._expected(state, shown.shape[1])
        gain = rest[:, :-1] + rest[:, -1:]
        mean = (gain * shown).sum(dim=0) / shown.sum(dim=0).clamp(min=1)
        return gain - mean

    def fit(
        self, state: Float[Tensor, "P D"], parts: Float[Tensor, "P K1"], shown: Bool[Tensor, "P K"], *, clip_norm: float
    ) -> float:
        """Some steps; returns the mean squared error before them."""
        weight = nn.functional.pad(shown.float(), (0, 1), value=1.0)
        before = 0.0
        for number in range(self.steps):
            error = (self._expected(state, shown.shape[1]) - parts).square() * weight
            loss = error.sum() / weight.sum()
            before = before if number else float(loss.detach())
            descend(loss, list(self.network.parameters()), self.optimiser, clip_norm)
        return before

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and moments."""
        flat = flat_state(self.network, self.optimiser, self.generator)
        flat.pop("generator")
        return flat

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        drawn = {"generator": self.generator.get_state()}
        restore_state(self.network, self.optimiser, self.generator, state | drawn)

    def _expected(self, state: Float[Tensor, "P D"], size: int) -> Float[Tensor, "P K1"]:
        found: Tensor = self.network(state)
        return torch.cat([found[:, :size], found[:, -1:]], dim=1)
