"""A critic with a tower for the state and one for the item: the values of all items start from one matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.nn.choice import network
from slatewise.nn.item_table import ItemTable


class TwoTowers(nn.Module):
    """Q(s, a) = h(a) · link(⟨f_Q(s), g(a)⟩ + b(a)) + c(s); b is the last output of the item's tower, c of the state's.

    h(a) is 1 where the link is the identity, else the span of the logistic curve: of all items, or of each item.

    Args:
        state_width: D.
        item_width: E.
        num_rows: rows of the item table.
        width: of both towers' ends, at least 2: a product and a bias.
        state_hidden: hidden widths of f_Q.
        item_hidden: hidden widths of g; none = linear in the item's vector.
        item_bias: b(a) has a number of each item's own beside what its vector says.
        logistic: the link is σ; else the product itself.
        item_span: every item has a span of its own: σ is then the chance that something follows, the span what that is
            worth.
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
        item_span: bool = False,
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
        self.own_span = ItemTable(num_rows, 1) if logistic and item_span else None
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

    @property
    def monotone(self) -> bool:
        """True where the order of the items' values is that of the products."""
        return self.own_span is None

    def spans(self, items: Int[Tensor, "*A"] | None) -> Float[Tensor, "*A"] | Float[Tensor, ""]:
        """h(a) > 0 of a logistic link; a point that is no item (None) has the one that all share."""
        assert self.span is not None
        own = 0.0 if items is None or self.own_span is None else self.own_span(items).squeeze(-1)
        return nn.functional.softplus(self.span + own)

    def values(
        self, product: Float[Tensor, "B A"], level: Float[Tensor, "B 1"], items: Int[Tensor, "*A"] | None
    ) -> Float[Tensor, "B A"]:
        """Q from inner products of queries and keys; items are those of the products, or None for points."""
        if self.span is not None:
            product = self.spans(items) * torch.sigmoid(product)
        return self.unit * (product + level)

    def ranking(self, product: Float[Tensor, "B A"], spans: Float[Tensor, "*S"] | None) -> Float[Tensor, "B A"]:
        """What orders the items as Q does at the least cost: products, or h(a) σ(product) in place of them."""
        return product if spans is None else product.sigmoid_().mul_(spans)

    def from_ranking(self, ranked: Float[Tensor, "B A"], level: Float[Tensor, "B 1"]) -> Float[Tensor, "B A"]:
        """Q of what `ranking` gave."""
        if self.monotone:
            return self.values(ranked, level, None)
        return self.unit * (ranked + level)

    def by_pick(
        self, state: Float[Tensor, "B D1"], vectors: Float[Tensor, "B E"], items: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
        """A logistic link read as a chance to be picked: its logit, Q if picked (c + h), Q if not (c)."""
        query, level = self.queries(state)
        logit = (query * self.keys(vectors, items)).sum(dim=1)
        return logit, self.unit * (level.squeeze(1) + self.spans(items)), self.unit * level.squeeze(1)

    def each(
        self, state: Float[Tensor, "B D1"], vectors: Float[Tensor, "B E"], items: Int[Tensor, " B"] | None
    ) -> Float[Tensor, " B"]:
        """Q of one action a state: an item, or a point that is none."""
        query, level = self.queries(state)
        product = (query * self.keys(vectors, items)).sum(dim=1, keepdim=True)
        return self.values(product, level, None if items is None else items.unsqueeze(1)).squeeze(1)
