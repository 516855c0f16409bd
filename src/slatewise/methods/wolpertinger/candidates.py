"""The k items nearest to a proto-action, and what the critic says of them: g_k(â) and the best of it (eq. 6, 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from slatewise.log import FIRST_ITEM
from slatewise.methods.wolpertinger.proto_action import best_of_nearest, largest_columns, on_sphere
from slatewise.methods.wolpertinger.proto_networks import FEW, ProtoNetworks
from slatewise.methods.wolpertinger.two_towers import TwoTowers
from slatewise.ops import sampling
from slatewise.policies.ranked import RankedPolicy, search_allowed
from slatewise.protocols import Retriever, StateEncoder
from slatewise.retrieval import approximate
from slatewise.retrieval.exact import Exact
from slatewise.types import Exploration, SlateRequest

BLOCK = 1 << 19
"""Values of all items are computed for so many states at a time that these are about as many numbers: they stay in a
core's cache."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How the nearest items are found."""

    index: Literal["exact", "approximate"] = "exact"
    flat_below: int = 200_000
    """An approximate index compares every item up to this many, in 16 bits, and reads lists above."""
    probes: int = 32
    """Lists that an approximate index reads."""
    refit_every: int = 100
    """Updates after which the index sees where learned vectors have moved."""

    def __post_init__(self) -> None:
        for name in ("probes", "refit_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")

    def build(self) -> Retriever:
        """An index without items."""
        if self.index == "exact":
            return Exact()
        return approximate.Approximate(approximate.Config(flat_below=self.flat_below, probes=self.probes))


class Keys(NamedTuple):
    """What a critic needs to know of every row, whatever the state."""

    product: Float[Tensor, "N K"]
    """[g(a) ; b(a)]."""
    spans: Float[Tensor, " N"] | None
    """h(a), where each item has its own."""


