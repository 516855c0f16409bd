"""A prepared data set as a table again: one row per shown or used item, in columns that `data import` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int
from pyarrow import csv

from slatewise.data.joining import is_numbered, user_of_event
from slatewise.data.prepared import Dataset
from slatewise.errors import input_error
from slatewise.files import atomic_file
from slatewise.log import FIRST_ITEM

EVENTS_AT_ONCE = 1 << 18


def export(
    dataset: Dataset, out: Path, *, overwrite: bool = False, on_events: Callable[[int], None] = lambda events: None
) -> tuple[str, ...]:
    """Write a log as Parquet or CSV, a block of events at a time; what the table cannot hold is reported.

    Args:
        dataset: the log.
        out: a name that ends in .parquet or .csv.
        overwrite: replace a file that is there.
        on_events: called with the number of events done.

    Raises:
        InputError: another kind of file, or one that is there.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise input_error(f'"{out.name}" is not a name of a table (expected NAME.parquet or NAME.csv)', file=out)
    if out.is_dir() or (out.exists() and not overwrite):
        raise input_error("it is there already", file=out, advice="--overwrite replaces it, --out names another.")
    blocks = _blocks(dataset)
    first = next(blocks)
    with atomic_file(out) as temporary:
        schema = first.schema
        with (
            csv.CSVWriter(temporary, schema) if out.suffix == ".csv" else pq.ParquetWriter(temporary, schema) as writer
        ):
            writer.write_table(first)
            done = EVENTS_AT_ONCE
            on_events(min(done, dataset.interactions.num_events))
            for table in blocks:
                writer.write_table(table)
                done += EVENTS_AT_ONCE
                on_events(min(done, dataset.interactions.num_events))
    return _losses(dataset)


def _losses(dataset: Dataset) -> tuple[str, ...]:
    """What a table of rows cannot hold of a data set."""
    notes = []
    if dataset.interactions.requests is not None:
        notes.append("The conditions of the slates (k, exploration, exclusions, candidates) are not in the table.")
    if not dataset.clock:
        notes.append("There are no times: import the table with --no-time; its rows are in the order of the users.")
    if dataset.user_table is not None:
        notes.append(
            "Features of users are not in the table: import it with --users and the table that describes them."
        )
    items = dataset.catalog
    if items.features.shape[1] or items.columns is not None or any(items.text):
        notes.append(
            f"Titles, features and columns of the items stay in the data set: import with --items {dataset.path}."
        )
    return tuple(notes)


def _blocks(dataset: Dataset) -> Iterator[pa.Table]:
    log = dataset.interactions
    user, numbered = user_of_event(log), is_numbered(log)
    session = _sessions(dataset, user)
    for start in range(0, max(log.num_events, 1), EVENTS_AT_ONCE):
        events = np.arange(start, min(start + EVENTS_AT_ONCE, log.num_events))
        yield _rows(dataset, events, user, session, numbered=numbered)


def _rows(
    dataset: Dataset,
    events: Int[np.ndarray, "W"],
    user: Int[np.ndarray, "V"],
    session: Int[np.ndarray, "V"],
    *,
    numbered: bool,
) -> pa.Table:
    """The rows of some events."""
    log, block = dataset.interactions, dataset.interactions.take(events)
    size = np.diff(block.event_offsets)
    of_row = np.repeat(np.arange(len(events)), size)
    columns: dict[str, pl.Series | np.ndarray] = {
        "user_id": _names(dataset.users.names, user[events][of_row]),
        "item_id": _names(dataset.catalog.vocabulary.names, block.item - FIRST_ITEM),
    }
    if dataset.clock:
        columns["timestamp"] = _times(block.time[of_row])
    columns["reward"] = block.reward
    if not numbered:
        columns["event_id"] = block.event_id[of_row]
        columns["position"] = np.arange(len(of_row)) - np.repeat(block.event_offsets[:-1], size)
    if (session >= 0).any():
        numbers = pl.Series(session[events][of_row])
        columns["session_id"] = pl.select(pl.when(numbers >= 0).then(numbers)).to_series()
    if len(dataset.policies) > 1:
        columns["policy_id"] = _names(dataset.policies.names, block.policy_id[of_row]).replace("", None)
    if log.logp_known.any():
        columns["logp"] = pl.select(pl.when(pl.Series(block.logp_known)).then(pl.Series(block.logp))).to_series()
    if log.cost.any():
        columns["cost"] = block.cost
    if dataset.kind == "impressions":
        columns["used"] = block.used
        used = pl.Series(block.used)
        if dataset.clock:
            columns["used_time"] = pl.select(pl.when(used).then(_times(block.used_time))).to_series()
        columns["use_reward"] = pl.select(pl.when(used).then(pl.Series(block.use_reward))).to_series()
    for place, name in enumerate(dataset.manifest.context):
        columns[name] = block.context[of_row, place]
    return pl.DataFrame(columns).to_arrow()


def _names(names: pa.StringArray, number: Int[np.ndarray, "R"]) -> pl.Series:
    return pl.Series(values=pl.from_arrow(names.take(pa.array(number))), dtype=pl.String)


def _times(microseconds: Int[np.ndarray, "R"]) -> pl.Series:
    return pl.Series(microseconds.astype(np.int64)).cast(pl.Datetime("us", "UTC"))


def _sessions(dataset: Dataset, user: Int[np.ndarray, "V"]) -> Int[np.ndarray, "V"]:
    """A number for the events of each session that the log names; −1 after a user's last one."""
    ends = np.asarray(dataset.interactions.session_end)
    session = np.cumsum(ends) - ends
    # a session ends at its last event: events after a user's last end belong to none
    following = np.append(np.flatnonzero(ends), len(ends))
    last = following[np.searchsorted(following, np.arange(len(ends)))]
    has_end = last < len(ends)
    has_end[has_end] = user[last[has_end]] == user[has_end]
    numbers: Int[np.ndarray, "V"] = np.where(has_end, session, -1)
    return numbers
