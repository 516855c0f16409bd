"""Checks of a log as a whole, for any source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from jaxtyping import Int

from slatewise.data.manifest import iso
from slatewise.data.reading.faults import quote
from slatewise.data.reading.name_forms import looks_missing
from slatewise.wording import agree, count_of

Locate = Callable[[int], str]
"""Describes where a row (0-based) comes from."""
EXAMPLES = 3
"""Number of examples reported for a failed check."""
FEW_EVENTS = 3
"""Users with fewer events have none to hold out."""
_DAY = 86_400_000_000
_1990 = 631_152_000_000_000


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check and its outcome."""

    name: str
    """What should hold: "reward is a finite number"."""
    passed: bool
    count: int = 0
    """Number of rows or items that fail it; 1 for a property of the whole log."""
    examples: tuple[str, ...] = ()
    """The first of them, with their location."""
    advice: str = ""
    stops_import: bool = False
    """Whether `data import` refuses a log that fails it; if not, the failure is only worth knowing."""


def check_of(
    name: str,
    examples: Sequence[str],
    *,
    count: int | None = None,
    advice: str = "",
    stops: bool = False,
) -> Check:
    """A check that passed if there are no examples of failures.

    Args:
        name: what should hold.
        examples: failures, in words.
        count: number of failures; None = number of examples.
        advice: how to correct them.
        stops: whether `data import` refuses the log.
    """
    return Check(
        name=name,
        passed=not examples,
        count=len(examples) if count is None else count,
        examples=tuple(examples[:EXAMPLES]),
        advice=advice if examples else "",
        stops_import=stops and bool(examples),
    )


def log_checks(frame: pl.DataFrame, place: Locate, *, priced: bool, clock: bool = True) -> list[Check]:
    """Checks of a log as a whole.

    Args:
        frame: canonical columns; every row has passed the row checks.
        place: describes where a row comes from.
        clock: False where times are only the order of the rows: nothing is checked about them.
        priced: whether rewards come from the log; where every row counts 1, equal rewards mean nothing.
    """
    repeats = [name for name in ("user_id", "item_id", "timestamp", "event_id", "position") if name in frame.columns]
    events = frame.group_by("user_id").agg(
        (pl.col("event_id").n_unique() if "event_id" in frame.columns else pl.len()).alias("events")
    )["events"]
    short_users = int((events < FEW_EVENTS).sum())
    checks = [
        _of_rows(
            "no row is repeated",
            ~frame.select(pl.struct(repeats).is_first_distinct().alias("first"))["first"],
            frame,
            place,
            "item_id",
            advice="The import keeps them; remove rows that were written twice.",
        ),
        *(_time_checks(frame, place) if clock else []),
        _single(
            "there are two users or more", frame["user_id"], "A policy for one user cannot be evaluated on others."
        ),
        _single("there are two items or more", frame["item_id"], "With one item there is nothing to choose."),
        check_of(
            f"half of the users or more have {FEW_EVENTS} events",
            [f"{short_users:,} of {count_of(len(events), 'user')} {agree(short_users, 'has', 'have')} fewer"]
            if 2 * short_users > len(events)
            else [],
            advice='They train and do not test, unless [data] split = "by_time" or "by_user".',
        ),
    ]
    if priced:
        checks.append(_single("rewards differ", frame["reward"], "Equal rewards carry no preference between items."))
    if "event_id" in frame.columns:
        checks += _event_checks(frame, place)
    return checks


def _time_checks(frame: pl.DataFrame, place: Locate) -> list[Check]:
    current_time = int(datetime.now(UTC).timestamp() * 1e6)
    return [
        _of_rows(
            "no time is in the future",
            frame["timestamp"] > current_time + _DAY,
            frame,
            place,
            "timestamp",
            advice="A clock or the unit of the times is wrong: --time-format.",
        ),
        _of_rows(
            "no time is before 1990",
            frame["timestamp"] < _1990,
            frame,
            place,
            "timestamp",
            advice="The unit of the times may be wrong: --time-format.",
        ),
    ]


def missing_check(frame: pl.DataFrame, place: Locate) -> Check:
    """Check that no user or item has a name that programs write in place of a missing value."""
    missing = {name: looks_missing(frame[name]) for name in ("user_id", "item_id")}
    rows = missing["user_id"] | missing["item_id"]
    examples = []
    for row in rows.arg_true().head(EXAMPLES).to_list():
        column = "user_id" if missing["user_id"][row] else "item_id"
        examples.append(f"{place(row)}: {column} {quote(frame[column][row])}")
    return check_of(
        "no name looks like a missing value",
        examples,
        count=int(rows.sum()),
        advice="The import takes them for users and items; --set-aside-missing leaves these rows out.",
    )


def order_check(frame: pl.DataFrame, place: Locate) -> Check:
    """Check that no row is older than the one before it."""
    older = frame["timestamp"].shift(1) > frame["timestamp"]
    return _of_rows("times are in order", older, frame, place, "timestamp", advice="The import sorts them.")


def _event_checks(frame: pl.DataFrame, place: Locate) -> list[Check]:
    in_event = pl.col("timestamp") != pl.col("timestamp").first().over("event_id")
    twice = ~pl.struct("event_id", "item_id").is_first_distinct()
    flags = frame.select(in_event.alias("times"), twice.alias("items"))
    checks = [
        _of_rows(
            "the rows of an event have one time",
            flags["times"],
            frame,
            place,
            "timestamp",
            advice="The import takes the earliest.",
        ),
        _of_rows(
            "no item is repeated in an event",
            flags["items"],
            frame,
            place,
            "item_id",
            advice="Show an item only once per slate.",
        ),
    ]
    if "session_id" in frame.columns:
        users = (
            frame.drop_nulls("session_id").group_by("session_id", maintain_order=True).agg(pl.col("user_id").n_unique())
        )
        shared = users.filter(pl.col("user_id") > 1)["session_id"].to_list()
        checks.append(
            check_of(
                "a session has one user",
                [f'session "{name}"' for name in shared],
                advice="The import treats them as one session per user.",
            )
        )
    return checks


def _of_rows(name: str, bad: pl.Series, frame: pl.DataFrame, place: Locate, column: str, *, advice: str) -> Check:
    rows: Int[np.ndarray, "N"] = bad.fill_null(value=False).arg_true().to_numpy()
    examples = []
    for row in rows[:EXAMPLES].tolist():
        value = frame[column][row]
        examples.append(f"{place(row)}: {_moment(value) if column == 'timestamp' else quote(value)}")
    return check_of(name, examples, count=len(rows), advice=advice)


def _single(name: str, values: pl.Series, advice: str) -> Check:
    """Check that a column holds more than one value."""
    alone = values.n_unique() < 2
    return check_of(name, [f"all {len(values):,} rows: {quote(values[0])}"] if alone else [], advice=advice)


def _moment(microseconds: int) -> str:
    try:
        return iso(microseconds)
    except OverflowError:
        return f"{microseconds} µs"
