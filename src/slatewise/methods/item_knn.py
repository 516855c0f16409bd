"""Item-based nearest neighbours: what others used together with what this user used last.

Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; Deshpande & Karypis, TOIS 2004.

    sim(i, j) = c_ij / (√(c_i c_j) + shrink)         c_ij: users who used both
    score(j | s) = Σ_{n ≥ 0} decay^n · sim(i_n, j)    i_n: the n-th last item of the user

Deviations: the decay by recency (1 gives the papers' form); only the `neighbours` most similar items of each are kept;
items of equal score are ordered by how often they were used.

Unknown users: popularity of the training part, with its probabilities, for users without a use and for those none of
whose last items has a neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy import sparse
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, Catalog
from slatewise.ops.largest import DECIMALS
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.types import Trajectories

DEFAULT_ENCODER = "window"
MOST_PRODUCTS = 1 << 21
"""Pairs of items, one for each user who used both, that are counted at once; a user with X items has X² of them."""
NUDGE = 1e-6
"""What the most popular item's score has above that of an unused one, so that popularity orders equal scores."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of the neighbourhood."""

    neighbours: int = 100
    """How many similar items are kept of each item."""
    shrink: float = 10.0
    """Added to the denominator: similarities that few users support count less."""
    decay: float = 1.0
    """Weight of the n-th last item is decay^n."""
    temperature: float = 0.1
    """Scores are divided by it where they become probabilities."""

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours is {self.neighbours}; expected at least 1")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay is {self.decay}; expected a number in (0, 1]")
        if not self.temperature > 0 or self.shrink < 0:
            raise ValueError(f"temperature {self.temperature} must be above 0 and shrink {self.shrink} not below 0")


class Policy(RankedPolicy):
    """Reads the window encoder's state; holds (N + 2, neighbours) similar items with similarities, and use counts."""

    similar: Tensor
    similarity: Tensor
    count: Tensor

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        del generator
        super().__init__(encoder, catalog.num_rows)
        self.config = config
        size = min(config.neighbours, catalog.num_items)
        self.register_buffer("similar", torch.zeros(catalog.num_rows, size, dtype=torch.int64))
        self.register_buffer("similarity", torch.zeros(catalog.num_rows, size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(catalog.num_rows, dtype=torch.float64))

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Summed similarities to the window, in double precision; log(count + 1) where they are all 0.

        The state is the window encoder's.
        """
        window = state[:, : state.shape[1] // 2].long()
        longest = int((window > 0).sum(dim=1).max()) if len(window) else 0
        window = window[:, :longest]
        weight = self.config.decay ** torch.arange(longest, dtype=torch.float64) / self.config.temperature
        scores = torch.zeros(len(state), self.num_rows, dtype=torch.float64)
        scores.scatter_add_(1, self.similar[window].flatten(1), (self.similarity[window] * weight[:, None]).flatten(1))
        popularity = torch.log1p(self.count)
        order = NUDGE / popularity.max().clamp(min=1.0) * popularity
        has_neighbours = (scores > 0).any(dim=1, keepdim=True)
        scores = torch.where(has_neighbours, scores + order, popularity)
        return scores if items is None else scores.gather(1, items)


class Learner:
    """Remembers which items each user used; pairs are counted when the neighbours are asked for."""

    single_pass = True

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self._policy = Policy(config, encoder, catalog, generator=generator)
        self._sizes: list[NDArray[np.int64]] = []
        """How many different items each user used, a piece for every update."""
        self._items: list[NDArray[np.int64]] = []
        """Those items, user by user."""
        self._stale = False

    @property
    def policy(self) -> Policy:
        """The policy, its neighbours brought up to date with the uses seen so far."""
        if self._stale:
            self._find_neighbours()
            self._stale = False
        return self._policy

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """Add the users of a batch; reports how many pairs of a user and an item there are so far."""
        counts = trajectories.used & trajectories.learn.unsqueeze(2)
        item = torch.where(counts, trajectories.slate, 0).flatten(1)
        user, column = (item >= FIRST_ITEM).nonzero(as_tuple=True)
        item = item[user, column]
        uses = torch.bincount(item, minlength=self._policy.num_rows)
        self._policy.count += uses
        # a user counts once for an item, however often it was used
        once = torch.unique(user * self._policy.num_rows + item)
        self._sizes.append(torch.bincount(once // self._policy.num_rows, minlength=len(counts)).numpy())
        self._items.append((once % self._policy.num_rows).numpy())
        self._stale = True
        return {"user_items": float(sum(map(len, self._items)))}

    def state_dict(self) -> dict[str, Tensor]:
        """The items of every user, and the uses of every item."""
        sizes, items = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (self._sizes, self._items))
        return {"size": torch.from_numpy(sizes), "item": torch.from_numpy(items), "count": self._policy.count.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        self._sizes, self._items = [state["size"].numpy()], [state["item"].numpy()]
        self._policy.count.copy_(state["count"])
        self._stale = True

    def move_items(self, state: dict[str, Tensor], source: Int[Tensor, "rows"]) -> dict[str, Tensor]:
        """What users of another catalog used, of the items that are in this one too."""
        has_source = source >= FIRST_ITEM
        number = torch.zeros_like(state["count"], dtype=torch.int64)
        number[source[has_source]] = has_source.nonzero().squeeze(1)
        item, user = number[state["item"]], torch.repeat_interleave(state["size"])
        size = torch.bincount(user[item > 0], minlength=len(state["size"]))
        return {"size": size, "item": item[item > 0], "count": state["count"][source] * has_source}

    def _find_neighbours(self) -> None:
        """The most similar items of each, a block of items at a time, so that no user's pairs are held at once."""
        config, policy = self._policy.config, self._policy
        state = self.state_dict()
        size, item = state["size"].numpy(), state["item"].numpy()
        shape = (len(size), policy.num_rows)
        users = sparse.csr_matrix((np.ones(len(item)), item, np.append(0, np.cumsum(size))), shape=shape)
        items = users.T.tocsr()
        root = np.sqrt(np.asarray(users.sum(axis=0)).ravel())
        policy.similar.zero_()
        policy.similarity.zero_()
        for block in _blocks(items @ size.astype(np.float64)):
            pairs = (items[block] @ users).tocoo()
            row, column = pairs.row + block.start, pairs.col
            other = row != column
            row, column = row[other], column[other]
            value = pairs.data[other] / (root[row] * root[column] + config.shrink)
            order = np.lexsort((column, -value.round(DECIMALS), row))
            row, column, value = row[order], column[order], value[order]
            rank = np.arange(len(row)) - np.searchsorted(row, row)
            near = rank < policy.similar.shape[1]
            place = (torch.from_numpy(row[near].astype(np.int64)), torch.from_numpy(rank[near]))
            policy.similar.index_put_(place, torch.from_numpy(column[near].astype(np.int64)))
            policy.similarity.index_put_(place, torch.from_numpy(value[near]))


def _blocks(products: Float[np.ndarray, " rows"]) -> Iterator[slice]:
    """Consecutive items with at most MOST_PRODUCTS products together, or a single one."""
    total = np.append(0.0, np.cumsum(products))
    start = 0
    while start < len(products):
        stop = int(np.searchsorted(total, total[start] + MOST_PRODUCTS, side="right")) - 1
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start = stop
