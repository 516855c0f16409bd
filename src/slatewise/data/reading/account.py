"""The account of an import: what was read, kept and set aside, and what to know of the log before training on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Int

from slatewise.data.reading.file_order import item_ranks, order_notes
from slatewise.data.reading.name_forms import looks_missing
from slatewise.log import FIRST_ITEM, Interactions
from slatewise.wording import agree, count_of

MANY_REPEATS = 0.1
"""From this share of repeats on, a log is called a log of repeats."""
HEAVY_SHARE = 0.1
"""From this share of the events on, a user is named: twice what each of FEWEST_USERS would have."""
FEWEST_USERS = 20
"""With fewer users, a large share is nothing remarkable."""
_YEAR = 31_557_600_000_000
_1990 = 631_152_000_000_000


@dataclass(frozen=True, kw_only=True)
class Slates:
    """Slates by the number of their used items."""

    unused: int
    single: int
    several: int

    @classmethod
    def of(cls, log: Interactions) -> Slates:
        """The slates of a log."""
        uses = np.add.reduceat(log.used.astype(np.int64), log.event_offsets[:-1])
        return cls(unused=int((uses == 0).sum()), single=int((uses == 1).sum()), several=int((uses > 1).sum()))


@dataclass(frozen=True, kw_only=True)
class Titles:
    """The items of a log and those of its item table."""

    items: int
    """Items that the log shows or uses."""
    matches: int
    """Those of them that the item table has."""
    table: int
    """Items of the table."""
    has_text: bool = True
    """Whether the table has titles."""

    @classmethod
    def of(cls, rows_of_item: Int[np.ndarray, "N"], num_table_items: int, *, has_text: bool) -> Titles:
        """The items of a log by their rows, those of the item table first."""
        matches = int(np.count_nonzero(rows_of_item[:num_table_items]))
        items = int(np.count_nonzero(rows_of_item))
        return cls(items=items, matches=matches, table=num_table_items, has_text=has_text)


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the rows of a log; stored in the manifest as `source["account"]`."""

    rows_read: int
    rows: int
    """Rows of the data set."""
    set_aside: dict[str, int] = field(default_factory=dict)
    """Reason → rows that are not in the data set."""
    users: int
    titles: Titles | None
    """None where there is no item table."""
    slates: Slates | None
    """None for a log of uses."""
    uses: int
    repeats: int
    """Uses of items that the user had used before."""
    known_propensities: int
    """Rows with a propensity."""
    missing_names: dict[str, int] = field(default_factory=dict)
    """User or item whose name looks like a missing value → its rows."""
    notes: tuple[str, ...] = ()
    """What to know of the log, one sentence each."""

    @classmethod
    def of(cls, source: Mapping[str, object]) -> Account | None:
        """The account that a manifest stores as its source; None where it has none."""
        return msgspec.convert(source["account"], cls) if "account" in source else None

    def sentences(self) -> list[tuple[str, str]]:
        """The account in words: a heading and a line for each."""
        lines = [("rows", f"{self.rows_read:,} read, {self.rows:,} kept")]
        lines += [("set aside", f"{count_of(count, 'row')}: {reason}") for reason, count in self.set_aside.items()]
        if self.titles is not None:
            counts = f"{self.titles.matches:,} of {count_of(self.titles.items, 'item')} of the log"
            table = f"in the item table, which has {self.titles.table:,}"
            heading = "titles" if self.titles.has_text else "items"
            lines.append((heading, f"{counts} {agree(self.titles.matches, 'is', 'are')} {table}"))
        if self.slates is not None:
            unused, single, several = self.slates.unused, self.slates.single, self.slates.several
            sizes = f"{unused:,} without a use, {single:,} with one, {several:,} with several"
            lines.append(("slates", f"{unused + single + several:,}: {sizes}"))
            lines.append(("known", f"propensities of {self.known_propensities:,} of {count_of(self.rows, 'row')}"))
        lines.append(
            ("repeats", f"{self.repeats:,} of {count_of(self.uses, 'use')} ({_share(self.repeats, self.uses)})")
        )
        return lines + [("note", note) for note in self.notes]


