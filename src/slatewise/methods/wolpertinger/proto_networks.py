"""An actor that names a point among the items, critics that value items, and the vectors that both are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.item_vectors.catalog import catalog_vectors
from slatewise.log import Catalog
from slatewise.methods.wolpertinger.proto_action import on_sphere
from slatewise.methods.wolpertinger.two_towers import TwoTowerConfig, TwoTowers
from slatewise.nn.choice import network
from slatewise.nn.item_table import ItemTable
from slatewise.schedules import Schedule

FEW = 64
"""Values of k items are read one by one up to a share 1/FEW of the catalog; above that, all are computed at once."""


@dataclass(frozen=True, kw_only=True)
class ActorConfig:
    """f, which names the proto-action."""

    hidden: tuple[int, ...] = (64,)
    """Hidden widths."""
    lr: float | Schedule = 1e-3

    def __post_init__(self) -> None:
        if min(self.hidden, default=1) < 1:
            raise ValueError("hidden widths must be at least 1")


class ProtoNetworks(nn.Module):
    """Everything that has a target copy: item vectors, actor and critics.

    Args:
        state_width: D.
        catalog: of the items, and of their vectors where these are pretrained.
        embedding: vectors are learned, or the catalog's features, norms about 1.
        item_width: E of learned vectors.
        actor: f.
        critic: of each critic; the first one ranks.
        num_critics: 1, or 2 for twins.
        generator: of the first weights.
    """

    features: Tensor

    def __init__(
        self,
        state_width: int,
        catalog: Catalog,
        *,
        embedding: Literal["learned", "catalog"],
        item_width: int,
        actor: ActorConfig,
        critic: TwoTowerConfig,
        num_critics: int,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        features = catalog_vectors(catalog) if embedding == "catalog" else None
        width = item_width if features is None else features.shape[1]
        if features is not None and catalog.content is not None:
            raise ValueError('embedding = "catalog" takes the features as they are; items.content needs "learned"')
        sizes = {"state_width": state_width, "item_width": width, "num_rows": catalog.num_rows}
        critics = [TwoTowers(critic, **sizes, content=catalog.content, generator=generator) for _ in range(num_critics)]
        self.table: ItemTable | None = None
        if features is not None:
            # not a weight: the catalog has it
            self.register_buffer("features", features, persistent=False)
        else:
            self.table = ItemTable(catalog.num_rows, width, catalog.content)
            if generator is not None:
                self.table.reset(width**-0.5, generator)
        self.actor = network([state_width, *actor.hidden, width], generator=generator)
        self.critics = nn.ModuleList(critics)

    def vectors(self) -> Float[Tensor, "N E"]:
        """Vectors of every row, norms about 1."""
        return self.features if self.table is None else self.table.whole()

    def proto(self, state: Float[Tensor, "B D"]) -> Float[Tensor, "B E"]:
        """The proto-action: a point of the unit sphere."""
        return on_sphere(self.actor(state))

    def critic(self, number: int = 0) -> TwoTowers:
        """One of the critics; the first ranks."""
        critic = self.critics[number]
        assert isinstance(critic, TwoTowers)
        return critic

    def values(
        self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"], *, number: int = 0
    ) -> Float[Tensor, "B A"]:
        """Q of items by one of the critics."""
        critic, vectors = self.critic(number), self.vectors()
        query, level = critic.queries(state)
        if items.shape[1] * FEW <= len(vectors):
            product = torch.einsum("bd,bad->ba", query, critic.keys(vectors[items], items))
        else:
            product = (query @ critic.keys(vectors, torch.arange(len(vectors))).T).gather(1, items)
        return critic.values(product, level, items)
