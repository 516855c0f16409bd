"""A policy that scores items: slates, single-draw probabilities and exact log-propensities follow from the scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, PAD
from slatewise.ops import sampling
from slatewise.policies.slate_policy import SlatePolicy
from slatewise.protocols import Retriever, ScoresByInnerProduct, StateEncoder
from slatewise.retrieval.approximate import Approximate
from slatewise.retrieval.approximate import Config as IndexConfig
from slatewise.retrieval.inner_products import extend_query, fold_bias
from slatewise.types import SlateRequest, Slates

LEAST_CANDIDATES = 100
"""Of an index, whose order is approximate; the best of them are found by their scores."""


class RankedPolicy(SlatePolicy, nn.Module):
    """Scores → ranked slates. A method gives `scores`; everything a `Policy` must do is here, once.

    π(a|s) is the softmax of the scores over all real items.
    """

    encoder: StateEncoder

    def __init__(self, encoder: StateEncoder, num_rows: int) -> None:
        super().__init__()
        if num_rows <= FIRST_ITEM:
            raise ValueError("the catalog is empty: a policy needs at least one item")
        self.encoder = encoder
        self.num_rows = num_rows
        self.retriever: Retriever | None = None
        """Where set, slates without given candidates are made from what it finds; see `retrieve_with`."""
        self._folded_width = 0

    def scores(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"] | None) -> Float[Tensor, "B _"]:
        """Unnormalised scores of some items (B, A), or of every row of the item table (B, N + 2) for None."""
        raise TypeError(f"{type(self).__name__} gives no scores")

    def retrieve_with(self, retriever: Retriever) -> None:
        """Fit a retriever to the item vectors, and make slates from what it finds in place of scoring every item.

        The found items are scored again in full precision, so that draws and propensities are those of the policy over
        them (Chen et al. 2019, sec. 5). Weights that change later need a new fit.

        Raises:
            TypeError: the scores are not inner products (`protocols.ScoresByInnerProduct`).
        """
        if not isinstance(self, ScoresByInnerProduct):
            raise TypeError(f"{type(self).__name__} does not score by inner products; it cannot use a retriever")
        vectors = fold_bias(self.vectors(), self.item_bias())
        self.retriever, self._folded_width = retriever, vectors.shape[1]
        retriever.fit(vectors, torch.arange(FIRST_ITEM, self.num_rows))

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log-probability of each item in one draw from the whole catalog; −inf for reserved numbers."""
        scores = self.scores(state, None)
        normaliser = torch.logsumexp(scores[:, FIRST_ITEM:], dim=1, keepdim=True)
        return (scores.gather(1, items) - normaliser).masked_fill(items < FIRST_ITEM, sampling.NEG_INF).to(state.dtype)

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """Slates from the shortlist, best first or drawn; lists that run out of items end in item 0.

        Raises:
            ValueError: k larger than top_m, NaN scores, exploration without a generator.
        """
        values, items = self.shortlist(state, with_a_candidate(request))
        places = sampling.draw(values, request.k, request.exploration, generator)
        shown = items.gather(1, places.clamp(min=0)).masked_fill(places < 0, PAD)
        # scores may be in double precision, for their order
        logp = sampling.chain_log_prob(values, places, request.exploration).to(state.dtype)
        return Slates(items=shown, logp=logp)

    def slate_factors(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """Log-probability of each position given those before it; −inf where it could not show that."""
        values, items = self.shortlist(state, with_a_candidate(request))
        places = sampling.shortlist_positions(slate, items, empty=PAD)
        return sampling.chain_log_prob(values, places, request.exploration).to(state.dtype)

    def shortlist(
        self, state: Float[Tensor, "B D"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
        """Scores, descending, ties by item number, and the items that may be shown; −inf where nothing is left."""
        k, candidates, exclude, exploration = request.k, request.candidates, request.exclude, request.exploration
        if candidates is None and self.retriever is not None:
            candidates = self._nearest(state, request, self.retriever)
        scores = self.scores(state, candidates)
        if candidates is not None:
            # columns in the order of the item numbers; scored before, in the order that was given: what looks into an
            # environment reads the scores of its candidates off it
            candidates, order = torch.sort(candidates, dim=1)
            scores = scores.gather(1, order)
        if candidates is None:
            scores = scores.clone()
            scores[:, :FIRST_ITEM] = sampling.NEG_INF
            if request.allowed is not None:
                scores.masked_fill_(~request.allowed, sampling.NEG_INF)
            if exclude is not None:
                scores.scatter_(1, exclude, sampling.NEG_INF)
            return sampling.shortlist(scores, k, exploration)
        free = sampling.available(candidates, exclude, first=FIRST_ITEM)
        values, columns = sampling.shortlist(scores.masked_fill(~free, sampling.NEG_INF), k, exploration)
        return values, candidates.gather(1, columns)

    def _nearest(self, state: Float[Tensor, "B D"], request: SlateRequest, retriever: Retriever) -> Int[Tensor, "B C"]:
        """The items that are scored: as many of the nearest that may be shown as a slate is drawn from, or more."""
        assert isinstance(self, ScoresByInnerProduct)
        number = max(request.k if request.exploration is None else request.exploration.top_m, LEAST_CANDIDATES)
        query = extend_query(self.query(state), width=self._folded_width)
        near, closeness = search_allowed(
            retriever, query, number, request, score_all=lambda users: self.scores(state[users], None)
        )
        if near.shape[1] <= number:
            return near
        # more were looked for, because others in the batch exclude more; nobody's candidates depend on that
        free = sampling.available(near, request.exclude, first=FIRST_ITEM)
        closeness, columns = torch.topk(closeness.masked_fill(~free, sampling.NEG_INF), number, dim=1)
        return near.gather(1, columns).masked_fill(closeness == sampling.NEG_INF, PAD)

    @property
    def takes_index(self) -> bool:
        """Whether items can be found by an index: scores are inner products, and not counts in double precision."""
        return isinstance(self, ScoresByInnerProduct) and self.vectors().dtype == torch.float32

    def build_index(self) -> None:
        """Find items by an approximate index of lists from now on, where the policy takes one."""
        if self.takes_index:
            self.retrieve_with(Approximate(IndexConfig(flat_below=0)))

    def index_arrays(self) -> dict[str, Tensor]:
        """What `load_index` reads; empty where there is no index of lists."""
        index = self.retriever
        return index.arrays() if self.takes_index and isinstance(index, Approximate) and not index.flat else {}

    def load_index(self, arrays: Mapping[str, Tensor]) -> None:
        """Find items by a stored index; items of the policy that it does not hold are added to it.

        Raises:
            ValueError: arrays that make no index, or not one of this policy.
        """
        if not isinstance(self, ScoresByInnerProduct):
            raise ValueError("the policy does not score by inner products; it has no use for an index")
        index = Approximate.from_arrays(arrays, IndexConfig(flat_below=0))
        vectors, bias, held = self.vectors(), self.item_bias(), arrays["ids"]

        def with_bias(rows: Int[Tensor, " M"]) -> Float[Tensor, "M F"]:
            return fold_bias(vectors[rows], None if bias is None else bias[rows])

        width = with_bias(torch.tensor([0])).shape[1]
        if index.width != width or not bool(((held >= FIRST_ITEM) & (held < self.num_rows)).all()):
            raise ValueError(
                f"it holds items up to {int(held.max())} by {index.width} numbers; the policy has {self.num_rows} rows "
                f"of {width}"
            )
        is_missing = torch.ones(self.num_rows, dtype=torch.bool)
        is_missing[:FIRST_ITEM] = False
        is_missing[held] = False
        missing = is_missing.nonzero().squeeze(1)
        if len(missing):
            index.add(with_bias(missing - FIRST_ITEM), missing)
        self.retriever, self._folded_width = index, width


def search_allowed(
    retriever: Retriever,
    query: Float[Tensor, "B E"],
    number: int,
    request: SlateRequest,
    *,
    score_all: Callable[[Int[Tensor, " U"]], Float[Tensor, "U N"]],
) -> tuple[Int[Tensor, "B C"], Float[Tensor, "B C"]]:
    """Nearest items among which `number` are that a request allows and does not exclude, if there are so many.

    The search is repeated with twice as many neighbours for the users whose neighbours are not allowed; where it has no
    more, because an index reads only some of its lists, all items are scored. So nobody's items depend on those of
    others. Items that are not allowed become padding with score −inf.

    Args:
        retriever: of the items.
        query: of each user.
        number: how many items that may be shown are looked for.
        request: conditions without candidates.
        score_all: scores of every item number for some users, in the order of the inner products.
    """
    size = min(number + (0 if request.exclude is None else request.exclude.shape[1]), len(retriever))
    allowed = request.allowed
    if allowed is None:
        return retriever.search(query, size)
    fewest = min(size, int(allowed[FIRST_ITEM:].sum()))
    items, scores = query.new_zeros(len(query), 0, dtype=torch.int64), query.new_zeros(len(query), 0)
    users = torch.arange(len(query))
    breadth = min(2 * size, len(retriever))
    while len(users):
        near, closeness = retriever.search(query[users], breadth)
        ends = near[:, -1] == PAD
        near = near.masked_fill(~allowed[near], PAD)
        wider = breadth - items.shape[1]
        items = nn.functional.pad(items, (0, wider), value=PAD)
        scores = nn.functional.pad(scores, (0, wider), value=sampling.NEG_INF)
        items[users], scores[users] = near, closeness.masked_fill(near == PAD, sampling.NEG_INF)
        too_few = ((near != PAD).sum(dim=1) < fewest) & ~ends
        users = users[too_few] if breadth < len(retriever) else users[:0]
        breadth = min(2 * breadth, len(retriever))
    short = sampling.available(items, request.exclude, first=FIRST_ITEM).sum(dim=1) < min(number, items.shape[1])
    users = short.nonzero().flatten()
    if len(users):
        every = score_all(users).masked_fill(~allowed, sampling.NEG_INF)
        every[:, :FIRST_ITEM] = sampling.NEG_INF
        best, near = torch.topk(every, min(items.shape[1], every.shape[1]), dim=1)
        wider = items.shape[1] - near.shape[1]
        items[users] = nn.functional.pad(near.masked_fill(best == sampling.NEG_INF, PAD), (0, wider), value=PAD)
        scores[users] = nn.functional.pad(best, (0, wider), value=sampling.NEG_INF).to(scores.dtype)
    return items, scores


def with_a_candidate(request: SlateRequest) -> SlateRequest:
    """A request with at least one column of candidates: padding, where there is no candidate at all."""
    candidates = request.candidates
    if candidates is None or candidates.shape[1]:
        return request
    return replace(request, candidates=candidates.new_full((len(candidates), 1), PAD))
