"""What all policies share when they serve: the checks of a request, and its fixed positions.

A fixed position shows its item with certainty: its factor is 1, its log-probability 0. The policy fills the free
positions in order by its own procedure, as for a shorter slate with the fixed items excluded; where it runs out of
items, the last free positions hold item 0. `Exploration.keep` counts free positions.

`SlateRequest.allowed` reaches a procedure only where it leaves much of the catalog and there are no candidates: what it
leaves of candidates, or a small part of the catalog, is candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from slatewise.log import FIRST_ITEM, PAD
from slatewise.ops import sampling
from slatewise.types import SlateRequest, Slates

FEW = 8
"""Allowed items are candidates where they are less than one in FEW rows of the item table."""


class SlatePolicy:
    """`recommend` and `log_prob` of a policy whose procedure is given for slates without fixed positions."""

    num_rows: int
    """Rows of the item table, the reserved ones included."""

    def draw_slates(self, state: Float[Tensor, "B D"], request: SlateRequest, generator: Generator | None) -> Slates:
        """Slates and their factors; `request.fixed` is None."""
        raise TypeError(f"{type(self).__name__} draws no slates")

    def slate_factors(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """Log-propensity factor of each position, −inf where the procedure could not show that; `fixed` is None."""
        raise TypeError(f"{type(self).__name__} gives no propensities")

    def recommend(
        self, state: Float[Tensor, "B D"], request: SlateRequest, *, generator: Generator | None = None
    ) -> Slates:
        """Ranked slates, and the log-propensity factor of each position.

        Args:
            state: (B, D).
            request: k, what may be shown, and how it is drawn.
            generator: source of the draws; needed with `request.exploration`.

        Raises:
            ValueError: a request that this catalog cannot serve, NaN scores, or exploration without a generator.
        """
        check_request(request, num_items=self.num_rows - FIRST_ITEM, users=len(state))
        request = with_few_as_candidates(request, users=len(state))
        if request.fixed is None:
            return self.draw_slates(state, request, generator)
        items = request.fixed.clone()
        logp = state.new_zeros(items.shape)
        for users, positions, free in _free_positions(request, request.fixed):
            slates = self.draw_slates(state[users], free, generator)
            items[users.unsqueeze(1), positions] = slates.items
            logp[users.unsqueeze(1), positions] = slates.logp.to(logp.dtype)
        return Slates(items=items, logp=logp)

    def log_prob(
        self, state: Float[Tensor, "B D"], slate: Int[Tensor, "B K"], request: SlateRequest
    ) -> Float[Tensor, "B K"]:
        """Log-propensity factor of each position of a slate under a request; −inf where it could not be shown.

        Raises:
            ValueError: a request that this catalog cannot serve, a slate of another size, or NaN scores.
        """
        check_request(request, num_items=self.num_rows - FIRST_ITEM, users=len(state))
        if slate.shape[1] != request.k:
            raise ValueError(f"a slate of {slate.shape[1]} items under a request for k = {request.k}")
        request = with_few_as_candidates(request, users=len(state))
        if request.fixed is None:
            return self.slate_factors(state, slate, request)
        as_fixed = (request.fixed == slate) | (request.fixed == PAD)
        logp = state.new_zeros(slate.shape).masked_fill(~as_fixed, sampling.NEG_INF)
        for users, positions, free in _free_positions(request, request.fixed):
            factors = self.slate_factors(state[users], slate[users].gather(1, positions), free)
            logp[users.unsqueeze(1), positions] = factors.to(logp.dtype)
        return logp


def check_request(request: SlateRequest, *, num_items: int, users: int) -> None:
    """Refuse conditions under which no slate of a catalog can be drawn.

    Args:
        request: conditions.
        num_items: real items of the catalog.
        users: how many states come with the request.

    Raises:
        ValueError: more positions than items, tensors for another number of users or items, or a fixed item that the
            catalog does not have, that is excluded, or that is fixed at two positions.
    """
    if request.k > num_items:
        raise ValueError(f"slate size {request.k}: the catalog has {num_items} items; choose 1 to that")
    for name, part in (("candidates", request.candidates), ("exclude", request.exclude), ("fixed", request.fixed)):
        if part is not None and len(part) != users:
            raise ValueError(f"{name} is for {len(part)} users, the state for {users}")
    if request.allowed is not None and len(request.allowed) != num_items + FIRST_ITEM:
        raise ValueError(f"allowed is for {len(request.allowed)} item numbers, the catalog has {num_items} items and 2")
    fixed = request.fixed
    if fixed is None:
        return
    stray = ((fixed != PAD) & (fixed < FIRST_ITEM)) | (fixed >= num_items + FIRST_ITEM)
    refused = (fixed != PAD) & ~sampling.available(fixed, request.exclude, first=FIRST_ITEM)
    for where, reason in ((stray, "not in the catalog"), (refused, "excluded, or fixed at another position, too")):
        if bool(where.any()):
            user, position = where.nonzero()[0].tolist()
            raise ValueError(f"fixed: item {int(fixed[user, position])} at position {position} is {reason}")


def with_few_as_candidates(request: SlateRequest, *, users: int) -> SlateRequest:
    """A request whose `allowed` is None, or leaves much of the catalog without any candidates.

    Args:
        request: conditions.
        users: how many states come with them.
    """
    allowed, candidates = request.allowed, request.candidates
    if allowed is None:
        return request
    if candidates is not None:
        return replace(request, candidates=candidates.masked_fill(~allowed[candidates], PAD), allowed=None)
    number = int(allowed[FIRST_ITEM:].sum())
    if number == len(allowed) - FIRST_ITEM:
        return replace(request, allowed=None)
    if number * FEW >= len(allowed):
        return request
    items = allowed[FIRST_ITEM:].nonzero().flatten() + FIRST_ITEM
    return replace(request, candidates=items.expand(users, -1), allowed=None)


def _free_positions(
    request: SlateRequest, fixed: Int[Tensor, "B K"]
) -> Iterator[tuple[Int[Tensor, " P"], Int[Tensor, "P F"], SlateRequest]]:
    """Users with the same number of free positions, those positions, and the request that fills them.

    Users are grouped so that nobody's slate depends on how many positions are fixed for others: a procedure may choose
    another first item for a shorter slate (SlateQ's optimal slates do).
    """
    free = fixed == PAD
    number = free.sum(dim=1)
    exclude = fixed if request.exclude is None else torch.cat([request.exclude, fixed], dim=1)
    for size in torch.unique(number[number > 0]).tolist():
        users = (number == size).nonzero().flatten()
        positions = free[users].nonzero()[:, 1].view(len(users), size)
        yield users, positions, replace(request.rows(users), k=size, exclude=exclude[users], fixed=None)
