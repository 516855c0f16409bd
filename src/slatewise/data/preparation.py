"""From the canonical frame of a log to a prepared data set; every import (files, downloads, events) ends here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from slatewise.data import prepared
from slatewise.data.conditions import NO_CATALOG, Conditions, logged_requests, with_named_items
from slatewise.data.manifest import Kind, Provenance
from slatewise.data.prepared import Dataset
from slatewise.data.reading.account import Account, account_of
from slatewise.data.reading.checks import CONTEXT, canonical, check_events, check_rows
from slatewise.data.reading.faults import first, row_error
from slatewise.data.reading.item_table import catalog
from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, Interactions, Vocabulary


def prepare(
    frame: pl.DataFrame,
    *,
    out: Path,
    name: str,
    items: pl.DataFrame | None = None,
    is_recorded: bool = False,
    conditions: Conditions | None = None,
    kind: Kind | None = None,
    provenance: Provenance | None = None,
    set_aside: Mapping[str, int] | None = None,
) -> Dataset:
    """Sort a log, number its names, group it into events and write it.

    Rows are ordered by user, time of the event and position; names are numbered as they come, an item table's first.

    Args:
        frame: canonical columns (see `slatewise.data.reading.checks`); rows in any order, ties in time keep theirs.
        out: folder to create; an older prepared data set there is replaced.
        name: short name, for reports.
        items: item table (see `slatewise.data.reading.item_table.catalog`).
        is_recorded: whether it is a catalog that a service recorded, which has no titles.
        conditions: under which the slates were drawn, by event_id; items that stand only there are numbered last.
        kind: impressions (an item is used where the column `used` says so, without one where its reward is above 0) or
            uses (every row is one); None: impressions where the log has event_id, position, propensity, logp or used.
        provenance: where the log comes from; None = nothing is known but that it was not simulated.
        set_aside: reason → rows of the log that are not in the frame, for the account.

    Raises:
        RowError, InputError: a row that cannot be used, a missing column, no rows, or `out` holds something else.
    """
    prepared.check_output(out)
    kind = _check_log(frame := canonical(frame), kind)
    interactions, users, item_names, policies, catalogs = assemble(
        frame, kind=kind, item_names=None if items is None else items["item_id"], conditions=conditions
    )
    provenance = provenance or Provenance()
    account = account_of(
        interactions,
        users=users.names,
        items=item_names,
        num_table_items=None if items is None or is_recorded else items.height,
        has_titles=items is not None and "text" in items.columns,
        is_slates=kind == "impressions",
        clock=provenance.clock,
        set_aside=set_aside or {},
    )
    provenance = replace(provenance, source={**provenance.source, "account": asdict(account)})
    return prepared.write(
        out,
        name=name,
        interactions=interactions,
        catalog=catalog(item_names, items),
        users=users,
        policies=policies,
        catalogs=catalogs,
        kind=kind,
        context=tuple(column for column in frame.columns if column.startswith(CONTEXT)),
        provenance=provenance,
    )


def foresee_account(
    frame: pl.DataFrame,
    *,
    items: pl.DataFrame | None = None,
    kind: Kind | None = None,
    clock: bool = True,
    set_aside: Mapping[str, int] | None = None,
) -> Account:
    """The account that `prepare` would write; see there for the arguments.

    Args:
        frame: columns of the log.
        items: item table.
        kind: of the log.
        clock: False where times are only the order of the rows.
        set_aside: reason → rows of the log that are not in the frame.

    Raises:
        RowError: a row that cannot be used.
        InputError: a missing column, or an empty log.
    """
    frame = canonical(frame)
    kind = _check_log(frame, kind)
    interactions, users, item_names, _, _ = assemble(
        frame, kind=kind, item_names=None if items is None else items["item_id"]
    )
    return account_of(
        interactions,
        users=users.names,
        items=item_names,
        num_table_items=None if items is None else items.height,
        is_slates=kind == "impressions",
        clock=clock,
        set_aside=set_aside or {},
    )


def _check_log(frame: pl.DataFrame, kind: Kind | None) -> Kind:
    """Check every row; returns which kind of log it is."""
    if frame.height == 0:
        raise input_error("the log has no rows", advice="Check that it is the right file.")
    # rows first: checks between rows need valid cells
    fault = first(check_rows(frame)) or first(check_events(frame))
    if fault is not None:
        raise row_error(fault, lambda column, row: frame[column][row])
    if kind is None:
        shown = {"event_id", "position", "propensity", "logp", "used"} & set(frame.columns)
        kind = "impressions" if shown else "uses"
    if kind == "uses" and "event_id" in frame.columns and frame["event_id"].is_duplicated().any():
        raise input_error(
            'events of several rows in a log of kind "uses", where every row is an event',
            column="event_id",
            advice="Say --kind impressions, or leave the column out.",
        )
    return kind


def assemble(
    frame: pl.DataFrame, *, kind: Kind, item_names: pl.Series | None = None, conditions: Conditions | None = None
) -> tuple[Interactions, Vocabulary, pa.StringArray, Vocabulary, Vocabulary]:
    """Columns of a checked canonical frame as `Interactions`, with users, names of the items, policies and catalogs.

    Raises:
        InputError: two event names that hash to the same number.
    """
    time = frame["timestamp"].to_numpy()
    by_time = _by_time(time)
    # names are numbered in the order of time, independently of the order of the file
    user, user_names = _number_names(frame["user_id"], by_time)
    event, event_ids = _events(frame, by_time)
    item, item_table = _items(frame["item_id"], by_time, item_names)
    policy, policies = _policies(frame, by_time)
    order = _order(user, event, frame["position"].to_numpy() if "position" in frame.columns else None, by_time)
    event = event[order]
    starts = np.flatnonzero(np.diff(event, prepend=-1))
    event_offsets = np.append(starts, len(event)).astype(np.int64)
    firsts = order[starts]
    event_user = user[firsts]
    earliest = np.full(len(event_ids), np.iinfo(np.int64).max)
    np.minimum.at(earliest, event, time[order])
    logp, logp_known = _logp(frame)
    requests, catalogs = None, NO_CATALOG
    if conditions is not None and len(conditions.events):
        item_table = with_named_items(item_table, conditions)
        requests, catalogs = logged_requests(conditions, frame["event_id"].gather(firsts), item_table)
    used, used_time, use_reward = _uses(frame, kind)
    interactions = Interactions(
        user_offsets=np.searchsorted(event_user, np.arange(len(user_names) + 1)).astype(np.int64),
        event_offsets=event_offsets,
        event_id=event_ids[event[starts]],
        policy_id=policy[firsts],
        time=earliest[event[starts]],
        session_end=_session_ends(frame, firsts, event_user),
        context=_context(frame, firsts),
        item=item[order],
        reward=frame["reward"].to_numpy()[order],
        cost=frame["cost"].to_numpy()[order] if "cost" in frame.columns else np.zeros(len(order), np.float32),
        logp=logp[order],
        logp_known=logp_known[order],
        used=used[order],
        used_time=used_time[order],
        use_reward=use_reward[order],
        requests=requests,
    )
    return interactions, Vocabulary(names=user_names, first=0, unknown=-1), item_table, policies, catalogs


def _by_time(time: Int[np.ndarray, "R"]) -> Int[np.ndarray, "R"]:
    """Rows in the order of time, ties in the order of the file."""
    if not np.any(np.diff(time) < 0):
        return np.arange(len(time))
    since = time - time.min()
    # divided by its resolution, time leaves room for the row number in one word
    return stable_order(since // max(int(np.gcd.reduce(since)), 1))


def stable_order(key: Int[np.ndarray, "R"]) -> Int[np.ndarray, "R"]:
    """Rows sorted by a key ≥ 0; ties keep their order.

    Key and row number are packed into one word where they fit: sorting words is ten times faster than a stable argsort.
    """
    bits = len(key).bit_length()
    if len(key) and int(key.max()) >= 1 << (63 - bits):
        return np.argsort(key, kind="stable")
    return np.sort((key << bits) | np.arange(len(key))) & ((1 << bits) - 1)


def _number_names(column: pl.Series, by_time: Int[np.ndarray, "R"]) -> tuple[Int[np.ndarray, "R"], pa.StringArray]:
    """Numbers in the order of first appearance in time (−1 for null), and the names."""
    number, names = _encode(column, by_time)
    return number, names.cast(pa.string())


def _encode(column: pl.Series, by_time: Int[np.ndarray, "R"]) -> tuple[Int[np.ndarray, "R"], pa.Array]:
    encoded = column.rechunk().to_arrow().dictionary_encode()
    code = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    # of repeated indices the last assignment wins: in reverse order, that is the first row in time
    in_time = code[by_time]
    first_row = np.zeros(len(encoded.dictionary) + 1, np.int64)
    first_row[in_time[::-1]] = np.arange(len(code))[::-1]
    appearance = np.argsort(first_row[:-1])
    number = np.empty(len(appearance) + 1, np.int64)
    number[appearance] = np.arange(len(appearance))
    number[-1] = -1  # where code is −1
    return number[code], encoded.dictionary.take(pa.array(appearance))


def _events(frame: pl.DataFrame, by_time: Int[np.ndarray, "R"]) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "V"]]:
    """For each row the event's rank by time (ties: by first appearance), and for each rank its number in the log."""
    if "event_id" not in frame.columns:
        rank = np.empty(len(by_time), np.int64)
        rank[by_time] = np.arange(len(by_time))
        return rank, np.arange(len(by_time))
    event, names = _encode(frame["event_id"], by_time)
    if pa.types.is_integer(names.type):
        return event, names.to_numpy().astype(np.int64)
    texts = pl.Series(values=pl.from_arrow(names), dtype=pl.String)
    # whole numbers are their own number, whatever other names the log has: an event is the same in every log
    numbers = texts.cast(pl.Int64, strict=False)
    is_number = (numbers.cast(pl.String) == texts).fill_null(value=False)
    if is_number.all():
        return event, numbers.to_numpy()
    number = numbers.fill_null(0).to_numpy(writable=True)
    number[~is_number.to_numpy()] = hash_names(texts.filter(~is_number).to_list())
    _check_distinct(number, names.to_pylist())
    return event, number


