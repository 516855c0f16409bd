"""Conditions of logged slates: from the records of a log to columns, one row an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from slatewise.data.decisions_and_outcomes import Decision
from slatewise.log import FIRST_ITEM, PAD, Vocabulary
from slatewise.logged_requests import CatalogParts, ItemLists, LoggedRequests

Role = Literal["exclude", "candidates", "fixed"]
NO_CATALOG = Vocabulary(names=pa.array([""], pa.string()), first=0, unknown=0)
"""Names of the catalog versions of a log that says nothing of them."""
_EVENTS = {
    "event": pl.Int64,
    "k": pl.Int32,
    "top_m": pl.Int32,
    "keep": pl.Int32,
    "temperature": pl.Float64,
    "exclude_seen": pl.Boolean,
    "catalog_version": pl.String,
    "where": pl.String,
}
_ITEMS = {"event": pl.Int64, "role": pl.String, "position": pl.Int32, "item_id": pl.String}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Items of a catalog that could be chosen."""

    names: pa.StringArray
    """Of all items of the catalog."""
    allowed: Bool[np.ndarray, "N"]
    """True where an item could be chosen."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What decisions say of the conditions of their slates; in both frames `event` is the number of a decision."""

    events: pl.DataFrame
    """k, top_m (0 = greedy), keep, temperature, exclude_seen, catalog_version, where; one row a decision that names
    them."""
    items: pl.DataFrame
    """role, position, item_id; one row an item that a decision excludes, names as candidate or fixes at a position."""
    parts: Mapping[tuple[str | None, str | None], Part] = field(default_factory=dict)
    """What filters and masks leave, by where and catalog_version; the whole catalog where a pair is not among them."""

    def by_event_id(self, decisions: pl.DataFrame) -> Conditions:
        """The conditions of the decisions of a frame with columns event and event_id, by event_id in place of event."""
        names = decisions.select("event", "event_id")
        return replace(
            self,
            events=self.events.join(names, on="event", how="inner", maintain_order="left").drop("event"),
            items=self.items.join(names, on="event", how="inner", maintain_order="left").drop("event"),
        )


def read_conditions(records: Sequence[Decision], first: int) -> Conditions:
    """The conditions that some decisions name.

    Args:
        records: decisions.
        first: number of the first of them.
    """
    named = [(number, record) for number, record in enumerate(records, start=first) if record.k is not None]
    draws = [record.exploration for _, record in named]
    events = {
        "event": [number for number, _ in named],
        "k": [record.k for _, record in named],
        "top_m": [draw.top_m if draw else 0 for draw in draws],
        "keep": [draw.keep if draw else 0 for draw in draws],
        "temperature": [draw.temperature if draw else 1.0 for draw in draws],
        "exclude_seen": [record.exclude_seen for _, record in named],
        "catalog_version": [record.catalog_version for _, record in named],
        "where": [record.where for _, record in named],
    }
    exclude = [(number, record.exclude) for number, record in named if record.exclude]
    candidates = [(number, record.candidates) for number, record in named if record.candidates]
    fixed = [(number, item) for number, record in named for item in record.fixed or ()]
    at_fixed = {
        "event": [number for number, _ in fixed],
        "role": ["fixed"] * len(fixed),
        "position": [item.position for _, item in fixed],
        "item_id": [item.item_id for _, item in fixed],
    }
    items = [
        _item_rows("exclude", exclude),
        _item_rows("candidates", candidates),
        pl.DataFrame(at_fixed, schema=_ITEMS),
    ]
    return Conditions(events=pl.DataFrame(events, schema=_EVENTS), items=pl.concat(items))


def concatenate(parts: Sequence[Conditions]) -> Conditions:
    """The conditions of one decision after the other."""
    none = read_conditions((), 0)
    return Conditions(
        events=pl.concat([none.events, *(part.events for part in parts)]),
        items=pl.concat([none.items, *(part.items for part in parts)]),
    )


def with_named_items(item_names: pa.StringArray, conditions: Conditions) -> pa.StringArray:
    """The names of items with those after them that only conditions name."""
    named = conditions.items["item_id"].unique(maintain_order=True).to_arrow().cast(pa.string())
    return pa.concat_arrays([item_names, named.filter(pc.invert(pc.is_in(named, value_set=item_names)))])


