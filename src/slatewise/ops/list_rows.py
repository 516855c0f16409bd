"""Distributions over lists with one row of logits per slot: row k is a softmax over the columns not chosen before.

    P(list) = Π_k exp(x_{k, i_k}) / Σ_{j not in i_1 … i_{k−1}} exp(x_{k, j})

With the same row for all slots this is Plackett–Luce. −inf marks columns that must not be chosen.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from slatewise.ops.largest import largest_columns
from slatewise.types import Exploration

NEG_INF = float("-inf")
EMPTY = -1
"""Column of a slot for which no column was left."""
LISTS_AT_ONCE = 8
"""Lists processed together, so that their rows over all columns stay in the cache: several times as fast."""


def draw_rows(
    logits: Float[Tensor, "B K M"], exploration: Exploration | None, generator: Generator | None
) -> Int[Tensor, "B K"]:
    """Choose a column row by row, `EMPTY` where none is left.

    Without exploration each row chooses its best remaining column. With it, the first `keep` rows do, and the others
    draw from the top_m best remaining columns by softmax(logit / temperature).

    Args:
        logits: of every row; a column that is −inf in one row is −inf in all.
        exploration: None chooses the best.
        generator: source of the draws; needed with `exploration`.

    Raises:
        ValueError: a logit is NaN, or exploration without a generator.
    """
    # NaN propagates to the sum, which takes an eighth of the time of testing every number
    if bool(torch.isnan(logits.sum())) and bool(torch.isnan(logits).any()):
        raise ValueError("scores hold NaN: the policy's weights or its state are broken")
    if exploration is None:
        return _best_rows(logits)
    if generator is None:
        raise ValueError("a slate cannot be drawn without a generator; pass generator=torch.Generator()")
    batch, rows, _ = logits.shape
    values, columns, top_m = _shortlist(logits, exploration)
    chosen = torch.full((batch, rows), EMPTY, dtype=torch.int64)
    for k in range(rows):
        remaining = values[:, k] if columns is None else _mask_closed(values[:, k], columns[:, k], chosen[:, :k], top_m)
        best, position = remaining.max(dim=1)
        if k >= exploration.keep:
            position = _draw_column(remaining / exploration.temperature, best / exploration.temperature, generator)
        column = position if columns is None else columns[:, k].gather(1, position.unsqueeze(1)).squeeze(1)
        chosen[:, k] = column.masked_fill(best == NEG_INF, EMPTY)
        if columns is None:
            _close(values[:, k + 1 :], chosen[:, k])
    return chosen


def rows_log_prob(
    logits: Float[Tensor, "B K M"], chosen: Int[Tensor, "B K"], exploration: Exploration | None
) -> Float[Tensor, "B K"]:
    """Log-probability of each column under `draw_rows`, given the earlier ones; −inf for impossible choices.

    Of equal logits the best is the one of the lowest column, as in `draw_rows`.

    Args:
        logits: as passed to `draw_rows`.
        chosen: columns; −1 = the slot is empty, −2 = an item that has no column.
        exploration: the exploration that served, or None.
    """
    values, columns, top_m = _shortlist(logits, exploration)
    factors = []
    for k in range(chosen.shape[1]):
        subset = None if columns is None else columns[:, k]
        remaining = values[:, k] if subset is None else _mask_closed(values[:, k], subset, chosen[:, :k], top_m)
        best, first = remaining.max(dim=1)
        nothing = best == NEG_INF
        column = chosen[:, k]
        if subset is None:
            position, possible = column.clamp(min=0), column >= 0
        else:
            match = subset == column.unsqueeze(1)
            position, possible = match.int().argmax(dim=1), match.any(dim=1) & (column >= 0)
        if exploration is not None and k >= exploration.keep:
            scaled = remaining / exploration.temperature
            factor = scaled.gather(1, position.unsqueeze(1)).squeeze(1) - torch.logsumexp(scaled, dim=1)
        else:
            factor = torch.where(position == first, 0.0, NEG_INF)
        factor = torch.where(possible, factor, NEG_INF)
        factor_if_empty = torch.where(column == EMPTY, 0.0, NEG_INF)
        factors.append(torch.where(nothing, factor_if_empty, factor))
        if subset is None:
            _close(values[:, k + 1 :], chosen[:, k])
    return torch.stack(factors, dim=1)


def open_columns(candidates: Int[Tensor, "P C"], columns: int) -> Bool[Tensor, "P N"]:
    """True where a column is one of the candidates."""
    return torch.zeros(len(candidates), columns, dtype=torch.bool).scatter_(1, candidates, True)


def closed_columns(slate: Int[Tensor, "P K"], open_columns: Bool[Tensor, "#P N"]) -> Bool[Tensor, "P K N"]:
    """True where a slot may not choose a column: never open, or chosen by an earlier slot.

    For an empty slot all columns count as open: its normaliser must stay finite, and it enters no sum.

    Args:
        slate: (P, K) columns of the list, 0 where a slot is empty; column 0 is padding.
        open_columns: (P, N) the columns that could be chosen.
    """
    slots = slate.shape[1]
    earlier = torch.ones(slots, slots, dtype=torch.bool).tril(diagonal=-1)
    earlier_choices = slate.unsqueeze(1).expand(-1, slots, -1).masked_fill(~earlier, 0)
    closed = (~open_columns).unsqueeze(1).repeat(len(slate) // len(open_columns), slots, 1)
    closed.scatter_(2, earlier_choices, True)
    return closed & (slate > 0).unsqueeze(2)


def row_normaliser(
    rows: Float[Tensor, "P K E"], vectors: Float[Tensor, "N E"], closed: Bool[Tensor, "P K N"]
) -> Float[Tensor, "P K"]:
    """Log Σ exp(row · v) over the columns that are not closed.

    Args:
        rows: (P, K, E) w.
        vectors: (N, E) V.
        closed: (P, K, N) columns without probability.
    """
    chunks = zip(_chunks(rows), _chunks(closed), strict=True)
    return torch.cat(
        [torch.logsumexp((chunk @ vectors.T).masked_fill_(mask, NEG_INF), dim=2) for chunk, mask in chunks]
        or [rows.new_zeros(rows.shape[:2])]
    )


def row_mean(
    rows: Float[Tensor, "P K E"],
    vectors: Float[Tensor, "N E"],
    closed: Bool[Tensor, "P K N"],
    normaliser: Float[Tensor, "P K"],
) -> Float[Tensor, "P K E"]:
    """E[v] under the softmax of row · v over the columns that are not closed.

    Args:
        rows: (P, K, E) w.
        vectors: (N, E) V.
        closed: (P, K, N) columns without probability.
        normaliser: (P, K) of the rows, as `row_normaliser` returns it.
    """
    chunks = zip(_chunks(rows), _chunks(closed), _chunks(normaliser), strict=True)
    return torch.cat(
        [
            (chunk @ vectors.T).masked_fill_(mask, NEG_INF).sub_(total.unsqueeze(2)).exp_() @ vectors
            for chunk, mask, total in chunks
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
        old_normaliser: A(old), as `row_normaliser` returns it.
        new_normaliser: A(new).
    """
    return new_normaliser - old_normaliser - ((new - old) * mean).sum(dim=2)


