"""Item-based nearest neighbours: what others used together with what this user used last.

Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; Deshpande & Karypis, TOIS 2004.

    sim(i, j) = c_ij / (√(c_i c_j) + shrink)         c_ij: users who used both
    score(j | s) = Σ_{n ≥ 0} decay^n · sim(i_n, j)    i_n: the n-th last item of the user

Deviations: the decay by recency (1 gives the papers' form); only the `neighbours` most similar items of each are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, Catalog
from slatewise.policies.ranked import RankedPolicy
from slatewise.protocols import StateEncoder
from slatewise.types import Trajectories

DEFAULT_ENCODER = "window"


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
    """Reads the window encoder's state; holds (N + 2, neighbours) similar items and similarities."""

    similar: Tensor
    similarity: Tensor

    def __init__(
        self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator | None = None
    ) -> None:
        del generator
        super().__init__(encoder, catalog.num_rows)
        self.config = config
        size = min(config.neighbours, catalog.num_items)
        self.register_buffer("similar", torch.zeros(catalog.num_rows, size, dtype=torch.int64))
        self.register_buffer("similarity", torch.zeros(catalog.num_rows, size))

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Summed similarities to the window; the state is the window encoder's."""
        window = state[:, : state.shape[1] // 2].long()
        longest = int((window > 0).sum(dim=1).max()) if len(window) else 0
        window = window[:, :longest]
        weight = self.config.decay ** torch.arange(longest, dtype=state.dtype) / self.config.temperature
        scores = state.new_zeros(len(state), self.num_rows)
        scores.scatter_add_(1, self.similar[window].flatten(1), (self.similarity[window] * weight[:, None]).flatten(1))
        return scores if items is None else scores.gather(1, items)


class Learner:
    """Counts pairs of items in a user's history."""

    single_pass = True

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self._policy = Policy(config, encoder, catalog, generator=generator)
        self._pairs = sparse.csr_matrix((catalog.num_rows, catalog.num_rows), dtype=np.float32)
        self._stale = False

    @property
    def policy(self) -> Policy:
        """The policy, its neighbours brought up to date with the pairs counted so far."""
        if self._stale:
            self._find_neighbours()
            self._stale = False
        return self._policy

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """Add the pairs of a batch; reports how many different pairs are known."""
        counts = trajectories.used & trajectories.learn.unsqueeze(2)
        item = torch.where(counts, trajectories.slate, 0).flatten(1)
        user, column = (item >= FIRST_ITEM).nonzero(as_tuple=True)
        used = sparse.csr_matrix(
            (np.ones(len(user), np.float32), (user.numpy(), item[user, column].numpy())),
            shape=(len(item), self._policy.num_rows),
        )
        used.data[:] = 1.0  # a user counts once for an item, however often it was used
        self._pairs = self._pairs + used.T @ used
        self._stale = True
        return {"pairs": float(self._pairs.nnz)}

    def state_dict(self) -> dict[str, Tensor]:
        """The counted pairs."""
        pairs = self._pairs
        return {
            "indptr": torch.from_numpy(pairs.indptr.astype(np.int64)),
            "indices": torch.from_numpy(pairs.indices.astype(np.int64)),
            "data": torch.from_numpy(pairs.data.copy()),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back."""
        arrays = (state["data"].numpy(), state["indices"].numpy(), state["indptr"].numpy())
        self._pairs = sparse.csr_matrix(arrays, shape=self._pairs.shape)
        self._stale = True

    def move_items(self, state: dict[str, Tensor], source: Int[Tensor, "rows"]) -> dict[str, Tensor]:
        """The pairs counted over another catalog, of the items that are in this one too."""
        arrays = (state["data"].numpy(), state["indices"].numpy(), state["indptr"].numpy())
        pairs = sparse.csr_matrix(arrays, shape=(len(state["indptr"]) - 1,) * 2)
        row = np.flatnonzero(source.numpy() >= FIRST_ITEM)
        moves = sparse.csr_matrix(
            (np.ones(len(row), np.float32), (row, source.numpy()[row])), shape=(len(source), pairs.shape[0])
        )
        self._pairs = (moves @ pairs @ moves.T).tocsr()
        return self.state_dict()

    def _find_neighbours(self) -> None:
        config, policy = self._policy.config, self._policy
        count = self._pairs.diagonal()
        root = np.sqrt(count)
        pairs = self._pairs.tocoo()
        other = pairs.row != pairs.col
        row, column = pairs.row[other], pairs.col[other]
        value = pairs.data[other] / (root[row] * root[column] + config.shrink)
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        near = rank < policy.similar.shape[1]
        place = (torch.from_numpy(row[near].astype(np.int64)), torch.from_numpy(rank[near]))
        policy.similar.zero_().index_put_(place, torch.from_numpy(column[near].astype(np.int64)))
        policy.similarity.zero_().index_put_(place, torch.from_numpy(value[near].astype(np.float32)))