def hash_names(names: list[str]) -> Int[np.ndarray, "V"]:
    """Distinct names → distinct 63-bit numbers (BLAKE2b), the same on every machine.

    Raises:
        InputError: two names have the same number (expected once in about 10⁹ logs of 10⁵ events).
    """
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    numbers = (np.frombuffer(digests, dtype="<u8") >> np.uint64(1)).astype(np.int64)
    _check_distinct(numbers, names)
    return numbers


def _check_distinct(numbers: Int[np.ndarray, "V"], names: list[str]) -> None:
    if len(np.unique(numbers)) != len(numbers):
        _, where, count = np.unique(numbers, return_index=True, return_counts=True)
        again = names[int(where[count > 1][0])]
        raise input_error(
            f'the name "{again}" and another one hash to the same number',
            column="event_id",
            advice="Number the events instead: whole numbers are kept as they are.",
        )


def _order(
    user: Int[np.ndarray, "R"],
    event: Int[np.ndarray, "R"],
    position: Int[np.ndarray, "R"] | None,
    by_time: Int[np.ndarray, "R"],
) -> Int[np.ndarray, "R"]:
    """Rows by (user, event, position), ties in the order of time."""
    if position is not None:
        return np.lexsort((position, event, user))
    events = int(event.max()) + 1
    # where every row is an event, rows in the order of time are in the order of events
    key = user if events == len(event) else user * events + event
    order: Int[np.ndarray, "R"] = by_time[stable_order(key[by_time])]
    return order


