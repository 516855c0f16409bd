"""The decisions of a log that can be used together; what contradicts itself or the others is set aside by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slatewise.data.segments import Columns
from slatewise.data.set_aside import SetAside, set_aside_rows
from slatewise.errors import input_error


@dataclass(frozen=True, kw_only=True)
class UsableDecisions:
    """Decisions, each once, and the outcomes that are not of a decision that was set aside."""

    decisions: pl.DataFrame
    """As in `Columns`, with their number `event` and context_… columns."""
    rows: pl.DataFrame
    outcomes: pl.DataFrame
    repeated: int
    """Decisions that came again, the same in all."""
    set_aside: tuple[SetAside, ...]


def usable_decisions(columns: Columns, path: Path) -> UsableDecisions:
    """Every decision once, without those that cannot be used together with the others.

    Of different decisions with one event_id nobody knows which was shown: all are set aside. Contexts have the width
    that most have; decisions with another one are set aside, those without a context have zeros.

    Args:
        columns: the records.
        path: of the log, for messages.

    Raises:
        InputError: none of the decisions can be used.
    """
    decisions = columns.decisions.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int64).alias("event"), pl.Series("width", columns.context_width)
    )
    clashes = _clashes(decisions, columns)
    width = _usual_width(decisions["width"].filter(~clashes).to_numpy())
    odd = ~clashes & ~decisions["width"].is_in([0, width])
    unusable = clashes | odd
    set_aside = [
        set_aside_rows(decisions.filter(clashes), columns.files, "different decisions with one event_id"),
        set_aside_rows(decisions.filter(odd), columns.files, f"contexts of another width than {width}"),
    ]
    if len(decisions) and unusable.all():
        raise input_error(
            f"no decision can be used: {'; '.join(str(each) for each in set_aside if each.count)}",
            file=path,
            advice="Nothing was imported. Writers that number events alike must be imported one by one.",
        )
    first = decisions.filter(~unusable).unique("event_id", keep="first", maintain_order=True)
    without_decision = columns.outcomes["event_id"].is_in(decisions.filter(unusable)["event_id"].implode())
    set_aside.append(
        set_aside_rows(
            columns.outcomes.filter(without_decision), columns.files, "outcomes of decisions that were set aside"
        )
    )
    return UsableDecisions(
        decisions=_with_context(first, columns, width).drop("width"),
        rows=columns.rows.join(first.select("event"), on="event", how="semi", maintain_order="left"),
        outcomes=columns.outcomes.filter(~without_decision),
        repeated=int((~unusable).sum()) - len(first),
        set_aside=tuple(each for each in set_aside if each.count),
    )


def _usual_width(width: np.ndarray) -> int:
    """The width that most contexts have, of equally frequent ones that of the earliest; 0 where there is none."""
    values, first, counts = np.unique(width[width > 0], return_index=True, return_counts=True)
    return int(values[np.lexsort((first, -counts))[0]]) if len(values) else 0


def _clashes(decisions: pl.DataFrame, columns: Columns) -> pl.Series:
    """True where another decision has the same event_id and is not the same in all."""
    duplicated = decisions["event_id"].is_duplicated()
    if not duplicated.any():
        return duplicated
    again = decisions.filter(duplicated)
    starts = np.cumsum(columns.context_width) - columns.context_width
    contexts = [columns.context[starts[event] : starts[event] + size].tolist() for event, size in _sizes(again)]
    slates = columns.rows.join(again.select("event"), on="event", how="semi")
    slates = slates.group_by("event", maintain_order=True).agg("item_id", "logp")
    listed = columns.conditions.items.group_by("event", maintain_order=True).agg(
        "role", pl.col("item_id").alias("listed")
    )
    contents = (
        again.with_columns(pl.Series("context", contexts, dtype=pl.List(pl.Float32)))
        .join(slates, on="event")
        .join(columns.conditions.events, on="event", how="left")
        .join(listed, on="event", how="left")
        .drop("event", "file", "line")
        .unique(maintain_order=True)
    )
    different = contents.filter(pl.col("event_id").is_duplicated())["event_id"].unique()
    return decisions["event_id"].is_in(different.implode())


def _sizes(decisions: pl.DataFrame) -> list[tuple[int, int]]:
    """Number and width of the context of each decision."""
    return list(decisions.select("event", "width").iter_rows())


def _with_context(decisions: pl.DataFrame, columns: Columns, width: int) -> pl.DataFrame:
    """Decisions with a column for each number of their context; zeros where they have none."""
    context = np.zeros((len(decisions), width), np.float32)
    starts = (np.cumsum(columns.context_width) - columns.context_width)[decisions["event"].to_numpy()]
    has_context = decisions["width"].to_numpy() > 0
    context[has_context] = columns.context[starts[has_context, None] + np.arange(width)]
    names = [f"context_{index:0{len(str(width - 1))}d}" for index in range(width)]  # padded: sorts as it counts
    return decisions.with_columns(pl.Series(name, context[:, index]) for index, name in enumerate(names))
