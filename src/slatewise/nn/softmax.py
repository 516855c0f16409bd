"""Softmax over the catalog: π(a|s) = exp(sᵀv_a / τ + b_a) / Σ_b exp(sᵀv_b / τ + b_b)  (Chen et al. 2019, eq. 5)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.features import ItemContent
from slatewise.log import FIRST_ITEM
from slatewise.nn.item_table import ItemTable
from slatewise.ops.full_softmax import log_softmax_at
from slatewise.ops.negatives import Negatives
from slatewise.ops.sampled_softmax import sampled_log_softmax
from slatewise.ops.slate_softmax import sampled_log_softmax_slate

CLOSED = -1e30
"""Bias that leaves an item out of a softmax; finite, so that nothing becomes NaN."""


class SoftmaxHead(nn.Module):
    """Item table V and biases; row i belongs to item number i, the two reserved rows are never scored."""

    def __init__(
        self,
        width: int,
        num_rows: int,
        *,
        temperature: float = 1.0,
        content: ItemContent | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; expected a number above 0")
        self.temperature = temperature
        self.item = ItemTable(num_rows, width, content)
        """V"""
        self.bias = ItemTable(num_rows, 1, content)
        if generator is not None:
            self.item.reset(width**-0.5, generator)

    def start_from_counts(self, counts: Int[Tensor, " N"]) -> None:
        """Set the biases to log(count + 1), so that a state of zeros gives items their popularity.

        Args:
            counts: of every row of the item table.
        """
        with torch.no_grad():
            self.bias.weight[:, 0] = torch.log1p(counts.to(self.bias.weight.dtype))
            self.bias.weight[:FIRST_ITEM] = 0.0

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Logits of items, or of every row for None."""
        scaled = state / self.temperature
        if items is None:
            return torch.addmm(self.bias.whole()[:, 0], scaled, self.item.whole().T)
        rows: Tensor = self.item(items)
        bias: Tensor = self.bias(items)
        return torch.einsum("bd,bad->ba", scaled, rows) + bias[..., 0]

    def log_prob(
        self, state: Float[Tensor, "P D"], item: Int[Tensor, " P"], negatives: Negatives | None = None
    ) -> Float[Tensor, " P"]:
        """Log π of one real item per state.

        Args:
            state: (P, D) s of each position.
            item: (P,) its item, ≥ 2.
            negatives: None = exact, normalised over the whole catalog; else an estimate from negatives that stand for
                the catalog, whose gradient reaches only the rows of these items.
        """
        if negatives is None:
            weight, bias = self.item.whole()[FIRST_ITEM:], self._biases(None)[FIRST_ITEM:]
            return log_softmax_at(state / self.temperature, weight, bias, item - FIRST_ITEM)
        return sampled_log_softmax(
            state,
            self.item(item),
            self.item(negatives.items),
            log_weight=negatives.log_weight,
            hit=negatives.column(item),
            positive_bias=self._biases(item),
            negative_bias=self._biases(negatives.items),
            temperature=self.temperature,
        )

    def log_probs(self, state: Float[Tensor, "P D"]) -> Float[Tensor, "P N"]:
        """Log π of every row of the item table; −inf for reserved rows."""
        real = torch.log_softmax(self.scores(state, None)[:, FIRST_ITEM:], dim=1)
        return nn.functional.pad(real, (FIRST_ITEM, 0), value=float("-inf"))

    def log_prob_slate(
        self, state: Float[Tensor, "P D"], slate: Int[Tensor, "P K"], negatives: Negatives | None = None
    ) -> Float[Tensor, "P K"]:
        """Log π of every item of a slate, each as a single draw; as `log_prob`, with the sum over the catalog shared.

        Args:
            state: (P, D) s of each slate.
            slate: (P, K) its items, ≥ 2.
            negatives: None = exact; else an estimate whose gradient reaches only the rows of these items.
        """
        size = slate.shape[1]
        if negatives is None or size == 1:
            each = state.repeat_interleave(size, dim=0) if size > 1 else state
            return self.log_prob(each, slate.flatten(), negatives).view(slate.shape)
        return sampled_log_softmax_slate(
            state,
            self.item(slate),
            self.item(negatives.items),
            log_weight=negatives.log_weight,
            hit=negatives.column(slate),
            positive_bias=self._biases(slate),
            negative_bias=self._biases(negatives.items),
            temperature=self.temperature,
        )

    @torch.no_grad()
    def vectors(self) -> Float[Tensor, "N E"]:
        """v_a of every real item."""
        return self.item.whole()[FIRST_ITEM:]

    @torch.no_grad()
    def item_bias(self) -> Float[Tensor, " N"]:
        """b_a of every real item."""
        return self.bias.whole()[FIRST_ITEM:, 0]

    def query(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The state over τ: its product with v_a, plus b_a, is the score."""
        return state / self.temperature

    def _biases(self, items: Int[Tensor, "*A"] | None) -> Float[Tensor, "*A"]:
        """Biases of items, or of every row for None; while the head trains, lowest where an item has no event."""
        biases = (self.bias.whole() if items is None else self.bias(items))[..., 0]
        closed = self.bias.is_closed(items)
        return biases if closed is None else biases.masked_fill(closed, CLOSED)
