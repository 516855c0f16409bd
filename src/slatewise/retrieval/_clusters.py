"""Balanced k-means: all c clusters of a group at once, whose sizes differ by at most one.

Lloyd's algorithm (1982) with a price on every cluster, which rises with the logarithm of its load,

    cluster(x) = argmin_j |x − m_j|² + p_j        p_j ← p_j + rate · s · log(load_j / (n / c))

where s is how much dearer the second cheapest cluster of a row is, on average. What prices leave uneven is settled by
proposals: every row without a place asks the cheapest cluster with room; a cluster takes those that would lose most
elsewhere. At last rows of two clusters change places in pairs as long as both together come nearer to their centres,
so nothing gets worse. Where densities differ so much that one scale of prices fits none (a long tail), the clustering
that was given is better, and only pairs change places.

Many groups of the same size are clustered at the same time.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

ELEMENTS = 1 << 22
"""Costs that are looked at at the same time: they fit the cache."""
SAMPLE = 8192
"""Rows of a group (or 32 a cluster, if that is more) that centres are found from."""
RATE = 0.3
STEPS, FULL_STEPS, ROUNDS, EXCHANGES = 12, 4, 8, 6
"""Steps over the sample; over all rows, where there are more; rounds of proposals before the rest is dealt out; rounds
of exchanges."""


def balanced_clusters(points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int) -> Int[Tensor, "G n"]:
    """A balanced clustering that starts from another one, and is never worse (sum of squared distances).

    Args:
        points: rows of each group.
        label: a balanced clustering to start from, 0 … c − 1; those with one row more have the lowest numbers.
        count: c.

    Returns:
        the cluster of each row, numbered in the same way.
    """
    groups, rows, width = points.shape
    if rows <= count:
        # one row a cluster: all such clusterings are the same
        return label
    centres = _means(points, label, count, points.new_zeros(groups, count, width))[0]
    prices = points.new_zeros(groups, count)
    few = max(SAMPLE, 32 * count)
    centres, prices = _lloyd(_some(points, few), centres, prices, STEPS)
    if rows > few:
        centres, prices = _lloyd(points, centres, prices, FULL_STEPS)
    found = _settled(points, centres, prices)
    better = _spread(points, found, count) < _spread(points, label, count)
    found = torch.where(better.unsqueeze(1), found, label)
    for _ in range(EXCHANGES):
        found, exchanged = _exchanged(points, found, count)
        if not exchanged:
            break
    return found


def _lloyd(
    points: Float[Tensor, "G n E"], centres: Float[Tensor, "G c E"], prices: Float[Tensor, "G c"], steps: int
) -> tuple[Float[Tensor, "G c E"], Float[Tensor, "G c"]]:
    """Centres and prices after some steps."""
    rows, count = points.shape[1], centres.shape[1]
    few = _some(points, 512)
    for _ in range(steps):
        fixed = (centres.square().sum(dim=2) + prices).unsqueeze(1)
        two = torch.baddbmm(fixed, few, centres.transpose(1, 2), alpha=-2.0).topk(2, dim=2, largest=False).values
        scale = (two[:, :, 1] - two[:, :, 0]).mean(dim=1, keepdim=True)
        label, _ = _cheapest(points, centres, prices)
        centres, load = _means(points, label, count, centres)
        # half a row more: the logarithm of an empty cluster's load is finite
        prices = prices + RATE * scale * torch.log((load + 0.5) / (rows / count + 0.5))
    return centres, prices


def _some(points: Float[Tensor, "G n E"], most: int) -> Float[Tensor, "G m E"]:
    """Some rows of each group, spread over it by the golden ratio: in step with no order that rows may have."""
    rows = points.shape[1]
    if rows <= most:
        return points
    place = torch.arange(most, dtype=torch.float64) * 0.6180339887498949 % 1.0
    return points.index_select(1, (place * rows).long())


def _cheapest(
    points: Float[Tensor, "G n E"], centres: Float[Tensor, "G c E"], prices: Float[Tensor, "G c"]
) -> tuple[Int[Tensor, "G n"], Float[Tensor, "G n"]]:
    """Cheapest cluster of every row, and its cost without |x|²."""
    labels, costs = [], []
    fixed = (centres.square().sum(dim=2) + prices).unsqueeze(1)
    across = centres.transpose(1, 2)
    for some in torch.split(points, max(1, ELEMENTS // (len(points) * centres.shape[1])), dim=1):
        cost, label = torch.baddbmm(fixed, some, across, alpha=-2.0).min(dim=2)
        labels.append(label)
        costs.append(cost)
    return torch.cat(labels, dim=1), torch.cat(costs, dim=1)


def _means(
    points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int, otherwise: Float[Tensor, "G c E"]
) -> tuple[Float[Tensor, "G c E"], Float[Tensor, "G c"]]:
    """Centre and load of every cluster; an empty one stays where it was."""
    groups, _, width = points.shape
    flat = (label + torch.arange(groups).unsqueeze(1) * count).flatten()
    load = torch.bincount(flat, minlength=groups * count).to(points.dtype)
    total = torch.zeros(groups * count, width).index_add_(0, flat, points.flatten(0, 1))
    mean = (total / load.clamp(min=1).unsqueeze(1)).view(groups, count, width)
    load = load.view(groups, count)
    return torch.where((load > 0).unsqueeze(2), mean, otherwise), load


def _settled(
    points: Float[Tensor, "G n E"], centres: Float[Tensor, "G c E"], prices: Float[Tensor, "G c"]
) -> Int[Tensor, "G n"]:
    """Every row a place: n // c in every cluster, and then at most one more in each."""
    groups, rows, _ = points.shape
    count = centres.shape[1]
    label = torch.full((groups, rows), -1)
    for capacity in (rows // count, 1):
        room = torch.full((groups, count), capacity)
        for _ in range(ROUNDS):
            if not _proposed(points, centres, prices, label, room):
                break
        _dealt(label, room)
    load = torch.zeros(groups, count, dtype=torch.int64).scatter_add_(1, label, torch.ones_like(label))
    order = load.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(count).repeat(groups, 1))
    return rank.gather(1, label)