def curvature_product(
    p: Float[Tensor, "P K N"], vectors: Float[Tensor, "N E"], along: Float[Tensor, "P K E"]
) -> Float[Tensor, "P K E"]:
    """H · along, with H = Vᵀ (diag p − p pᵀ) V, the Hessian of KL(p‖softmax(V w)) by w at the w that gives p.

    Args:
        p: (P, K, N) probabilities of each row.
        vectors: (N, E) V.
        along: (P, K, E) direction.
    """
    products = []
    for chance, direction in zip(_chunks(p), _chunks(along), strict=True):
        weighted = (direction @ vectors.T).mul_(chance)
        products.append(weighted.sub_(chance * weighted.sum(dim=2, keepdim=True)) @ vectors)
    return torch.cat(products or [torch.zeros_like(along)])


def next_lists(item: Int[Tensor, "B T"], counts: Bool[Tensor, "B T"], size: int) -> Int[Tensor, "B T K"]:
    """At each step, the next `size` counted items, the step's own included, as one list; 0 where there are fewer.

    An item that is repeated within a list appears only once.

    Args:
        item: (B, T) item of each step.
        counts: (B, T) True where a step's item counts.
        size: K, length of the lists.
    """
    steps = item.shape[1]
    count_before = torch.nn.functional.pad(torch.cumsum(counts, dim=1), (1, 0))
    order = torch.argsort((~counts).to(torch.int8), dim=1, stable=True)
    rank = count_before[:, :steps].unsqueeze(2) + torch.arange(size)
    exists = rank < count_before[:, -1:].unsqueeze(2)
    step = order.gather(1, rank.clamp(max=max(steps - 1, 0)).flatten(1))
    lists = item.gather(1, step).view(rank.shape).masked_fill(~exists, 0)
    repeated = torch.tril(lists.unsqueeze(3) == lists.unsqueeze(2), diagonal=-1).any(dim=3)
    return lists.masked_fill(repeated, 0)


