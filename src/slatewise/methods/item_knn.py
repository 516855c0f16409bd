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
from scipy import sparse
from torch import Generator, Tensor

from slatewise.encoders.window import Encoder as WindowEncoder
from slatewise.errors import input_error
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
        if not isinstance(encoder, WindowEncoder):
            raise ValueError(
                'item_knn reads the last used items off its state, so it needs the encoder "window"; leave [encoder] '
                'out, or set name = "window" alone'
            )
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
    """Remembers how often each user used which items; pairs are counted when the neighbours are asked for.

    Users are known by a key: one who comes again, after training has started from a run, is still one user, with the
    items of then and now. Events that such training reads and does not learn from are those that the run may have
    counted: of an item's earlier uses and those in the run, the larger number counts.
    """

    single_pass = True

    def __init__(self, config: Config, encoder: StateEncoder, catalog: Catalog, *, generator: Generator) -> None:
        self._policy = Policy(config, encoder, catalog, generator=generator)
        self._user_keys: Int[Tensor, " U"] | None = None
        self._parts: list[Int[np.ndarray, "4 R"]] = [np.zeros((4, 0), np.int64)]
        """Key of the user, item, learned and earlier uses: a column for each user and item of an update."""
        self._stale = False

    @property
    def policy(self) -> Policy:
        """The policy, its counts and neighbours brought up to date with the uses seen so far."""
        if self._stale:
            self._find_neighbours()
            self._stale = False
        return self._policy

    def name_users(self, keys: Int[Tensor, " U"]) -> None:
        """Know users by a key that is the same in every log, in place of their number in one.

        Args:
            keys: one for every number of a user.
        """
        self._user_keys = keys

    def update(self, trajectories: Trajectories) -> dict[str, float]:
        """Add the users of a batch; reports how many pairs of a user and an item the batches have had so far."""
        # without keys nothing says that the events before were counted already
        counts = trajectories.learn if self._user_keys is None else trajectories.mask
        item = torch.where(trajectories.used & counts.unsqueeze(2), trajectories.slate, 0)
        row, step, position = (item >= FIRST_ITEM).nonzero(as_tuple=True)
        user, learned = trajectories.user[row, step], trajectories.learn[row, step]
        key = user if self._user_keys is None else self._user_keys[user]
        uses = torch.stack([key, item[row, step, position], learned.long(), (~learned).long()]).numpy()
        pair, uses = _by_pair(uses)
        sums = np.add.reduceat(uses[2:], pair, axis=1) if len(pair) else uses[2:]
        self._parts.append(np.concatenate([uses[:2, pair], sums]))
        self._stale = True
        return {"user_items": float(sum(part.shape[1] for part in self._parts))}

    def state_dict(self) -> dict[str, Tensor]:
        """Every user's items with the number of their uses, by user and item."""
        pair, uses = _by_pair(np.concatenate(self._parts, axis=1))
        learned, earlier = uses[2], uses[3]
        if len(pair):
            learned, earlier = np.add.reduceat(learned, pair), np.maximum.reduceat(earlier, pair)
        user, item = torch.from_numpy(uses[0][pair]), torch.from_numpy(uses[1][pair])
        return {"user": user, "item": item, "uses": torch.from_numpy(learned + earlier)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Put them back.

        Raises:
            InputError: the state of an earlier version.
        """
        _check_version(state)
        columns = [state["user"], state["item"], torch.zeros_like(state["uses"]), state["uses"]]
        self._parts = [torch.stack(columns).numpy()]
        self._stale = True

    def move_items(self, state: dict[str, Tensor], source: Int[Tensor, "rows"]) -> dict[str, Tensor]:
        """What users of another catalog used, of the items that are in this one too.

        Raises:
            InputError: the state of an earlier version.
        """
        _check_version(state)
        has_source = source >= FIRST_ITEM
        number = torch.zeros(1 + int(torch.cat([source, state["item"]]).max()), dtype=torch.int64)
        number[source[has_source]] = has_source.nonzero().squeeze(1)
        item = number[state["item"]]
        return {name: column[item > 0] for name, column in {**state, "item": item}.items()}

    def _find_neighbours(self) -> None:
        """The most similar items of each, a block of items at a time, so that no user's pairs are held at once."""
        config, policy = self._policy.config, self._policy
        state = self.state_dict()
        item = state["item"].numpy()
        policy.count.copy_(torch.bincount(state["item"], state["uses"].double(), minlength=policy.num_rows))
        _, size = np.unique(state["user"].numpy(), return_counts=True)
        shape = (len(size), policy.num_rows)
        # a user counts once for an item, however often it was used
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


def _check_version(state: dict[str, Tensor]) -> None:
    if "user" not in state:
        raise input_error(
            "it was trained by an earlier version, which did not keep whose uses it counted",
            advice="Train it anew, without --from and with --overwrite.",
        )


def _by_pair(uses: Int[np.ndarray, "4 R"]) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, "4 R"]]:
    """Where each user and item begins among uses sorted by both, and those uses."""
    uses = uses[:, np.lexsort((uses[1], uses[0]))]
    return np.flatnonzero(np.diff(uses[:2], axis=1, prepend=-1).any(axis=0)), uses


def _blocks(products: Float[np.ndarray, " rows"]) -> Iterator[slice]:
    """Consecutive items with at most MOST_PRODUCTS products together, or a single one."""
    total = np.append(0.0, np.cumsum(products))
    start = 0
    while start < len(products):
        stop = int(np.searchsorted(total, total[start] + MOST_PRODUCTS, side="right")) - 1
        stop = max(stop, start + 1)
        yield slice(start, stop)
        start = stop
