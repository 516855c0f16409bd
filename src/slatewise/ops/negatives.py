"""Samplers of negatives for sampled softmax: the items that stand for the whole catalog, with importance weights.

An item that a sampler is expected to draw ``m`` times and that was drawn ``c`` times counts as ``c / m`` items; the log
of that is its ``log_weight`` (the log-Q correction of Bengio & Senécal 2008, Jean et al. 2015). Draws are stratified,
one from each of ``count`` equal slices of the distribution: expected counts are exact, their variance is at most that
of independent draws, and the items come in ascending order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """Distinct items in ascending order, and the log of how many items of the catalog each stands for."""

    items: Int[Tensor, " M"]
    log_weight: Float[Tensor, " M"]

    def column(self, items: Int[Tensor, "*B"]) -> Int[Tensor, "*B"]:
        """Index of each item among the negatives; −1 where it is not one of them."""
        at = torch.searchsorted(self.items, items).clamp(max=len(self.items) - 1)
        return torch.where(self.items[at] == items, at, -1)


def whole_catalog(*, first: int, last: int) -> Negatives:
    """Every item once, each standing for itself: sampled softmax is the full softmax.

    Args:
        first: number of the first item.
        last: number of the last item.
    """
    items = torch.arange(first, last + 1)
    return Negatives(items=items, log_weight=torch.zeros(len(items)))


def uniform(count: int, *, first: int, last: int, generator: Generator) -> Negatives:
    """Items drawn with equal probability; a `count` of the catalog's size or more gives the whole catalog.

    Args:
        count: number of draws, ≥ 1.
        first: number of the first item.
        last: number of the last item.
        generator: source of the draws.
    """
    size = last - first + 1
    if count >= size:
        return whole_catalog(first=first, last=last)
    draws = (_stratified_draws(count, generator) * size).long().clamp_(max=size - 1)
    items, times = torch.unique_consecutive(draws, return_counts=True)
    return Negatives(items=items + first, log_weight=(times * (size / count)).log())


def log_uniform(count: int, *, ranked: Int[Tensor, " N"], generator: Generator) -> Negatives:
    """Items drawn by rank, q(r) = log((r + 2) / (r + 1)) / log(N + 1): Zipf's law, for items ordered by use.

    Args:
        count: number of draws, ≥ 1.
        ranked: item numbers, the most used one first.
        generator: source of the draws.
    """
    size = len(ranked)
    rank = torch.expm1(_stratified_draws(count, generator) * math.log(size + 1)).long().clamp_(max=size - 1)
    rank, times = torch.unique_consecutive(rank, return_counts=True)
    share = torch.log1p(1.0 / (rank + 1).double()) / math.log(size + 1)
    items, order = torch.sort(ranked[rank])
    return Negatives(items=items, log_weight=(times / (count * share))[order].log().float())


def popular(count: int, *, cumulative: Float[Tensor, " N"], first: int, generator: Generator) -> Negatives:
    """Items drawn from any fixed distribution, given by its cumulative sums.

    Args:
        count: number of draws, ≥ 1.
        cumulative: float64, ascending to 1; its n-th entry is the probability of the items ``first … first + n``. See
            `cumulative_share`.
        first: number of the first item.
        generator: source of the draws.
    """
    draws = torch.searchsorted(cumulative, _stratified_draws(count, generator), right=True).clamp_(
        max=len(cumulative) - 1
    )
    items, times = torch.unique_consecutive(draws, return_counts=True)
    share = cumulative[items] - torch.where(items > 0, cumulative[items - 1], 0.0)
    return Negatives(items=items + first, log_weight=(times / (count * share)).log().float())


def cumulative_share(uses: Float[Tensor, " N"], *, power: float, uniform_share: float) -> Float[Tensor, " N"]:
    """Cumulative sums of ``(1 − f) uses^power / Σ uses^power + f / N``; uniform where no item was used yet.

    Args:
        uses: how often each item was used, ≥ 0.
        power: 1 follows the log, .75 flattens it, above 0.
        uniform_share: f in (0, 1], the probability that a draw is uniform; above 0, so that every item can be drawn.
    """
    weight = uses.double() ** power
    total = weight.sum()
    weight = torch.where(total > 0, weight / total, 1 / len(uses))
    cumulative = torch.cumsum(weight.mul_(1 - uniform_share).add_(uniform_share / len(uses)), dim=0)
    return cumulative.div_(cumulative[-1].clone())


def in_batch(shown: Int[Tensor, " P"], *, share: Float[Tensor, " P"]) -> Negatives:
    """The items shown at all positions of the batch; each position counts the others' items (Yi et al. 2019).

    Items that are never shown get no negative gradient from this sampler.

    Args:
        shown: the item of each position.
        share: probability that a position of the log shows that item, above 0.

    Raises:
        ValueError: fewer than two positions.
    """
    if len(shown) < 2:
        raise ValueError(f"in-batch negatives need at least 2 positions with an item; this batch has {len(shown)}")
    items, inverse, times = torch.unique(shown, return_inverse=True, return_counts=True)
    chance = torch.empty(len(items), dtype=share.dtype).scatter_(0, inverse, share)
    return Negatives(items=items, log_weight=(times / ((len(shown) - 1) * chance)).log())


def _stratified_draws(count: int, generator: Generator) -> Float[Tensor, " M"]:
    """One uniform number in each of `count` equal slices of [0, 1), ascending."""
    within = torch.rand(count, dtype=torch.float64, generator=generator)
    return within.add_(torch.arange(count)).div_(count)