def _items(
    column: pl.Series, by_time: Int[np.ndarray, "R"], table: pl.Series | None
) -> tuple[Int[np.ndarray, "R"], pa.StringArray]:
    codes, names = _number_names(column, by_time)
    if table is not None:
        table_names = table.cast(pl.String).rechunk().to_arrow().cast(pa.string())
        new = names.filter(pc.invert(pc.is_in(names, value_set=table_names)))
        every = pa.concat_arrays([table_names, new])
        codes = pc.index_in(names, value_set=every).to_numpy().astype(np.int64)[codes]
        names = every
    return (codes + FIRST_ITEM).astype(np.int32), names


def _policies(frame: pl.DataFrame, by_time: Int[np.ndarray, "R"]) -> tuple[Int[np.ndarray, "R"], Vocabulary]:
    names = pa.array([""], pa.string())
    if "policy_id" not in frame.columns:
        return np.zeros(frame.height, np.int32), Vocabulary(names=names, first=0, unknown=0)
    codes, policy_names = _number_names(frame["policy_id"].replace("", None), by_time)
    return (codes + 1).astype(np.int32), Vocabulary(names=pa.concat_arrays([names, policy_names]), first=0, unknown=0)


def _logp(frame: pl.DataFrame) -> tuple[Float[np.ndarray, "R"], Bool[np.ndarray, "R"]]:
    if "logp" in frame.columns:
        column = frame["logp"]
    elif "propensity" in frame.columns:
        column = frame["propensity"].log()
    else:
        return np.zeros(frame.height, np.float32), np.zeros(frame.height, np.bool_)
    return column.fill_null(0.0).to_numpy().astype(np.float32), column.is_not_null().to_numpy()


