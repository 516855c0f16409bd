"""Balanced k-means: all c clusters of a group at once, whose sizes differ by at most one.

Lloyd's algorithm (1982) with a penalty on every cluster, which grows with the logarithm of its load,

    cluster(x) = argmin_j |x − m_j|² + p_j        p_j ← p_j + rate · s · log(load_j / (n / c))

where s is the mean difference in cost between the nearest and the second nearest cluster of a row. What the penalties
leave uneven is settled by deferred acceptance: every unassigned row proposes to its cheapest cluster with room, and a
cluster accepts the rows whose second choice would cost most. Last, rows of two clusters are swapped in pairs while that
lowers the sum of their distances, so the result never gets worse. Where densities differ so much that one scale of
penalties fits none (a long tail), the initial clustering is better and only the swaps change it.

Many groups of the same size are clustered in one batch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

ELEMENTS = 1 << 22
"""Costs computed at a time, so that they fit the cache."""
SAMPLE = 8192
"""Rows of a group that the centres are first fitted to (32 per cluster, if that is more)."""
RATE = 0.3
STEPS, FULL_STEPS, ROUNDS, SWAPS = 12, 4, 8, 6
"""Steps over the sample; steps over all rows, where there are more; rounds of proposals before the remaining rows are
assigned in order; rounds of swaps."""


def balanced_clusters(points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int) -> Int[Tensor, "G n"]:
    """Improve a balanced clustering; the sum of squared distances never increases.

    Args:
        points: (G, n, E) rows of each group.
        label: (G, n) initial balanced clustering, 0 … c − 1; clusters with one row more have the lowest numbers.
        count: c, number of clusters.

    Returns:
        (G, n) the cluster of each row, numbered in the same way.
    """
    groups, rows, width = points.shape
    if rows <= count:
        # at most one row per cluster: all such clusterings are equivalent
        return label
    centres = _means(points, label, count, points.new_zeros(groups, count, width))[0]
    penalties = points.new_zeros(groups, count)
    sample_size = max(SAMPLE, 32 * count)
    # most of the way on a sample, at a fraction of the cost of all rows
    centres, penalties = _lloyd(_sample_rows(points, sample_size), centres, penalties, STEPS)
    if rows > sample_size:
        centres, penalties = _lloyd(points, centres, penalties, FULL_STEPS)
    assigned = _assign_balanced(points, centres, penalties)
    better = _within_cluster_cost(points, assigned, count) < _within_cluster_cost(points, label, count)
    assigned = torch.where(better.unsqueeze(1), assigned, label)
    for _ in range(SWAPS):
        assigned, swaps = _swap_pairs(points, assigned, count)
        if not swaps:
            break
    return assigned


def _lloyd(
    points: Float[Tensor, "G n E"], centres: Float[Tensor, "G c E"], penalties: Float[Tensor, "G c"], steps: int
) -> tuple[Float[Tensor, "G c E"], Float[Tensor, "G c"]]:
    """Centres and penalties after a number of steps."""
    rows, count = points.shape[1], centres.shape[1]
    sample = _sample_rows(points, 512)
    for _ in range(steps):
        fixed = (centres.square().sum(dim=2) + penalties).unsqueeze(1)
        lowest = torch.baddbmm(fixed, sample, centres.transpose(1, 2), alpha=-2.0).topk(2, dim=2, largest=False).values
        scale = (lowest[:, :, 1] - lowest[:, :, 0]).mean(dim=1, keepdim=True)
        label, _ = _cheapest(points, centres, penalties)
        centres, load = _means(points, label, count, centres)
        # half a row is added so that the logarithm of an empty cluster's load is finite
        penalties = penalties + RATE * scale * torch.log((load + 0.5) / (rows / count + 0.5))
    return centres, penalties


def _sample_rows(points: Float[Tensor, "G n E"], most: int) -> Float[Tensor, "G m E"]:
    """Evenly spread rows of each group, at most `most`.

    Steps of the golden ratio are out of phase with any periodic order that the rows may have.
    """
    rows = points.shape[1]
    if rows <= most:
        return points
    fraction = torch.arange(most, dtype=torch.float64) * 0.6180339887498949 % 1.0
    return points.index_select(1, (fraction * rows).long())


def _cheapest(
    points: Float[Tensor, "G n E"], centres: Float[Tensor, "G c E"], penalties: Float[Tensor, "G c"]
) -> tuple[Int[Tensor, "G n"], Float[Tensor, "G n"]]:
    """The cheapest cluster of every row, and its cost without |x|², which does not depend on the cluster."""
    labels, costs = [], []
    fixed = (centres.square().sum(dim=2) + penalties).unsqueeze(1)
    across = centres.transpose(1, 2)
    for chunk in torch.split(points, max(1, ELEMENTS // (len(points) * centres.shape[1])), dim=1):
        cost, label = torch.baddbmm(fixed, chunk, across, alpha=-2.0).min(dim=2)
        labels.append(label)
        costs.append(cost)
    return torch.cat(labels, dim=1), torch.cat(costs, dim=1)


def _means(
    points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int, otherwise: Float[Tensor, "G c E"]
) -> tuple[Float[Tensor, "G c E"], Float[Tensor, "G c"]]:
    """Centre and load of every cluster; an empty cluster keeps the centre given in `otherwise`."""
    groups, _, width = points.shape
    flat = (label + torch.arange(groups).unsqueeze(1) * count).flatten()
    load = torch.bincount(flat, minlength=groups * count).to(points.dtype)
    total = torch.zeros(groups * count, width).index_add_(0, flat, points.flatten(0, 1))
    mean = (total / load.clamp(min=1).unsqueeze(1)).view(groups, count, width)
    load = load.view(groups, count)
    return torch.where((load > 0).unsqueeze(2), mean, otherwise), load


def _assign_balanced(
    points: Float[Tensor, "G n E"], centres: Float[Tensor, "G c E"], penalties: Float[Tensor, "G c"]
) -> Int[Tensor, "G n"]:
    """Assign every row: n // c rows to every cluster, then at most one more to each."""
    groups, rows, _ = points.shape
    count = centres.shape[1]
    label = torch.full((groups, rows), -1)
    for capacity in (rows // count, 1):
        room = torch.full((groups, count), capacity)
        for _ in range(ROUNDS):
            if not _propose(points, centres, penalties, label, room):
                break
        _assign_rest(label, room)
    load = torch.zeros(groups, count, dtype=torch.int64).scatter_add_(1, label, torch.ones_like(label))
    # number the clusters so that those with one row more come first, as the caller's clustering does
    order = load.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(count).repeat(groups, 1))
    return rank.gather(1, label)


