"""An actor that names a point among the items, critics that value items, and the vectors that both are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM
from slatewise.methods.wolpertinger.proto_action import best_of_nearest, largest_columns, on_sphere
from slatewise.methods.wolpertinger.two_towers import TwoTowers
from slatewise.nn.choice import network
from slatewise.nn.item_table import ItemTable
from slatewise.ops import sampling
from slatewise.ops.initial import normal_

FEW = 64
"""Values of k items are read one by one up to a share 1/FEW of the catalog; above that, all are computed at once."""
BLOCK = 1 << 19
"""Values of all items are computed for so many states at a time that these are about as many numbers: they stay in a
core's cache."""


class Keys(NamedTuple):
    """What a critic needs to know of every row, whatever the state."""

    product: Float[Tensor, "N K"]
    """[g(a) ; b(a)]."""
    spans: Float[Tensor, " N"] | None
    """h(a), where items have spans of their own."""


class ProtoNetworks(nn.Module):
    """Everything that has a target copy.

    Args:
        state_width: D.
        features: vectors that the catalog brings, norms about 1; None = they are learned.
        num_rows: rows of the item table.
        item_width: E of learned vectors.
        actor_hidden: hidden widths of the actor.
        critics: the first one ranks.
        generator: of the first weights.
    """

    features: Tensor

    def __init__(
        self,
        state_width: int,
        *,
        features: Float[Tensor, "N E"] | None,
        num_rows: int,
        item_width: int,
        actor_hidden: Sequence[int],
        critics: Sequence[TwoTowers],
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.table: ItemTable | None = None
        if features is not None:
            # not a weight: the catalog has it
            self.register_buffer("features", features, persistent=False)
        else:
            self.table = ItemTable(num_rows, item_width)
            if generator is not None:
                normal_(self.table.weight, item_width**-0.5, generator)
        self.actor_net = network([state_width, *actor_hidden, item_width], generator=generator)
        self.critics = nn.ModuleList(critics)

    def vectors(self) -> Float[Tensor, "N E"]:
        """Of every row, norms about 1."""
        return self.features if self.table is None else self.table.whole()

    def proto(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The proto-action: a point of the unit sphere."""
        return on_sphere(self.actor_net(state))

    def critic(self, number: int = 0) -> TwoTowers:
        """One of them; the first ranks."""
        found = self.critics[number]
        assert isinstance(found, TwoTowers)
        return found

    def keys(self) -> Keys:
        """Of the first critic."""
        critic, vectors = self.critic(), self.vectors()
        every = torch.arange(len(vectors))
        return Keys(critic.keys(vectors, every), None if critic.monotone else critic.spans(every))

    def values(
        self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"], *, number: int = 0
    ) -> Float[Tensor, "B A"]:
        """Q of some items."""
        critic, vectors = self.critic(number), self.vectors()
        query, level = critic.queries(state)
        if items.shape[1] * FEW <= len(vectors):
            product = torch.einsum("bd,bad->ba", query, critic.keys(vectors[items], items))
        else:
            product = (query @ critic.keys(vectors, torch.arange(len(vectors))).T).gather(1, items)
        return critic.values(product, level, items)

    def best_of(
        self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"], keys: Keys | None = None
    ) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """The largest Q among some items, and its item; what is no item counts for nothing.

        Args:
            state: (B, D).
            items: found by a search.
            keys: what `keys` gives, where somebody has it ready.
        """
        if keys is None:
            values = self.values(state, items)
            largest, place = values.masked_fill(items < FIRST_ITEM, sampling.NEG_INF).max(dim=1, keepdim=True)
            return largest, items.gather(1, place)
        critic = self.critic()
        query, level = critic.queries(state)
        ranked = _ranked(critic, query, keys, items).masked_fill_(items < FIRST_ITEM, sampling.NEG_INF)
        largest, place = ranked.max(dim=1, keepdim=True)
        return critic.from_ranking(largest, level), items.gather(1, place)

    @torch.no_grad()
    def best_near(
        self,
        state: Float[Tensor, "B D"],
        proto: Float[Tensor, "B E"],
        positions: Float[Tensor, "I E"],
        count: int,
        keys: Keys | None = None,
    ) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """The largest Q among the items nearest to proto-actions, and its item, every item compared and none sorted.

        Args:
            state: (B, D).
            proto: of norm 1.
            positions: where real items are on the sphere.
            count: k; all items where it is their number.
            keys: what `keys` gives, where somebody has it ready.
        """
        critic = self.critic()
        query, level = critic.queries(state)
        product, spans = (None if part is None else part[FIRST_ITEM:] for part in (keys or self.keys()))
        assert product is not None
        here = Keys(product, spans)
        searches, few = count < len(positions), count * FEW <= len(positions)
        found = []
        rows = max(1, BLOCK // len(positions))
        for asked, towards in zip(torch.split(query, rows), torch.split(proto, rows), strict=True):
            closeness = towards @ positions.T if searches else None
            if few and closeness is not None:
                near = largest_columns(closeness, count)
                largest, place = _ranked(critic, asked, here, near).max(dim=1, keepdim=True)
                found.append((largest, near.gather(1, place)))
            else:
                found.append(best_of_nearest(critic.ranking(asked @ product.T, spans), closeness, count))
        ranked, column = (torch.cat(parts) for parts in zip(*found, strict=True))
        return critic.from_ranking(ranked, level), column + FIRST_ITEM


def _ranked(
    critic: TwoTowers, query: Float[Tensor, "B K"], keys: Keys, rows: Int[Tensor, "B A"]
) -> Float[Tensor, "B A"]:
    product = torch.einsum("bd,bad->ba", query, keys.product[rows])
    return critic.ranking(product, None if keys.spans is None else keys.spans[rows])