class NearestItemsPolicy(RankedPolicy):
    """The critic's order of the k items nearest to the proto-action; no other item is ever shown.

    Args:
        encoder: of the state.
        networks: actor and critics.
        count: k.
        search: how the nearest are found.
        vectors_move: the items' vectors are learned, so where they are belongs to what is saved.
    """

    positions: Tensor

    def __init__(
        self, encoder: StateEncoder, networks: ProtoNetworks, *, count: int, search: SearchConfig, vectors_move: bool
    ) -> None:
        positions = on_sphere(networks.vectors().detach()[FIRST_ITEM:])
        super().__init__(encoder, len(positions) + FIRST_ITEM)
        self.networks = networks
        self.count = count
        """k."""
        self.search = search
        # where the search believes the items are: part of the policy, because slates depend on it
        self.register_buffer("positions", positions.clone(), persistent=vectors_move)
        self._keys: Keys | None = None

    @property
    def searches(self) -> bool:
        """False where k is the whole catalog."""
        return self.count < self.num_rows - FIRST_ITEM

    def retrieve_with(self, retriever: Retriever) -> None:
        """Look for the nearest items with a retriever, fitted to where the items are on the sphere."""
        self.retriever = retriever.fit(self.positions, torch.arange(FIRST_ITEM, self.num_rows))

    def nearest(self, proto: Float[Tensor, "B E"], count: int) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]:
        """Items nearest to proto-actions, nearest first, and the cosines; item 0 where a search finds fewer."""
        return self._retriever().search(proto.detach(), count)

    def _retriever(self) -> Retriever:
        if self.retriever is None:
            self.retrieve_with(self.search.build())
        assert self.retriever is not None
        return self.retriever

    def best(
        self, state: Float[Tensor, "B D"], proto: Float[Tensor, "B E"], networks: ProtoNetworks
    ) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
        """The largest Q among the k items nearest to proto-actions, and its item.

        Args:
            state: (B, D).
            proto: of norm 1.
            networks: whose Q: the policy's own, or their target copy.
        """
        keys = self._all_keys() if networks is self.networks else None
        if self.searches and not (self.search.index == "exact" and isinstance(self.retriever, Exact | None)):
            return best_of(networks, state, self.nearest(proto, self.count)[0], keys)
        # the best of the k nearest does not need their order: a tenth of the time of an exact search
        return best_near(networks, state, proto, positions=self.positions, count=self.count, keys=keys)

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Q of the first critic."""
        critic, keys = self.networks.critic(), self._all_keys().product
        query, level = critic.queries(state)
        if items is None:
            return critic.values(query @ keys.T, level, torch.arange(self.num_rows))
        if items.shape[1] * FEW <= self.num_rows:
            product = (keys[items] @ query.unsqueeze(2)).squeeze(2)
        else:
            product = (query @ keys.T).gather(1, items)
        return critic.values(product, level, items)

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log-probability of each item in one draw by softmax of Q over the k nearest; −inf for all others."""
        if not self.searches:
            return super().log_pi(state, items)
        values, near = self.shortlist(state, SlateRequest(k=1, exploration=Exploration(top_m=self.count)))
        every = values.new_full((len(state), self.num_rows), sampling.NEG_INF)
        every.scatter_(1, near, torch.log_softmax(values, dim=1))
        return every.gather(1, items).masked_fill(items < FIRST_ITEM, sampling.NEG_INF)

    def shortlist(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Q (descending) and item numbers of the nearest items that may be shown; −inf where nothing is left.

        The k nearest are looked for among what may be shown; a slate longer than k looks for as many as it has slots.
        """
        k, candidates, exclude, exploration = request.k, request.candidates, request.exclude, request.exploration
        unlimited = candidates is None and exclude is None and request.allowed is None
        if k == 1 and unlimited and exploration is None:
            values, items = self.best(state, self.networks.proto(state), self.networks)
            return sampling.shortlist(values, 1, None)[0], items
        count = max(self.count, k)
        if count >= self.num_rows - FIRST_ITEM:
            return self._rank_all(state, request)
        near, closeness = self._near(state, count, request)
        if unlimited:
            # a search finds no item twice; where it finds fewer than k, padding stands at the end
            scores = self.scores(state, near)
            if bool((near[:, -1] < FIRST_ITEM).any()):
                scores = scores.masked_fill(near < FIRST_ITEM, sampling.NEG_INF)
        else:
            free = sampling.available(near, exclude, first=FIRST_ITEM)
            if near.shape[1] > count:
                closeness, columns = torch.topk(closeness.masked_fill(~free, sampling.NEG_INF), count, dim=1)
                near, free = near.gather(1, columns), closeness > sampling.NEG_INF
            scores = self.scores(state, near).masked_fill(~free, sampling.NEG_INF)
        values, columns = sampling.shortlist(scores, k, exploration)
        return values, near.gather(1, columns)

    def refresh_positions(self) -> None:
        """Let the search know where learned vectors have moved to."""
        self.positions.copy_(on_sphere(self.networks.vectors().detach()[FIRST_ITEM:]))
        self.retriever = None

    def train(self, mode: bool = True) -> NearestItemsPolicy:
        """Forget the keys: the weights that they were computed from may change now."""
        self._keys = None
        super().train(mode)
        return self

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Weights, and where the items were for the search."""
        loaded = super().load_state_dict(state, strict=strict, assign=assign)
        self._keys, self.retriever = None, None
        return loaded

    def _near(
        self, state: Float[Tensor, "B D"], count: int, request: SlateRequest
    ) -> tuple[Int[Tensor, "B M"], Float[Tensor, "B M"]]:
        """Items among which the `count` nearest that may be shown are, and their cosines with the proto-action."""
        proto = self.networks.proto(state)
        if request.candidates is not None:
            positions = self.positions[(request.candidates - FIRST_ITEM).clamp(min=0)]
            return request.candidates, torch.einsum("be,bae->ba", proto, positions)
        return search_allowed(
            self._retriever(),
            proto.detach(),
            count,
            request,
            score_all=lambda users: nn.functional.pad(proto[users] @ self.positions.T, (FIRST_ITEM, 0)),
        )

    def _rank_all(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """The shortlist where every item is a neighbour: no search."""
        k, candidates, exclude, exploration = request.k, request.candidates, request.exclude, request.exploration
        if candidates is None:
            candidates = torch.arange(FIRST_ITEM, self.num_rows).expand(len(state), -1)
            scores = self.scores(state, None)[:, FIRST_ITEM:]
            if request.allowed is not None:
                scores = scores.masked_fill(~request.allowed[FIRST_ITEM:], sampling.NEG_INF)
            if exclude is not None:
                padded = nn.functional.pad(scores, (FIRST_ITEM, 0))
                scores = padded.scatter_(1, exclude, sampling.NEG_INF)[:, FIRST_ITEM:]
        else:
            free = sampling.available(candidates, exclude, first=FIRST_ITEM)
            scores = self.scores(state, candidates).masked_fill(~free, sampling.NEG_INF)
        values, columns = sampling.shortlist(scores, k, exploration)
        return values, candidates.gather(1, columns)

    def _all_keys(self) -> Keys:
        """Keys of every row, computed once between two changes of the weights."""
        if self._keys is not None and not torch.is_grad_enabled():
            return self._keys
        keys = keys_of(self.networks)
        if not self.training and not torch.is_grad_enabled():
            self._keys = keys
        return keys


def keys_of(networks: ProtoNetworks) -> Keys:
    """Keys of every row by the first critic."""
    critic, vectors = networks.critic(), networks.vectors()
    every = torch.arange(len(vectors))
    return Keys(critic.keys(vectors, every), None if critic.monotone else critic.spans(every))


def best_of(
    networks: ProtoNetworks, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"], keys: Keys | None = None
) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
    """The largest Q among items that a search found, and its item; padding counts for nothing.

    Args:
        networks: whose first critic.
        state: (B, D).
        items: (B, A), 0-padded.
        keys: of every row, where they are ready.
    """
    if keys is None:
        values = networks.values(state, items)
        largest, column = values.masked_fill(items < FIRST_ITEM, sampling.NEG_INF).max(dim=1, keepdim=True)
        return largest, items.gather(1, column)
    critic = networks.critic()
    query, level = critic.queries(state)
    ranked = _ranking_of(critic, query, keys, items).masked_fill_(items < FIRST_ITEM, sampling.NEG_INF)
    largest, column = ranked.max(dim=1, keepdim=True)
    return critic.from_ranking(largest, level), items.gather(1, column)


@torch.no_grad()
def best_near(
    networks: ProtoNetworks,
    state: Float[Tensor, "B D"],
    proto: Float[Tensor, "B E"],
    *,
    positions: Float[Tensor, "I E"],
    count: int,
    keys: Keys | None = None,
) -> tuple[Float[Tensor, "B 1"], Int[Tensor, "B 1"]]:
    """The largest Q among the items nearest to proto-actions, and its item, every item compared and none sorted.

    Args:
        networks: whose first critic.
        state: (B, D).
        proto: of norm 1.
        positions: where real items are on the sphere.
        count: k; all items where it is their number.
        keys: of every row, where they are ready.
    """
    critic = networks.critic()
    query, level = critic.queries(state)
    product, spans = (None if part is None else part[FIRST_ITEM:] for part in (keys or keys_of(networks)))
    assert product is not None
    item_keys = Keys(product, spans)
    searches, reads_single_rows = count < len(positions), count * FEW <= len(positions)
    best: list[tuple[Tensor, Tensor]] = []
    rows = max(1, BLOCK // len(positions))
    for query_block, proto_block in zip(torch.split(query, rows), torch.split(proto, rows), strict=True):
        closeness = proto_block @ positions.T if searches else None
        if reads_single_rows and closeness is not None:
            near = largest_columns(closeness, count)
            largest, column = _ranking_of(critic, query_block, item_keys, near).max(dim=1, keepdim=True)
            best.append((largest, near.gather(1, column)))
        else:
            best.append(best_of_nearest(critic.ranking(query_block @ product.T, spans), closeness, count))
    ranked, columns = (torch.cat(parts) for parts in zip(*best, strict=True))
    return critic.from_ranking(ranked, level), columns + FIRST_ITEM


def _ranking_of(
    critic: TwoTowers, query: Float[Tensor, "B K"], keys: Keys, rows: Int[Tensor, "B A"]
) -> Float[Tensor, "B A"]:
    """What orders these rows as Q does."""
    product = torch.einsum("bd,bad->ba", query, keys.product[rows])
    return critic.ranking(product, None if keys.spans is None else keys.spans[rows])