def _propose(
    points: Float[Tensor, "G n E"],
    centres: Float[Tensor, "G c E"],
    penalties: Float[Tensor, "G c"],
    label: Int[Tensor, "G n"],
    room: Int[Tensor, "G c"],
) -> bool:
    """Run one round of proposals, updating `label` (−1 = unassigned) and `room` in place.

    Returns:
        False where no unassigned row is left in a group with room.
    """
    groups, count = room.shape
    unassigned = label < 0
    longest = int((unassigned & (room.sum(dim=1, keepdim=True) > 0)).sum(dim=1).max())
    if not longest:
        return False
    # unassigned rows first, as many columns as the longest queue has; shorter queues are padded with assigned rows,
    # which `proposes` masks
    row = unassigned.byte().argsort(dim=1, descending=True, stable=True)[:, :longest]
    proposes = unassigned.gather(1, row) & (room.sum(dim=1, keepdim=True) > 0)
    fixed = (centres.square().sum(dim=2) + penalties).masked_fill(room == 0, torch.inf).unsqueeze(1)
    across = centres.transpose(1, 2)
    flat, start = points.flatten(0, 1), torch.arange(groups).unsqueeze(1) * points.shape[1]
    wishes, regrets = [], []
    for chunk in torch.split(row, max(1, ELEMENTS // (groups * max(count, points.shape[2]))), dim=1):
        chunk_points = flat.index_select(0, (chunk + start).flatten()).view(*chunk.shape, points.shape[2])
        cost = torch.baddbmm(fixed, chunk_points, across, alpha=-2.0)
        least, wish = cost.min(dim=2, keepdim=True)
        wishes.append(wish.squeeze(2))
        # regret is infinite where only one cluster has room: such a row is accepted first
        regrets.append((cost.scatter_(2, wish, torch.inf).amin(dim=2, keepdim=True) - least).squeeze(2))
    group = torch.arange(groups).unsqueeze(1).expand_as(proposes)[proposes]
    wish, regret, row = torch.cat(wishes, dim=1)[proposes], torch.cat(regrets, dim=1)[proposes], row[proposes]
    cluster = group * count + wish
    # sort by cluster, then by descending regret: two stable sorts, the secondary key first
    order = regret.argsort(descending=True, stable=True)
    order = order[cluster[order].argsort(stable=True)]
    proposals = torch.bincount(cluster, minlength=groups * count)
    queue_position = torch.arange(len(order)) - (proposals.cumsum(0) - proposals)[cluster[order]]
    accepted = order[queue_position < room.flatten()[cluster[order]]]
    label[group[accepted], row[accepted]] = wish[accepted]
    room -= torch.minimum(proposals.view(groups, count), room)
    return True


def _assign_rest(label: Int[Tensor, "G n"], room: Int[Tensor, "G c"]) -> None:
    """Fill the remaining room with the unassigned rows, in their order and whatever the cost."""
    group, row = (label < 0).nonzero().unbind(dim=1)
    waiting = torch.bincount(group, minlength=len(label))
    rank = torch.arange(len(group)) - (waiting.cumsum(0) - waiting)[group]
    free = room.sum(dim=1)
    served = rank < free[group]
    slots = torch.repeat_interleave(torch.arange(room.shape[1]).repeat(len(room)), room.flatten())
    slot = (free.cumsum(0) - free)[group] + rank
    label[group[served], row[served]] = slots[slot[served]]
    room.zero_()


def _swap_pairs(
    points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int
) -> tuple[Int[Tensor, "G n"], int]:
    """Swap rows between clusters in pairs; returns the labels and the number of swaps.

    Every row names the nearest other cluster. Rows that name each other's cluster are paired in descending order of
    their saving, and a pair is swapped if the sum of its savings is positive.
    """
    groups, rows, width = points.shape
    centres = _means(points, label, count, points.new_zeros(groups, count, width))[0]
    fixed = centres.square().sum(dim=2).unsqueeze(1)
    savings, others = [], []
    size = max(1, ELEMENTS // (groups * count))
    for chunk, current in zip(torch.split(points, size, dim=1), torch.split(label, size, dim=1), strict=True):
        cost = torch.baddbmm(fixed, chunk, centres.transpose(1, 2), alpha=-2.0)
        current_cost = cost.gather(2, current.unsqueeze(2)).squeeze(2)
        least, other = cost.scatter_(2, current.unsqueeze(2), torch.inf).min(dim=2)
        savings.append(current_cost - least)
        others.append(other)
    saving, other = torch.cat(savings, dim=1), torch.cat(others, dim=1)
    low, high = torch.minimum(label, other), torch.maximum(label, other)
    pair = (torch.arange(groups).unsqueeze(1) * count + low) * count + high
    key, saving = (pair * 2 + (label > other)).flatten(), saving.flatten()
    order = saving.argsort(descending=True, stable=True)
    order = order[key[order].argsort(stable=True)]
    key = key[order]
    # the k-th row that wants to leave a cluster is paired with the k-th row that wants to enter it
    partner = torch.searchsorted(key, key + 1) + torch.arange(len(key)) - torch.searchsorted(key, key)
    inside = partner.clamp(max=len(key) - 1)
    total = saving[order] + saving[order[inside]]
    # savings within rounding of zero do not count: swapping on them would never end
    swaps = (key % 2 == 0) & (partner < len(key)) & (key[inside] == key + 1) & (total > 1e-5 * saving.abs().mean())
    leaving, arriving = order[swaps], order[inside[swaps]]
    swapped = label.flatten().clone()
    swapped[leaving], swapped[arriving] = swapped[arriving], swapped[leaving]
    return swapped.view(groups, rows), len(leaving)


def _within_cluster_cost(points: Float[Tensor, "G n E"], label: Int[Tensor, "G n"], count: int) -> Float[Tensor, " G"]:
    """Σ |x − m|² of each group, minus Σ |x|², which is the same for every clustering."""
    groups, _, width = points.shape
    centres, load = _means(points, label, count, points.new_zeros(groups, count, width))
    return -(centres.square().sum(dim=2) * load).sum(dim=1)