def logged_requests(
    conditions: Conditions, event_names: pl.Series, item_names: pa.StringArray
) -> tuple[LoggedRequests, Vocabulary]:
    """The conditions of every event of a data set, and the names of the catalog versions.

    Args:
        conditions: by event_id.
        event_names: name of each event.
        item_names: names of the items, in the order of their numbers; all that the conditions name are among them.
    """
    events = pl.DataFrame({"event_id": event_names.cast(pl.String)}).with_row_index("event")
    rows = events.join(conditions.events, on="event_id", how="left", maintain_order="left").with_columns(
        pl.col("k", "top_m", "keep").fill_null(0),
        pl.col("temperature").fill_null(1.0),
        pl.col("exclude_seen").fill_null(value=False),
    )
    versions = conditions.events["catalog_version"].drop_nulls().unique(maintain_order=True)
    names = Vocabulary(names=pa.array(["", *versions.to_list()], pa.string()), first=0, unknown=0)
    items = conditions.items.join(events, on="event_id", how="inner", maintain_order="left")
    numbers = pc.index_in(items["item_id"].rechunk().to_arrow().cast(pa.string()), value_set=item_names)
    items = items.with_columns(number=pl.Series(np.asarray(numbers, np.int64) + FIRST_ITEM))
    requests = LoggedRequests(
        k=rows["k"].to_numpy(),
        top_m=rows["top_m"].to_numpy(),
        keep=rows["keep"].to_numpy(),
        temperature=rows["temperature"].to_numpy(),
        exclude_seen=rows["exclude_seen"].to_numpy(),
        catalog=names.encode(rows["catalog_version"].rechunk().to_arrow().cast(pa.string())).astype(np.int32),
        exclude=_lists(items, "exclude", len(events)),
        candidates=_lists(items, "candidates", len(events)),
        parts=_catalog_parts(rows, conditions.parts, item_names),
        fixed=_fixed_lists(items, rows["k"].to_numpy()),
    )
    return requests, names


def _catalog_parts(
    rows: pl.DataFrame, parts: Mapping[tuple[str | None, str | None], Part], item_names: pa.StringArray
) -> CatalogParts | None:
    """The part of every event as a number, and the items of each part; None where every event had all."""
    pairs = list(zip(rows["where"].to_list(), rows["catalog_version"].to_list(), strict=True)) if parts else []
    used = [pair for pair in parts if pair in set(pairs)]
    if not used:
        return None
    number = {pair: place for place, pair in enumerate(used, start=1)}
    inside = np.zeros((len(used), len(item_names) + FIRST_ITEM), np.bool_)
    for row, pair in zip(inside, used, strict=True):
        names = parts[pair].names.filter(pa.array(parts[pair].allowed))
        row[np.asarray(pc.index_in(names, value_set=item_names).drop_null(), np.int64) + FIRST_ITEM] = True
    part = np.array([number.get(pair, 0) for pair in pairs], np.int32)
    return CatalogParts(part=part, bits=np.packbits(inside, axis=1))


def _item_rows(role: Role, lists: Sequence[tuple[int, Sequence[str]]]) -> pl.DataFrame:
    """One row an item of the lists of some decisions."""
    sizes = np.array([len(names) for _, names in lists], np.int64)
    starts = np.cumsum(sizes) - sizes
    rows = {
        "event": np.repeat(np.array([number for number, _ in lists], np.int64), sizes),
        "role": [role] * int(sizes.sum()),
        "position": np.arange(int(sizes.sum())) - np.repeat(starts, sizes),
        "item_id": list(chain.from_iterable(names for _, names in lists)),
    }
    return pl.DataFrame(rows, schema=_ITEMS)


def _lists(items: pl.DataFrame, role: Role, events: int) -> ItemLists | None:
    """The items of a role, by event, in their order; None where no event has any."""
    rows = items.filter(pl.col("role") == role).sort("event", "position", maintain_order=True)
    if not len(rows):
        return None
    return ItemLists(
        offsets=_offsets(np.bincount(rows["event"].to_numpy(), minlength=events)),
        item=rows["number"].to_numpy().astype(np.int32),
    )


def _fixed_lists(items: pl.DataFrame, k: Int[np.ndarray, "V"]) -> ItemLists | None:
    """All k positions of each event that fixes one of them; 0 = free."""
    rows = items.filter(pl.col("role") == "fixed")
    if not len(rows):
        return None
    event, position = rows["event"].to_numpy().astype(np.int64), rows["position"].to_numpy().astype(np.int64)
    size = np.zeros(len(k), np.int64)
    size[event] = k[event]
    offsets = _offsets(size)
    item = np.full(int(offsets[-1]), PAD, np.int32)
    item[offsets[event] + position] = rows["number"].to_numpy()
    return ItemLists(offsets=offsets, item=item)


def _offsets(size: Int[np.ndarray, "V"]) -> Int[np.ndarray, "V1"]:
    return np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