def account_of(
    interactions: Interactions,
    *,
    users: pa.StringArray,
    items: pa.StringArray,
    num_table_items: int | None,
    has_titles: bool = True,
    is_slates: bool,
    clock: bool,
    set_aside: Mapping[str, int],
) -> Account:
    """The account of a log.

    Args:
        interactions: the log.
        users: names of its users.
        items: names of its items in the order of their numbers, those of the item table first.
        num_table_items: items of the table; None where there is none.
        has_titles: whether the table has titles.
        is_slates: whether the log shows slates, used or not.
        clock: False where times are only the order of the rows.
        set_aside: reason → rows of the files that are not in the log.
    """
    log = interactions
    sizes = np.diff(log.event_offsets)
    row_user = np.repeat(np.repeat(np.arange(log.num_users), np.diff(log.user_offsets)), sizes)
    item = log.item.astype(np.int64) - FIRST_ITEM
    rows_of_item = np.bincount(item, minlength=len(items))
    titles = None if num_table_items is None else Titles.of(rows_of_item, num_table_items, has_text=has_titles)
    slates = Slates.of(log) if is_slates else None
    num_uses = int(np.count_nonzero(log.used))
    pairs = (row_user * len(items) + item)[log.used]
    repeats = num_uses - pl.Series(pairs).n_unique()
    missing = missing_names("user", users, np.bincount(row_user, minlength=len(users)))
    missing |= missing_names("item", items, rows_of_item)
    notes = [
        *_few_notes(log, rows_of_item),
        *heavy_user_notes(users, np.diff(log.user_offsets)),
        *_title_notes(titles, items, num_table_items, rows_of_item),
        *([f"Names that look like a missing value: {_counts(missing)} (--set-aside-missing)."] if missing else []),
        *_use_notes(slates, num_uses, repeats),
        *(_time_notes(log.time) if clock else []),
        *([] if clock or is_slates else order_notes(row_user, {"item": item_ranks(items)[item], "reward": log.reward})),
        *_propensity_notes(log),
    ]
    return Account(
        rows_read=log.num_rows + sum(set_aside.values()),
        rows=log.num_rows,
        set_aside=dict(set_aside),
        users=log.num_users,
        titles=titles,
        slates=slates,
        uses=num_uses,
        repeats=repeats,
        known_propensities=int(np.count_nonzero(log.logp_known)),
        missing_names=missing,
        notes=tuple(notes),
    )


def missing_names(thing: str, names: pa.StringArray, rows: Int[np.ndarray, "N"]) -> dict[str, int]:
    """Names that look like a missing value, with their rows; those without rows are left out.

    Args:
        thing: user or item.
        names: of the things.
        rows: of each.
    """
    series = pl.Series(values=pl.from_arrow(names), dtype=pl.String)
    return {f'{thing} "{series[index]}"': int(rows[index]) for index in looks_missing(series).arg_true() if rows[index]}


def _time_notes(time: Int[np.ndarray, "V"]) -> list[str]:
    current_time = int(datetime.now(UTC).timestamp() * 1e6)
    counts = {
        "before 1990": int((time < _1990).sum()),
        "more than a year ahead": int((time > current_time + _YEAR).sum()),
    }
    return [
        f"{count:,} of {count_of(len(time), 'event')} {agree(count, 'is', 'are')} {when}: the unit of the times may be "
        "wrong (--time-format)."
        for when, count in counts.items()
        if count
    ]


def _use_notes(slates: Slates | None, num_uses: int, repeats: int) -> list[str]:
    notes = []
    if num_uses == 0:
        notes.append(
            "Nothing was used: every reward is 0 or less, and there is nothing to learn from or to evaluate on."
        )
    if num_uses and repeats >= MANY_REPEATS * num_uses:
        notes.append(
            f"{_share(repeats, num_uses)} of the uses are of items that the user had used before. They are neither "
            "recommended nor evaluated unless [evaluate] exclude_seen = false."
        )
    if slates is not None and slates.several:
        total = slates.unused + slates.single + slates.several
        notes.append(
            f"{_share(slates.several, total)} of the slates have several uses; slateq and the user model fitted to a "
            "log take the use with the largest reward for the only one."
        )
    return notes


def _propensity_notes(log: Interactions) -> list[str]:
    """Where only a part of the rows has a propensity."""
    unknown = log.num_rows - int(np.count_nonzero(log.logp_known))
    if unknown in (0, log.num_rows):
        return []
    return [f"{unknown:,} of {count_of(log.num_rows, 'row')} {agree(unknown, 'has', 'have')} no propensity."]


def _few_notes(log: Interactions, rows_of_item: Int[np.ndarray, "N"]) -> list[str]:
    notes = []
    if log.num_users == 1:
        notes.append("There is one user: nothing can be evaluated on others.")
    if int(np.count_nonzero(rows_of_item)) == 1:
        notes.append("There is one item: there is nothing to choose between.")
    if log.num_events == log.num_users:
        notes.append("Every user has one event: none can be held out with a history before it.")
    return notes


def heavy_user_notes(users: pa.StringArray, events: Int[np.ndarray, "U"]) -> list[str]:
    """A sentence for each user with HEAVY_SHARE of the events or more, in a log of FEWEST_USERS users or more."""
    total = int(events.sum())
    heavy = np.flatnonzero(events >= HEAVY_SHARE * total) if len(events) >= FEWEST_USERS else ()
    return [
        f'User "{users[int(user)]}" has {events[user]:,} of {total:,} events ({_share(int(events[user]), total)}): '
        "what is learned and what is popular follow this user. Remove the rows of a robot before the import."
        for user in heavy
    ]


def _title_notes(
    titles: Titles | None, items: pa.StringArray, num_table_items: int | None, rows_of_item: Int[np.ndarray, "N"]
) -> list[str]:
    if titles is None or titles.matches or not titles.table or num_table_items is None:
        return []
    in_log = items[num_table_items + int(np.argmax(rows_of_item[num_table_items:] > 0))].as_py()
    return [
        f'No item of the log is in the item table: the log names "{in_log}", the table "{items[0].as_py()}". Their '
        "titles and features are not used."
    ]


def _counts(names: Mapping[str, int]) -> str:
    listed = [f"{name} in {count_of(count, 'row')}" for name, count in list(names.items())[:6]]
    return ", ".join(listed) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"