def _proposed(
    points: Float[Tensor, "G n E"],
    centres: Float[Tensor, "G c E"],
    prices: Float[Tensor, "G c"],
    label: Int[Tensor, "G n"],
    room: Int[Tensor, "G c"],
) -> bool:
    """One round, which fills `label` (−1 = no place yet) and takes from `room`; False where nobody can ask."""
    groups, count = room.shape
    waits = label < 0
    longest = int((waits & (room.sum(dim=1, keepdim=True) > 0)).sum(dim=1).max())
    if not longest:
        return False
    # the rows that wait, group by group, those of the shorter queues followed by some that do not
    row = waits.byte().argsort(dim=1, descending=True, stable=True)[:, :longest]
    asks = waits.gather(1, row) & (room.sum(dim=1, keepdim=True) > 0)
    fixed = (centres.square().sum(dim=2) + prices).masked_fill(room == 0, torch.inf).unsqueeze(1)
    across = centres.transpose(1, 2)
    flat, start = points.flatten(0, 1), torch.arange(groups).unsqueeze(1) * points.shape[1]
    wishes, regrets = [], []
    for some in torch.split(row, max(1, ELEMENTS // (groups * max(count, points.shape[2]))), dim=1):
        mine = flat.index_select(0, (some + start).flatten()).view(*some.shape, points.shape[2])
        cost = torch.baddbmm(fixed, mine, across, alpha=-2.0)
        least, wish = cost.min(dim=2, keepdim=True)
        wishes.append(wish.squeeze(2))
        # infinite where only one cluster has room
        regrets.append((cost.scatter_(2, wish, torch.inf).amin(dim=2, keepdim=True) - least).squeeze(2))
    number = torch.arange(groups).unsqueeze(1).expand_as(asks)[asks]
    wish, regret, row = torch.cat(wishes, dim=1)[asks], torch.cat(regrets, dim=1)[asks], row[asks]
    cluster = number * count + wish
    order = regret.argsort(descending=True, stable=True)
    order = order[cluster[order].argsort(stable=True)]
    asked = torch.bincount(cluster, minlength=groups * count)
    place = torch.arange(len(order)) - (asked.cumsum(0) - asked)[cluster[order]]
    kept = order[place < room.flatten()[cluster[order]]]
    label[number[kept], row[kept]] = wish[kept]
    room -= torch.minimum(asked.view(groups, count), room)
    return True


def _dealt(label: Int[Tensor, "G n"], room: Int[Tensor, "G c"]) -> None:
    """Deal what room is left to the rows that wait, in their order, whatever it costs them."""
    number, row = (label < 0).nonzero().unbind(dim=1)
    waiting = torch.bincount(number, minlength=len(label))
    rank = torch.arange(len(number)) - (waiting.cumsum(0) - waiting)[number]
    left = room.sum(dim=1)
    gets = rank < left[number]
    slots = torch.repeat_interleave(torch.arange(room.shape[1]).repeat(len(room)), room.flatten())
    at = (left.cumsum(0) - left)[number] + rank
    label[number[gets], row[gets]] = slots[at[gets]]
    room.zero_()


def _exchanged(points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int) -> tuple[Int[Tensor, "G n"], int]:
    """Every row names the other cluster that is nearest; rows that name each other's cluster change places in pairs.

    Pairs are made in the order of what a row gains, and exchanged if both together gain. Also says how many did.
    """
    groups, rows, width = points.shape
    centres = _means(points, label, count, points.new_zeros(groups, count, width))[0]
    fixed = centres.square().sum(dim=2).unsqueeze(1)
    gains, others = [], []
    each = max(1, ELEMENTS // (groups * count))
    for some, own in zip(torch.split(points, each, dim=1), torch.split(label, each, dim=1), strict=True):
        cost = torch.baddbmm(fixed, some, centres.transpose(1, 2), alpha=-2.0)
        now = cost.gather(2, own.unsqueeze(2)).squeeze(2)
        least, other = cost.scatter_(2, own.unsqueeze(2), torch.inf).min(dim=2)
        gains.append(now - least)
        others.append(other)
    gain, other = torch.cat(gains, dim=1), torch.cat(others, dim=1)
    low, high = torch.minimum(label, other), torch.maximum(label, other)
    pair = (torch.arange(groups).unsqueeze(1) * count + low) * count + high
    key, gain = (pair * 2 + (label > other)).flatten(), gain.flatten()
    order = gain.argsort(descending=True, stable=True)
    order = order[key[order].argsort(stable=True)]
    key = key[order]
    # the k-th of those that go one way and the k-th of those that come
    back = torch.searchsorted(key, key + 1) + torch.arange(len(key)) - torch.searchsorted(key, key)
    inside = back.clamp(max=len(key) - 1)
    both = gain[order] + gain[order[inside]]
    goes = (key % 2 == 0) & (back < len(key)) & (key[inside] == key + 1) & (both > 1e-5 * gain.abs().mean())
    one, two = order[goes], order[inside[goes]]
    found = label.flatten().clone()
    found[one], found[two] = found[two], found[one]
    return found.view(groups, rows), len(one)


def _spread(points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int) -> Float[Tensor, " G"]:
    """Σ |x − m|² of each group, less Σ |x|², which is the same for every clustering."""
    groups, _, width = points.shape
    centres, load = _means(points, label, count, points.new_zeros(groups, count, width))
    return -(centres.square().sum(dim=2) * load).sum(dim=1)
