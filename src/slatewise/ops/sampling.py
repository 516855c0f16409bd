"""Sampling of slates, and the exact log-propensity of a slate.

The procedure (Chen et al. 2019, sec. 5): of the available candidates, keep the ``top_m`` with the best scores; show the
best ``keep`` of them in order; draw the other slots one after another, without replacement, from the rest by
softmax(score / temperature). Without exploration all slots are fixed. A slot for which no candidate is left holds −1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.ops.largest import largest_columns
from slatewise.types import Exploration

NEG_INF = float("-inf")


def shortlist(
    scores: Float[Tensor, "B C"], k: int, exploration: Exploration | None
) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
    """The candidates that may be shown: scores in descending order and their columns, ties by column.

    Args:
        scores: −inf where a candidate is not available.
        k: slate size; without exploration the shortlist is the k best.
        exploration: how many may be drawn from.

    Raises:
        ValueError: a score is NaN, or the slate is larger than top_m.
    """
    if bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN: the policy's weights or its state are broken")
    if exploration is not None and exploration.top_m < k:
        raise ValueError(f"a slate of {k} cannot be drawn from top_m = {exploration.top_m} candidates; raise top_m")
    size = min(k if exploration is None else exploration.top_m, scores.shape[1])
    columns = largest_columns(scores, size)
    return scores.gather(1, columns), columns


def draw(
    values: Float[Tensor, "B M"], k: int, exploration: Exploration | None, generator: Generator | None
) -> Int[Tensor, "B K"]:
    """Draw the shortlist positions to show, slot by slot; −1 where no candidate is left.

    Args:
        values: scores of the shortlist in descending order, −inf = not available.
        k: slate size.
        exploration: None shows the first k.
        generator: source of the draws; needed with `exploration`.

    Raises:
        ValueError: exploration without a generator.
    """
    batch, size = values.shape
    keep = k if exploration is None else min(exploration.keep, k)
    positions = torch.arange(min(keep, size), device=values.device).expand(batch, -1)
    if exploration is not None and keep < k and keep < size:
        if generator is None:
            raise ValueError("a slate cannot be drawn without a generator; pass generator=torch.Generator()")
        tail = values[:, keep:] / exploration.temperature
        noise = torch.empty_like(tail).exponential_(generator=generator).log_().neg_()  # Gumbel
        # the k largest of logit + Gumbel, in order, are a draw without replacement by softmax (Kool et al. 2019)
        drawn = torch.topk(tail + noise, min(k - keep, tail.shape[1]), dim=1).indices
        positions = torch.cat([positions, drawn + keep], dim=1)
    if positions.shape[1] < k:
        positions = torch.cat([positions, positions.new_full((batch, k - positions.shape[1]), -1)], dim=1)
    return positions.masked_fill(torch.arange(k, device=values.device) >= _available(values), -1)


def chain_log_prob(
    values: Float[Tensor, "B M"], positions: Int[Tensor, "B K"], exploration: Exploration | None
) -> Float[Tensor, "B K"]:
    """Log-probability of each slot of a slate given the slots before it; −inf for impossible choices.

    Args:
        values: scores of the shortlist in descending order, −inf = not available.
        positions: of each shown item in the shortlist; −1 = the slot is empty, −2 = shown but not in the shortlist.
        exploration: the exploration that served, or None.
    """
    batch, size = values.shape
    slots = positions.shape[1]
    keep = slots if exploration is None else min(exploration.keep, slots)
    slot = torch.arange(slots, device=values.device).expand(batch, -1)
    empty = slot >= _available(values)
    fixed_ok = positions[:, :keep] == slot[:, :keep]
    parts = [values.new_zeros(batch, keep).masked_fill(~fixed_ok, NEG_INF)]
    if exploration is not None and keep < slots and size > keep:
        tail = values[:, keep:] / exploration.temperature
        position = positions[:, keep:] - keep
        index = position.clamp(min=0)
        chosen = tail.gather(1, index).masked_fill(position < 0, NEG_INF)
        never_shown = _without(tail, position)
        # the urn at slot j holds everything never shown, and the items shown from slot j on
        urn = torch.logaddexp(
            torch.logsumexp(never_shown, dim=1, keepdim=True), torch.logcumsumexp(chosen.flip(1), dim=1).flip(1)
        )
        possible = (position >= 0) & (chosen > NEG_INF) & ~_is_repeat(position)
        parts.append(torch.where(possible, chosen - urn, NEG_INF))
    elif keep < slots:
        parts.append(values.new_full((batch, slots - keep), NEG_INF))
    logp = torch.cat(parts, dim=1)
    logp_if_empty = torch.where(positions == -1, 0.0, NEG_INF)
    return torch.where(empty, logp_if_empty, logp)


def shortlist_positions(slate: Int[Tensor, "B K"], items: Int[Tensor, "B M"], *, empty: int) -> Int[Tensor, "B K"]:
    """Position of each slate item in a shortlist: −1 for the item number `empty`, −2 for items not in the shortlist.

    Args:
        slate: (B, K) items shown.
        items: (B, M) items of the shortlist.
        empty: item number of an empty slot.
    """
    match = slate.unsqueeze(2) == items.unsqueeze(1)
    position = torch.where(match.any(dim=2), match.int().argmax(dim=2), -2)
    return position.masked_fill(slate == empty, -1)


def available(items: Int[Tensor, "B C"], exclude: Int[Tensor, "B X"] | None, *, first: int) -> Bool[Tensor, "B C"]:
    """True for real items (number ≥ first) that are neither excluded nor a repetition of an earlier column.

    Args:
        items: (B, C) candidates.
        exclude: (B, X) items not to show; None = none.
        first: smallest number of a real item.
    """
    ordered, position = torch.sort(items, dim=1, stable=True)
    repeat = torch.zeros_like(items, dtype=torch.bool)
    repeat.scatter_(1, position[:, 1:], ordered[:, 1:] == ordered[:, :-1])
    free = (items >= first) & ~repeat
    if exclude is not None and exclude.shape[1]:
        # binary search: no (B, C, X) comparison is ever allocated
        banned = torch.sort(exclude, dim=1).values
        at = torch.searchsorted(banned, items.contiguous()).clamp(max=banned.shape[1] - 1)
        free &= banned.gather(1, at) != items
    return free


def _available(values: Float[Tensor, "B M"]) -> Int[Tensor, "B 1"]:
    return (values > NEG_INF).sum(dim=1, keepdim=True)


def _without(tail: Float[Tensor, "B R"], position: Int[Tensor, "B D"]) -> Float[Tensor, "B R"]:
    """The tail with the shown positions removed (−inf)."""
    batch, size = tail.shape
    padded = torch.cat([tail, tail.new_full((batch, 1), NEG_INF)], dim=1)
    return padded.scatter(1, torch.where(position >= 0, position, size), NEG_INF)[:, :size]


def _is_repeat(position: Int[Tensor, "B D"]) -> Bool[Tensor, "B D"]:
    """True where an earlier slot has the same position."""
    same = position.unsqueeze(2) == position.unsqueeze(1)
    return torch.tril(same, diagonal=-1).any(dim=2)
