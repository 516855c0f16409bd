"""A critic with a tower for the state and one for the item: the values of all items are one matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.heads.choice import network
from slatewise.tables import ItemTable


class TwoTowers(nn.Module):
    """Q(s, a) = link(⟨f_Q(s), g(a)⟩ + b(a)) + c(s); b is the last output of the item's tower, c of the state's.

    Args:
        state_width: D.
        item_width: E.
        num_rows: rows of the item table.
        width: of both towers' ends, at least 2: a product and a bias.
        state_hidden: hidden widths of f_Q.
        item_hidden: hidden widths of g; none = linear in the item's vector.
        item_bias: b(a) has a number of each item's own beside what its vector says.
        logistic: the link is span · σ; else the product itself.
        unit: Q is given in this unit of reward.
        level: Q before anything was learned, about.
        generator: of the first weights.
    """

    def __init__(
        self,
        state_width: int,
        item_width: int,
        num_rows: int,
        *,
        width: int,
        state_hidden: Sequence[int] = (),
        item_hidden: Sequence[int] = (),
        item_bias: bool = True,
        logistic: bool = False,
        unit: float = 1.0,
        level: float = 0.0,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.unit = unit
        self.state = network([state_width, *state_hidden, width], generator=generator)
        with torch.no_grad():
            # all items are alike at first: else the largest of many random values is what a maximum would find
            *_, weight, _ = self.state.parameters()
            weight.zero_()
        self.item = network([item_width, *item_hidden, width], generator=generator)
        self.bias = ItemTable(num_rows, 1) if item_bias else None
        # softplus⁻¹(1): one unit of reward between accepting and not
        self.span = nn.Parameter(torch.tensor(math.log(math.e - 1))) if logistic else None
        self.level = nn.Parameter(torch.tensor(level / unit))

    def keys(self, vectors: Float[Tensor, "*A E"], items: Int[Tensor, "*A"] | None) -> Float[Tensor, "*A D"]:
        """[g(a) ; b(a)]; a point that is no item (None) has no bias of its own."""
        # coordinates of unit vectors are small; networks learn faster from numbers of size 1
        keys: Tensor = self.item(vectors * vectors.shape[-1] ** 0.5)
        if self.bias is None or items is None:
            return keys
        return torch.cat([keys[..., :-1], keys[..., -1:] + self.bias(items)], dim=-1)

    def queries(self, state: Float[Tensor, "B D1"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B 1"]]:
        """[f_Q(s) ; 1] and c(s)."""
        out: Tensor = self.state(state)
        return torch.cat([out[:, :-1], torch.ones_like(out[:, -1:])], dim=1), self.level + out[:, -1:]

    def values(self, product: Float[Tensor, "B A"], level: Float[Tensor, "B 1"]) -> Float[Tensor, "B A"]:
        """Q from inner products of queries and keys."""
        if self.span is not None:
            product = nn.functional.softplus(self.span) * torch.sigmoid(product)
        return self.unit * (product + level)

    def each(
        self, state: Float[Tensor, "B D1"], vectors: Float[Tensor, "B E"], items: Int[Tensor, " B"] | None
    ) -> Float[Tensor, " B"]:
        """Q of one action a state: an item, or a point that is none."""
        query, level = self.queries(state)
        product = (query * self.keys(vectors, items)).sum(dim=1, keepdim=True)
        return self.values(product, level).squeeze(1)
