"""Slates by the served procedure, and its exact log-propensity.

The procedure (Chen et al. 2019, sec. 5): of the candidates that are available, keep the ``top_m`` with the best scores;
show the best ``keep`` of them in order; draw the other slots one after another, without replacement, from the rest by
softmax(score / temperature). Without exploration all slots are fixed. A slot for which nothing is left holds −1.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.types import Exploration

NEG_INF = float("-inf")


def shortlist(
    scores: Float[Tensor, "B C"], k: int, exploration: Exploration | None
) -> tuple[Float[Tensor, "B M"], Int[Tensor, "B M"]]:
    """The candidates that may be shown: scores in falling order and their columns.

    Args:
        scores: −inf where a candidate is not available.
        k: slate size; without exploration the k best are all there is.
        exploration: how many may be drawn from.

    Raises:
        ValueError: a score is NaN, or the slate is larger than top_m.
    """
    if bool(torch.isnan(scores).any()):
        raise ValueError("scores hold NaN: the policy's weights or its state are broken")
    if exploration is not None and exploration.top_m < k:
        raise ValueError(f"a slate of {k} cannot be drawn from top_m = {exploration.top_m} candidates; raise top_m")
    size = min(k if exploration is None else exploration.top_m, scores.shape[1])
    values, columns = torch.topk(scores, size, dim=1)
    return values, columns


def draw(
    values: Float[Tensor, "B M"], k: int, exploration: Exploration | None, generator: Generator | None
) -> Int[Tensor, "B K"]:
    """Places in the shortlist to show, slot by slot; −1 where nothing is left.

    Args:
        values: scores of the shortlist in falling order, −inf = not available.
        k: slate size.
        exploration: None shows the first k.
        generator: source of the draws; needed with `exploration`.

    Raises:
        ValueError: exploration without a generator.
    """
    batch, size = values.shape
    keep = k if exploration is None else min(exploration.keep, k)
    places = torch.arange(min(keep, size), device=values.device).expand(batch, -1)
    if exploration is not None and keep < k and keep < size:
        if generator is None:
            raise ValueError("a slate cannot be drawn without a generator; pass generator=torch.Generator()")
        tail = values[:, keep:] / exploration.temperature
        noise = torch.empty_like(tail).exponential_(generator=generator).log_().neg_()  # Gumbel
        # the k largest of logit + Gumbel, in order, are a draw without replacement by softmax (Kool et al. 2019)
        drawn = torch.topk(tail + noise, min(k - keep, tail.shape[1]), dim=1).indices
        places = torch.cat([places, drawn + keep], dim=1)
    if places.shape[1] < k:
        places = torch.cat([places, places.new_full((batch, k - places.shape[1]), -1)], dim=1)
    return places.masked_fill(torch.arange(k, device=values.device) >= _available(values), -1)


def chain_log_prob(
    values: Float[Tensor, "B M"], places: Int[Tensor, "B K"], exploration: Exploration | None
) -> Float[Tensor, "B K"]:
    """Log-probability of each slot of a slate given the slots before it; −inf where the procedure could not do that.

    Args:
        values: scores of the shortlist in falling order, −inf = not available.
        places: place of each shown item in the shortlist; −1 = the slot is empty, −2 = shown but not in the shortlist.
        exploration: the exploration that served, or None.
    """
    batch, size = values.shape
    slots = places.shape[1]
    keep = slots if exploration is None else min(exploration.keep, slots)
    slot = torch.arange(slots, device=values.device).expand(batch, -1)
    empty = slot >= _available(values)
    fixed_ok = places[:, :keep] == slot[:, :keep]
    parts = [values.new_zeros(batch, keep).masked_fill(~fixed_ok, NEG_INF)]
    if exploration is not None and keep < slots and size > keep:
        tail = values[:, keep:] / exploration.temperature
        place = places[:, keep:] - keep
        seen = place.clamp(min=0)
        chosen = tail.gather(1, seen).masked_fill(place < 0, NEG_INF)
        left = _without(tail, place)
        # what is still in the urn at slot j: everything never shown, and the shown ones from j on
        urn = torch.logaddexp(
            torch.logsumexp(left, dim=1, keepdim=True), torch.logcumsumexp(chosen.flip(1), dim=1).flip(1)
        )
        possible = (place >= 0) & (chosen > NEG_INF) & ~_repeated(place)
        parts.append(torch.where(possible, chosen - urn, NEG_INF))
    elif keep < slots:
        parts.append(values.new_full((batch, slots - keep), NEG_INF))
    logp = torch.cat(parts, dim=1)
    right = torch.where(places == -1, 0.0, NEG_INF)
    return torch.where(empty, right, logp)


def places_of(slate: Int[Tensor, "B K"], items: Int[Tensor, "B M"], *, empty: int) -> Int[Tensor, "B K"]:
    """Place of each slate item in a shortlist of items: −1 for the item number `empty`, −2 where it is not there."""
    match = slate.unsqueeze(2) == items.unsqueeze(1)
    place = torch.where(match.any(dim=2), match.int().argmax(dim=2), -2)
    return place.masked_fill(slate == empty, -1)


def available(items: Int[Tensor, "B C"], exclude: Int[Tensor, "B X"] | None, *, first: int) -> Bool[Tensor, "B C"]:
    """True for real items (number ≥ first) that are not excluded and did not stand further left already."""
    ordered, place = torch.sort(items, dim=1, stable=True)
    repeat = torch.zeros_like(items, dtype=torch.bool)
    repeat.scatter_(1, place[:, 1:], ordered[:, 1:] == ordered[:, :-1])
    free = (items >= first) & ~repeat
    if exclude is not None and exclude.shape[1]:
        banned = torch.sort(exclude, dim=1).values
        at = torch.searchsorted(banned, items.contiguous()).clamp(max=banned.shape[1] - 1)
        free &= banned.gather(1, at) != items
    return free


def _available(values: Float[Tensor, "B M"]) -> Int[Tensor, "B 1"]:
    return (values > NEG_INF).sum(dim=1, keepdim=True)


def _without(tail: Float[Tensor, "B R"], place: Int[Tensor, "B D"]) -> Float[Tensor, "B R"]:
    """The tail with the shown places taken out (−inf)."""
    batch, size = tail.shape
    padded = torch.cat([tail, tail.new_full((batch, 1), NEG_INF)], dim=1)
    return padded.scatter(1, torch.where(place >= 0, place, size), NEG_INF)[:, :size]


def _repeated(place: Int[Tensor, "B D"]) -> Bool[Tensor, "B D"]:
    """True where the same place stood in an earlier slot."""
    same = place.unsqueeze(2) == place.unsqueeze(1)
    return torch.tril(same, diagonal=-1).any(dim=2)
