"""Lists whose slots have a row of logits each: row k is a softmax over what no earlier row has taken.

    P(list) = Π_k exp(x_{k, i_k}) / Σ_{j not in i_1 … i_{k−1}} exp(x_{k, j})

With one row for all slots this is Plackett–Luce. −inf stands for columns that may not be chosen at all.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.types import Exploration

NEG_INF = float("-inf")
EMPTY = -1
"""Column of a slot for which nothing was left."""
LISTS_AT_ONCE = 8
"""Lists whose rows over all columns are worked on together: what stays in the cache is several times as fast."""


def draw_rows(
    logits: Float[Tensor, "B K M"], exploration: Exploration | None, generator: Generator | None
) -> Int[Tensor, "B K"]:
    """Columns chosen row by row, `EMPTY` where nothing is left.

    Without exploration each row takes its best column that is left. With it, the first `keep` rows do, and the others
    draw from the top_m best that are left, by softmax(logit / temperature).

    Args:
        logits: of every row; a column that is closed to one row is closed to all.
        exploration: None takes the best.
        generator: source of the draws; needed with `exploration`.

    Raises:
        ValueError: a logit is NaN, or exploration without a generator.
    """
    # a sum is an eighth of the time of a look at every number
    if bool(torch.isnan(logits.sum())) and bool(torch.isnan(logits).any()):
        raise ValueError("scores hold NaN: the policy's weights or its state are broken")
    if exploration is None:
        return _best_rows(logits)
    if generator is None:
        raise ValueError("a slate cannot be drawn without a generator; pass generator=torch.Generator()")
    batch, rows, _ = logits.shape
    values, columns, most = _shortlist(logits, exploration)
    chosen = torch.full((batch, rows), EMPTY, dtype=torch.int64)
    for k in range(rows):
        left = values[:, k] if columns is None else _left(values[:, k], columns[:, k], chosen[:, :k], most)
        best, place = left.max(dim=1)
        if k >= exploration.keep:
            place = _drawn(left / exploration.temperature, best / exploration.temperature, generator)
        column = place if columns is None else columns[:, k].gather(1, place.unsqueeze(1)).squeeze(1)
        chosen[:, k] = column.masked_fill(best == NEG_INF, EMPTY)
        if columns is None:
            _close(values[:, k + 1 :], chosen[:, k])
    return chosen


def rows_log_prob(
    logits: Float[Tensor, "B K M"], chosen: Int[Tensor, "B K"], exploration: Exploration | None
) -> Float[Tensor, "B K"]:
    """Log-probability of each column under `draw_rows`, given the ones before it; −inf where it could not choose that.

    Args:
        logits: as given to `draw_rows`.
        chosen: columns; −1 = the slot is empty, −2 = something that is no column.
        exploration: the exploration that served, or None.
    """
    values, columns, most = _shortlist(logits, exploration)
    factors = []
    for k in range(chosen.shape[1]):
        own = None if columns is None else columns[:, k]
        left = values[:, k] if own is None else _left(values[:, k], own, chosen[:, :k], most)
        best, first = left.max(dim=1)
        nothing = best == NEG_INF
        here = chosen[:, k]
        if own is None:
            place, found = here.clamp(min=0), here >= 0
        else:
            match = own == here.unsqueeze(1)
            place, found = match.int().argmax(dim=1), match.any(dim=1) & (here >= 0)
        if exploration is not None and k >= exploration.keep:
            logits_left = left / exploration.temperature
            factor = logits_left.gather(1, place.unsqueeze(1)).squeeze(1) - torch.logsumexp(logits_left, dim=1)
        else:
            factor = torch.where(place == first, 0.0, NEG_INF)
        factor = torch.where(found, factor, NEG_INF)
        right = torch.where(here == EMPTY, 0.0, NEG_INF)
        factors.append(torch.where(nothing, right, factor))
        if own is None:
            _close(values[:, k + 1 :], chosen[:, k])
    return torch.stack(factors, dim=1)


def open_columns(candidates: Int[Tensor, "P C"], columns: int) -> Bool[Tensor, "P N"]:
    """True where a column is one of the candidates."""
    return torch.zeros(len(candidates), columns, dtype=torch.bool).scatter_(1, candidates, True)


def closed_columns(slate: Int[Tensor, "P K"], open_columns: Bool[Tensor, "#P N"]) -> Bool[Tensor, "P K N"]:
    """True where a slot may not choose a column: never open, or taken by an earlier slot.

    To an empty slot everything is open: for it nothing may be left, and it counts nothing.

    Args:
        slate: columns of the list, 0 where a slot is empty; column 0 is padding.
        open_columns: what could be chosen.
    """
    slots = slate.shape[1]
    earlier = torch.ones(slots, slots, dtype=torch.bool).tril(diagonal=-1)
    taken = slate.unsqueeze(1).expand(-1, slots, -1).masked_fill(~earlier, 0)
    closed = (~open_columns).unsqueeze(1).repeat(len(slate) // len(open_columns), slots, 1)
    closed.scatter_(2, taken, True)
    return closed & (slate > 0).unsqueeze(2)


def row_normaliser(
    rows: Float[Tensor, "P K E"], vectors: Float[Tensor, "N E"], closed: Bool[Tensor, "P K N"]
) -> Float[Tensor, "P K"]:
    """Log Σ exp(row · v) over what is not closed."""
    parts = zip(_parts(rows), _parts(closed), strict=True)
    return torch.cat(
        [torch.logsumexp((some @ vectors.T).masked_fill_(shut, NEG_INF), dim=2) for some, shut in parts]
        or [rows.new_zeros(rows.shape[:2])]
    )


def row_mean(
    rows: Float[Tensor, "P K E"],
    vectors: Float[Tensor, "N E"],
    closed: Bool[Tensor, "P K N"],
    normaliser: Float[Tensor, "P K"],
) -> Float[Tensor, "P K E"]:
    """E[v] under the softmax of row · v over what is not closed.

    Args:
        rows: w.
        vectors: V.
        closed: columns without a chance.
        normaliser: of the rows, as `row_normaliser` gives it.
    """
    parts = zip(_parts(rows), _parts(closed), _parts(normaliser), strict=True)
    return torch.cat(
        [
            (some @ vectors.T).masked_fill_(shut, NEG_INF).sub_(total.unsqueeze(2)).exp_() @ vectors
            for some, shut, total in parts
        ]
        or [torch.zeros_like(rows)]
    )


def row_divergence(
    old: Float[Tensor, "P K E"],
    new: Float[Tensor, "P K E"],
    mean: Float[Tensor, "P K E"],
    old_normaliser: Float[Tensor, "P K"],
    new_normaliser: Float[Tensor, "P K"],
) -> Float[Tensor, "P K"]:
    """KL(p_old‖p_new) of softmaxes over V w: the Bregman divergence A(new) − A(old) − ⟨new − old, E_old[v]⟩.

    Args:
        old: w of p_old.
        new: w of p_new.
        mean: E_old[v].
        old_normaliser: A(old), as `row_normaliser` gives it.
        new_normaliser: A(new).
    """
    return new_normaliser - old_normaliser - ((new - old) * mean).sum(dim=2)


def curvature_product(
    p: Float[Tensor, "P K N"], vectors: Float[Tensor, "N E"], along: Float[Tensor, "P K E"]
) -> Float[Tensor, "P K E"]:
    """H · along, with H = Vᵀ (diag p − p pᵀ) V: the Hessian of KL(p‖softmax(V w)) by the row w, at w that gives p."""
    found = []
    for chance, some in zip(_parts(p), _parts(along), strict=True):
        moved = (some @ vectors.T).mul_(chance)
        found.append(moved.sub_(chance * moved.sum(dim=2, keepdim=True)) @ vectors)
    return torch.cat(found or [torch.zeros_like(along)])


def next_lists(item: Int[Tensor, "B T"], counts: Bool[Tensor, "B T"], size: int) -> Int[Tensor, "B T K"]:
    """At each step the next `size` items that count, the step's own included, as one list; 0 where there are fewer.

    An item that comes again within a list is left out of it the second time.
    """
    steps = item.shape[1]
    before = torch.nn.functional.pad(torch.cumsum(counts, dim=1), (1, 0))
    order = torch.argsort((~counts).to(torch.int8), dim=1, stable=True)
    place = before[:, :steps].unsqueeze(2) + torch.arange(size)
    there = place < before[:, -1:].unsqueeze(2)
    at = order.gather(1, place.clamp(max=max(steps - 1, 0)).flatten(1))
    lists = item.gather(1, at).view(place.shape).masked_fill(~there, 0)
    again = torch.tril(lists.unsqueeze(3) == lists.unsqueeze(2), diagonal=-1).any(dim=3)
    return lists.masked_fill(again, 0)


def _shortlist(
    logits: Float[Tensor, "B K M"], exploration: Exploration | None
) -> tuple[Float[Tensor, "B K S"], Int[Tensor, "B K S"] | None, int]:
    """The columns that a row can come to, best first, and how many it may choose from; None = all, in their order.

    The values are a copy where they are all.
    """
    rows, size = logits.shape[1:]
    most = 1 if exploration is None else exploration.top_m
    if most >= size or most >= int((logits[:, 0] > NEG_INF).sum(dim=1).max()):
        return logits.clone(), None, size
    # earlier rows take at most one each of what is best here
    values, columns = torch.topk(logits, min(most + rows - 1, size), dim=2)
    return values, columns, most


def _best_rows(logits: Float[Tensor, "B K M"]) -> Int[Tensor, "B K"]:
    """The best column of every row that no earlier row took: two operations a row, none over all rows at once."""
    columns = torch.zeros(logits.shape[:2], dtype=torch.int64)
    values = []
    for k in range(logits.shape[1]):
        left = logits[:, k].scatter(1, columns[:, :k], NEG_INF) if k else logits[:, 0]
        best, columns[:, k] = left.max(dim=1)
        values.append(best)
    return columns.masked_fill_(torch.stack(values, dim=1) == NEG_INF, EMPTY)


def _drawn(logits: Float[Tensor, "B S"], best: Float[Tensor, " B"], generator: Generator) -> Int[Tensor, " B"]:
    """One column per row by softmax: where a uniform number falls on the running sum of the chances.

    In double precision, so that no chance is lost in the sum; a column without a chance is never hit.
    """
    running = torch.cumsum(torch.exp(logits - best.unsqueeze(1)), dim=1, dtype=torch.float64)
    at = torch.rand(len(logits), 1, dtype=torch.float64, generator=generator) * running[:, -1:]
    place = torch.searchsorted(running, at, right=True).squeeze(1)
    # where nothing is left the sum is no number, and the place past the end
    return place.clamp(max=logits.shape[1] - 1)


def _parts(whole: Tensor) -> tuple[Tensor, ...]:
    return torch.split(whole, LISTS_AT_ONCE)


def _left(
    values: Float[Tensor, "B S"], columns: Int[Tensor, "B S"], taken: Int[Tensor, "B J"], most: int
) -> Float[Tensor, "B S"]:
    """What a row may choose from: not taken before, and among the best `most` of that."""
    gone = (columns.unsqueeze(2) == taken.unsqueeze(1)).any(dim=2)
    left = values.masked_fill(gone, NEG_INF)
    open_ = (left > NEG_INF).long()
    return left.masked_fill(torch.cumsum(open_, dim=1) > most, NEG_INF)


def _close(values: Float[Tensor, "B J M"], column: Int[Tensor, " B"]) -> None:
    """Close a column to all later rows, in place; nothing where it is no column."""
    at = column.clamp(min=0).view(-1, 1, 1).expand(-1, values.shape[1], 1)
    stays = (column < 0).view(-1, 1, 1)
    values.scatter_(2, at, torch.where(stays, values.gather(2, at), NEG_INF))