def _session_ends(
    frame: pl.DataFrame, firsts: Int[np.ndarray, "V"], user: Int[np.ndarray, "V"]
) -> Bool[np.ndarray, "V"]:
    ends = np.zeros(len(firsts), np.bool_)
    if "session_id" not in frame.columns:
        return ends
    codes, names = _number_names(frame["session_id"], np.arange(frame.height))
    session = codes[firsts]
    named = np.flatnonzero(session >= 0)
    key = user[named] * max(len(names), 1) + session[named]
    # of the reversed events the first one with a key is its last
    _, last = np.unique(key[::-1], return_index=True)
    ends[named[len(named) - 1 - last]] = True
    return ends


def _uses(
    frame: pl.DataFrame, kind: Kind
) -> tuple[Bool[np.ndarray, "R"], Int[np.ndarray, "R"], Float[np.ndarray, "R"]]:
    """Which rows are uses, when, and what they were worth then; 0 where they are none."""

    def column(name: str, otherwise: str) -> pl.Series:
        return frame[name].fill_null(frame[otherwise]) if name in frame.columns else frame[otherwise]

    if kind == "uses":
        used = np.ones(frame.height, np.bool_)
    elif "used" in frame.columns:
        used = frame["used"].fill_null(value=False).to_numpy()
    else:
        used = (frame["reward"] > 0).to_numpy()
    time, reward = column("used_time", "timestamp").to_numpy(), column("use_reward", "reward").to_numpy()
    return used, np.where(used, time, 0), np.where(used, reward, np.float32(0))


def _context(frame: pl.DataFrame, firsts: Int[np.ndarray, "V"]) -> Float[np.ndarray, "V X"]:
    columns = [column for column in frame.columns if column.startswith(CONTEXT)]
    context = np.zeros((len(firsts), len(columns)), np.float32)
    for index, column in enumerate(columns):
        context[:, index] = frame[column].to_numpy()[firsts]
    return context