def _shortlist(
    logits: Float[Tensor, "B K M"], exploration: Exploration | None
) -> tuple[Float[Tensor, "B K S"], Int[Tensor, "B K S"] | None, int]:
    """The columns that a row can reach, best first, and how many it may choose from; None = all, in their own order.

    The values are a copy, because the caller masks chosen columns in place.
    """
    rows, size = logits.shape[1:]
    top_m = 1 if exploration is None else exploration.top_m
    if top_m >= size or top_m >= int((logits[:, 0] > NEG_INF).sum(dim=1).max()):
        return logits.clone(), None, size
    # earlier rows choose at most one column each from the best of this row
    number = min(top_m + rows - 1, size)
    columns = largest_columns(logits.flatten(0, 1), number).view(len(logits), rows, number)
    return logits.gather(2, columns), columns, top_m


def _best_rows(logits: Float[Tensor, "B K M"]) -> Int[Tensor, "B K"]:
    """The best column of every row that no earlier row chose: two operations per row, none over all rows at once."""
    columns = torch.zeros(logits.shape[:2], dtype=torch.int64)
    values = []
    for k in range(logits.shape[1]):
        remaining = logits[:, k].scatter(1, columns[:, :k], NEG_INF) if k else logits[:, 0]
        best, columns[:, k] = remaining.max(dim=1)
        values.append(best)
    return columns.masked_fill_(torch.stack(values, dim=1) == NEG_INF, EMPTY)


def _draw_column(logits: Float[Tensor, "B S"], best: Float[Tensor, " B"], generator: Generator) -> Int[Tensor, " B"]:
    """Draw one column per row by softmax, by inverting the cumulative probabilities.

    In double precision, so that no probability is lost in the sum; a column of probability 0 is never drawn.
    """
    running = torch.cumsum(torch.exp(logits - best.unsqueeze(1)), dim=1, dtype=torch.float64)
    point = torch.rand(len(logits), 1, dtype=torch.float64, generator=generator) * running[:, -1:]
    position = torch.searchsorted(running, point, right=True).squeeze(1)
    # where no column is left the sum is NaN and the position is past the end
    return position.clamp(max=logits.shape[1] - 1)


def _chunks(whole: Tensor) -> tuple[Tensor, ...]:
    return torch.split(whole, LISTS_AT_ONCE)


def _mask_closed(
    values: Float[Tensor, "B S"], columns: Int[Tensor, "B S"], chosen: Int[Tensor, "B J"], most: int
) -> Float[Tensor, "B S"]:
    """The values a row may choose from (others −inf): not chosen before, and among the best `most` of those."""
    repeats = (columns.unsqueeze(2) == chosen.unsqueeze(1)).any(dim=2)
    remaining = values.masked_fill(repeats, NEG_INF)
    is_open = (remaining > NEG_INF).long()
    return remaining.masked_fill(torch.cumsum(is_open, dim=1) > most, NEG_INF)


def _close(values: Float[Tensor, "B J M"], column: Int[Tensor, " B"]) -> None:
    """Mask a column in all later rows, in place; column −1 masks nothing."""
    index = column.clamp(min=0).view(-1, 1, 1).expand(-1, values.shape[1], 1)
    is_empty = (column < 0).view(-1, 1, 1)
    values.scatter_(2, index, torch.where(is_empty, values.gather(2, index), NEG_INF))
