"""A critic with a tower for the state and one for the item: the values of all items start from one matrix product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.features import ItemContent
from slatewise.nn.choice import network
from slatewise.nn.item_table import ItemTable


@dataclass(frozen=True, kw_only=True)
class TwoTowerConfig:
    """The critic Q(s, a) = h(a) · link(⟨f_Q(s), g(a)⟩ + b(a)) + c(s), and how it learns."""

    width: int = 32
    """Width of both towers' ends, at least 2: a product and a bias."""
    state_hidden: tuple[int, ...] = (64,)
    """Hidden widths of f_Q."""
    item_hidden: tuple[int, ...] = ()
    """Hidden widths of g; none = linear in the item's vector."""
    item_bias: bool = True
    """b(a) has a number for each item beside what its vector says."""
    link: Literal["identity", "logistic"] = "identity"
    """What the product becomes: itself, or span · σ(product), for rewards that come or do not."""
    item_span: bool = False
    """With the logistic link: each item has its own span, because items that are accepted as often may lead to states
    that are not worth the same."""
    initial_value: float = 0.0
    """Q at the start, about."""
    value_unit: float = 1.0
    """The towers give Q in this unit of reward."""
    loss: Literal["squared", "by_outcome"] = "squared"
    """Squared error of Q; or, with the logistic link, of what Q is made of: E[y | chosen], E[y | not chosen], and by
    log-loss the chance to be chosen. Whether an item was chosen then does not blur what choosing it is worth."""
    l2: float = 0.0
    """Weight decay (L2 in the gradient)."""
    item_lr: float | None = None
    """Rate of row-wise Adagrad on the numbers of single items, b(a) and h(a); None = Adam, as for all else, which moves
    a row that is rarely read as far as its rate goes, however small the error."""

    def __post_init__(self) -> None:
        if self.width < 2:
            raise ValueError(f"width is {self.width}; expected at least 2: a product and a bias")
        if min((*self.state_hidden, *self.item_hidden), default=1) < 1:
            raise ValueError("hidden widths must be at least 1")
        if self.link != "logistic" and (self.item_span or self.loss == "by_outcome"):
            raise ValueError('item_span and loss = "by_outcome" need link = "logistic"')
        if not self.value_unit > 0:
            raise ValueError(f"value_unit is {self.value_unit}; expected a number above 0")
        if not self.l2 >= 0:
            raise ValueError(f"l2 is {self.l2}; expected 0 or more")


class TwoTowers(nn.Module):
    """Q(s, a) = h(a) · link(⟨f_Q(s), g(a)⟩ + b(a)) + c(s); b is the last output of the item's tower, c of the state's.

    h(a) is 1 where the link is the identity, else the span of the logistic curve: of all items, or of each item. With a
    span of each item, σ is the chance that something follows, and the span what that is worth.

    Args:
        config: widths and form.
        state_width: D.
        item_width: E.
        num_rows: rows of the item table.
        content: of the items; None = b(a) and h(a) are learned rows alone.
        generator: of the first weights.
    """

    def __init__(
        self,
        config: TwoTowerConfig,
        *,
        state_width: int,
        item_width: int,
        num_rows: int,
        content: ItemContent | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.unit = config.value_unit
        self.state = network([state_width, *config.state_hidden, config.width], generator=generator)
        with torch.no_grad():
            # all items have the same value at first: the largest of many random values is not a value
            *_, weight, _ = self.state.parameters()
            weight.zero_()
        self.item = network([item_width, *config.item_hidden, config.width], generator=generator)
        self.bias = ItemTable(num_rows, 1, content) if config.item_bias else None
        logistic = config.link == "logistic"
        # softplus⁻¹(1): one unit of reward between accepting and not
        self.span = nn.Parameter(torch.tensor(math.log(math.e - 1))) if logistic else None
        self.item_span = ItemTable(num_rows, 1, content) if logistic and config.item_span else None
        self.level = nn.Parameter(torch.tensor(config.initial_value / config.value_unit))

    def keys(self, vectors: Float[Tensor, "*A E"], items: Int[Tensor, "*A"] | None) -> Float[Tensor, "*A D"]:
        """[g(a) ; b(a)]; a point between the items (None) has no bias."""
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
        return self.item_span is None

    def spans(self, items: Int[Tensor, "*A"] | None) -> Float[Tensor, "*A"] | Float[Tensor, ""]:
        """h(a) > 0 of a logistic link; a point between the items (None) has the shared one."""
        assert self.span is not None
        offset = 0.0 if items is None or self.item_span is None else self.item_span(items).squeeze(-1)
        return nn.functional.softplus(self.span + offset)

    def values(
        self, product: Float[Tensor, "B A"], level: Float[Tensor, "B 1"], items: Int[Tensor, "*A"] | None
    ) -> Float[Tensor, "B A"]:
        """Q from inner products of queries and keys; items are those of the products, or None for points."""
        if self.span is not None:
            product = self.spans(items) * torch.sigmoid(product)
        return self.unit * (product + level)

    def ranking(self, product: Float[Tensor, "B A"], spans: Float[Tensor, "*S"] | None) -> Float[Tensor, "B A"]:
        """A cheaper score with the same order as Q: products, or h(a) σ(product) in place of them."""
        return product if spans is None else product.sigmoid_().mul_(spans)

    def from_ranking(self, ranked: Float[Tensor, "B A"], level: Float[Tensor, "B 1"]) -> Float[Tensor, "B A"]:
        """Q of what `ranking` gave."""
        if self.monotone:
            return self.values(ranked, level, None)
        return self.unit * (ranked + level)

    def by_outcome(
        self, state: Float[Tensor, "B D1"], vectors: Float[Tensor, "B E"], items: Int[Tensor, " B"]
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"], Float[Tensor, " B"]]:
        """A logistic link read as a chance to be chosen: its logit, Q if chosen (c + h), Q if not (c)."""
        query, level = self.queries(state)
        logit = (query * self.keys(vectors, items)).sum(dim=1)
        return logit, self.unit * (level.squeeze(1) + self.spans(items)), self.unit * level.squeeze(1)

    def action_values(
        self, state: Float[Tensor, "B D1"], vectors: Float[Tensor, "B E"], items: Int[Tensor, " B"] | None
    ) -> Float[Tensor, " B"]:
        """Q of one action a state: an item, or a point between the items (None)."""
        query, level = self.queries(state)
        product = (query * self.keys(vectors, items)).sum(dim=1, keepdim=True)
        return self.values(product, level, None if items is None else items.unsqueeze(1)).squeeze(1)
