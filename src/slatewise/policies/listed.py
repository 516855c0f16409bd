"""A policy whose slots have a row of scores each: lists, single draws and exact log-propensities follow."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from slatewise.log import FIRST_ITEM, PAD
from slatewise.nn.item_table import ItemTable
from slatewise.ops import list_rows, sampling
from slatewise.policies.slate_policy import SlatePolicy
from slatewise.protocols import StateEncoder
from slatewise.types import SlateRequest, Slates


class ListedPolicy(SlatePolicy, nn.Module):
    """Rows → lists. A method gives `rows`; everything a `Policy` must do is here, once.

    Slot k chooses by softmax(row k · V / τ) among what the slots before it left. π(a|s) is the first slot's.
    """

    encoder: StateEncoder

    def __init__(self, encoder: StateEncoder, item: ItemTable, *, temperature: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.item = item
        """V"""
        self.temperature = temperature
        self.num_rows = len(item.weight)

    def rows(self, state: Float[Tensor, "B D"], k: int) -> Float[Tensor, "B K E"]:
        """One vector per slot."""
        raise TypeError(f"{type(self).__name__} gives no rows")

    def vectors(self, items: Int[Tensor, "*A"] | None = None) -> Float[Tensor, "*A E"]:
        """What rows are multiplied with: V of some items, or (N, E) of every item number."""
        vectors: Tensor = self.item.whole() if items is None else self.item(items)
        return vectors

    def set_vectors(self, vectors: Float[Tensor, "rows E"]) -> None:
        """Put pretrained item vectors in V's place, row i for item number i.

        Raises:
            ValueError: another shape, a number that is not finite, or two items with the same vector.
        """
        if tuple(vectors.shape) != tuple(self.item.weight.shape):
            raise ValueError(
                f"item vectors have the shape {tuple(vectors.shape)}; expected {tuple(self.item.weight.shape)} (width "
                "of the method = width of the vectors)"
            )
        real = vectors[FIRST_ITEM:]
        broken = (~torch.isfinite(real)).any(dim=1).nonzero().flatten()
        if len(broken):
            raise ValueError(f"the vector of item {int(broken[0]) + FIRST_ITEM} is not finite; expected real numbers")
        kinds = torch.unique(real, dim=0, return_inverse=True)[1]
        first = torch.full((len(real),), len(real)).scatter_reduce(0, kinds, torch.arange(len(real)), "amin")[kinds]
        twin = (first < torch.arange(len(real))).nonzero().flatten()
        if len(twin):
            earlier, later = int(first[twin[0]]) + FIRST_ITEM, int(twin[0]) + FIRST_ITEM
            raise ValueError(
                f"items {earlier} and {later} have the same vector, and {len(twin)} items have one that stood before; "
                "no row could tell them apart. Take longer vectors, or leave such items out"
            )
        with torch.no_grad():
            self.item.weight.copy_(vectors)

    def log_pi(self, state: Float[Tensor, "B D"], items: Int[Tensor, "B A"]) -> Float[Tensor, "B A"]:
        """Log-probability of each item in the first slot of a list; −inf for reserved numbers."""
        logits, _ = self.open_logits(self.rows(state, 1), SlateRequest(k=1))
        return torch.log_softmax(logits[:, 0], dim=1).gather(1, items)

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """Lists of k items, and the log-propensity of each slot given those before it; row j fills the j-th free slot.

        With exploration a slot draws by softmax(logit / temperature) from the top_m best items of its own row that are
        left; the first `keep` slots, and all without it, take the best.

        Raises:
            ValueError: NaN scores, exploration without a generator.
        """
        exploration = request.exploration
        logits, items = self.open_logits(self.rows(state, request.k), request)
        chosen = list_rows.draw_rows(logits, exploration, generator)
        # what is not drawn is certain
        certain = exploration is None
        logp = torch.zeros(chosen.shape) if certain else list_rows.rows_log_prob(logits, chosen, exploration)
        return Slates(items=numbers(chosen, items), logp=logp)

    def slate_factors(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """Log-propensity of each slot under the served procedure; −inf where it could not show that."""
        exploration = request.exploration
        logits, items = self.open_logits(self.rows(state, request.k), request)
        if items is None:
            return list_rows.rows_log_prob(logits, slate.masked_fill(slate == PAD, list_rows.EMPTY), exploration)
        return list_rows.rows_log_prob(logits, sampling.shortlist_positions(slate, items, empty=PAD), exploration)

    def logits(self, rows: Float[Tensor, "B K E"]) -> Float[Tensor, "B K N"]:
        """W Vᵀ / τ of every item number; −inf for the reserved ones."""
        logits = (rows / self.temperature) @ self.vectors().T
        logits[..., :FIRST_ITEM] = sampling.NEG_INF
        return logits

    def open_logits(
        self, rows: Float[Tensor, "B K E"], request: SlateRequest
    ) -> tuple[Float[Tensor, "B K M"], Int[Tensor, "B M"] | None]:
        """W Vᵀ / τ, −inf where closed, of every item number, or of the candidates where they are few."""
        candidates, exclude, allowed = request.candidates, request.exclude, request.allowed
        if candidates is not None and 0 < candidates.shape[1] < self.num_rows // 4:
            free = sampling.available(candidates, exclude, first=FIRST_ITEM)
            logits = torch.einsum("bke,bce->bkc", rows / self.temperature, self.vectors(candidates))
            return logits.masked_fill(~free.unsqueeze(1), sampling.NEG_INF), candidates
        if candidates is None and exclude is None and allowed is None:
            return self.logits(rows), None
        free = torch.full((len(rows), self.num_rows), candidates is None)
        if candidates is not None:
            free.scatter_(1, candidates, True)
        if allowed is not None:
            free &= allowed
        if exclude is not None:
            free.scatter_(1, exclude, False)
        free[:, :FIRST_ITEM] = False
        return self.logits(rows).masked_fill_(~free.unsqueeze(1), sampling.NEG_INF), None


def numbers(chosen: Int[Tensor, "B K"], items: Int[Tensor, "B M"] | None) -> Int[Tensor, "B K"]:
    """Columns → item numbers, 0 where a slot is empty."""
    items_chosen = chosen if items is None else items.gather(1, chosen.clamp(min=0))
    return items_chosen.masked_fill(chosen < 0, PAD)
