"""K rows of a Gaussian at once, and the lists that they give (Ge et al. 2021, eq. 7–9)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from slatewise.features import ItemContent
from slatewise.log import FIRST_ITEM
from slatewise.nn.item_table import ItemTable
from slatewise.ops import list_rows
from slatewise.ops.initial import fan_in_
from slatewise.ops.shown_rows import at_steps
from slatewise.policies.listed import ListedPolicy, numbers
from slatewise.protocols import StateEncoder
from slatewise.types import SlateRequest, Trajectories

LOG_STD = (-5.0, 2.0)
"""Bounds of log σ."""
FIRST_LOG_STD = -1.0


class GaussianListHead(nn.Module):
    """State → μ and log σ of every row."""

    def __init__(
        self, state_width: int, slots: int, width: int, *, hidden: int = 0, generator: Generator | None = None
    ) -> None:
        super().__init__()
        self.slots = slots
        self.width = width
        reads = hidden or state_width
        self.hidden = _linear(state_width, hidden, generator) if hidden else None
        self.mean = _linear(reads, slots * width, generator)
        self.log_std = _linear(reads, slots * width, None)
        nn.init.constant_(self.log_std.bias, FIRST_LOG_STD)
        if generator is not None:
            fan_in_(self.mean.bias.view(1, -1), generator)

    def forward(self, state: Float[Tensor, "B D"], k: int) -> tuple[Float[Tensor, "B K E"], Float[Tensor, "B K E"]]:
        """The first k rows; the last one again for slots beyond it."""
        layer = state if self.hidden is None else torch.tanh(self.hidden(state))
        row = torch.arange(k).clamp(max=self.slots - 1)
        mean: Tensor = self.mean(layer).view(len(state), self.slots, self.width)
        log_std: Tensor = self.log_std(layer).view(len(state), self.slots, self.width).clamp(*LOG_STD)
        return mean[:, row], log_std[:, row]

    @torch.no_grad()
    def start_at_zero(self, column: int, *, std_factor: float) -> None:
        """One number of every row has mean 0 at first, and the σ of the others times `std_factor`."""
        self.mean.weight.view(self.slots, self.width, -1)[:, column] = 0.0
        self.mean.bias.view(self.slots, self.width)[:, column] = 0.0
        self.log_std.bias.view(self.slots, self.width)[:, column] = FIRST_LOG_STD + math.log(std_factor)

    def both(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E2"]:
        """[μ ; log σ]."""
        return torch.cat(self(state, k), dim=2)


class GaussianListPolicy(ListedPolicy):
    """Rows of W from the state, and lists by softmax of their products with V.

    Args:
        encoder: of the state.
        num_rows: rows of the item table.
        slots: K, rows of W.
        width: E of the item vectors.
        hidden: width of a layer between state and rows; 0 = none.
        temperature: τ.
        mark: what V holds in one more column for popular items; None = V has no such column.
        content: of the items; None = V is learned rows alone.
        generator: of the first weights.
    """

    def __init__(
        self,
        encoder: StateEncoder,
        num_rows: int,
        *,
        slots: int,
        width: int,
        hidden: int,
        temperature: float,
        mark: float | None,
        content: ItemContent | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(encoder, ItemTable(num_rows, width, content), temperature=temperature)
        marked = mark is not None
        self.head = GaussianListHead(encoder.width, slots, width + marked, hidden=hidden, generator=generator)
        self.register_buffer("popular", torch.zeros(num_rows, int(marked)))
        self.popular: Float[Tensor, "rows M"]
        """The last column of V: the mark of popular items; of width 0 where nobody says which they are."""
        self.mark = mark
        if generator is not None:
            self.item.reset(width**-0.5, generator)
            with torch.no_grad():
                self.item.weight[:FIRST_ITEM] = 0.0
                if mark is not None:
                    self.head.start_at_zero(width, std_factor=1 / mark)

    def vectors(self, items: Int[Tensor, "*A"] | None = None) -> Float[Tensor, "*A E"]:
        """V with the mark of the popular items."""
        learned = super().vectors(items)
        return torch.cat([learned, self.popular if items is None else self.popular[items]], dim=-1)

    def mark_popular(self, popular: Bool[Tensor, " rows"]) -> None:
        """Say which items are popular now."""
        if self.mark is not None:
            self.popular.copy_(self.mark * popular.unsqueeze(1))

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """μ of the first k rows."""
        mean: Tensor = self.head(state, k)[0]
        return mean

    def head_outputs(self, trajectories: Trajectories, steps: Bool[Tensor, "B T"]) -> Float[Tensor, "P K E2"]:
        """[μ ; log σ] at these steps, a row for each slot of the slates."""
        states = at_steps(self.encoder(trajectories), steps)
        return self.head.both(states, trajectories.slate.shape[2])

    def draw(
        self, state: Float[Tensor, "B D"], request: SlateRequest, *, generator: Generator
    ) -> tuple[Float[Tensor, "B K E"], Int[Tensor, "B K"]]:
        """W drawn from the Gaussian, and its list, row by row the best item that is left (eq. 7–9)."""
        mean, log_std = self.head(state, request.k)
        rows = mean + log_std.exp() * torch.empty_like(mean).normal_(generator=generator)
        logits, items = self.open_logits(rows, request)
        return rows, numbers(list_rows.draw_rows(logits, None, None), items)


def _linear(reads: int, width: int, generator: Generator | None) -> nn.Linear:
    """A layer that starts at 0, or from the generator."""
    layer = nn.Linear(reads, width, device="meta").to_empty(device="cpu")
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    if generator is not None:
        fan_in_(layer.weight, generator)
    return layer
