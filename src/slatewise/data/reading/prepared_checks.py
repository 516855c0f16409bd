"""Checks of a prepared data set: its files, its arrays, and the log that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool

from slatewise.data import prepared
from slatewise.data.reading.account import missing_names
from slatewise.data.reading.log_checks import EXAMPLES, Check, check_of, log_checks
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, PAD, Interactions
from slatewise.logged_requests import LoggedRequests
from slatewise.wording import count_of


def check_prepared(path: Path) -> list[Check]:
    """Every check of a prepared data set, including those that passed; reads all of it."""
    name = "the data set can be read"
    try:
        data = prepared.load(path, verify=False)
        changed = prepared.changed_files(path)
    except InputError as error:
        return [check_of(name, [str(error)], stops=True)]
    files = check_of(
        "every file is unchanged",
        changed,
        advice="Import the log again: metrics computed from this copy cannot be trusted.",
        stops=True,
    )
    log = data.interactions
    numbers = _numbers(log, data.catalog.num_rows)
    numbers += _conditions(log.requests, data.catalog.num_rows)
    checks = [check_of(name, []), files, *numbers]
    if not all(check.passed for check in numbers):
        return checks
    return [*checks, _missing_names(data), *_log(data)]


def _numbers(log: Interactions, num_rows: int) -> list[Check]:
    offsets = [np.asarray(log.user_offsets), np.asarray(log.event_offsets)]
    descending = [
        name
        for name, values in zip(("user_offsets", "event_offsets"), offsets, strict=True)
        if len(values) == 0 or values[0] != 0 or np.any(np.diff(values) < 0)
    ]
    if descending:
        return [check_of("offsets are ascending from 0", descending, stops=True)]
    sizes = np.diff(offsets[1])
    user = np.repeat(np.arange(log.num_users), np.diff(offsets[0]))
    time, item, logp = (np.asarray(each) for each in (log.time, log.item, log.logp))
    used, used_time, use_reward = (np.asarray(each) for each in (log.used, log.used_time, log.use_reward))
    logp_known = np.asarray(log.logp_known)
    older = np.zeros(log.num_events, np.bool_)
    older[1:] = (np.diff(time) < 0) & (user[1:] == user[:-1])
    finite = np.isfinite(log.reward) & np.isfinite(log.cost)
    return [
        check_of("offsets are ascending from 0", []),
        _of("every event has rows", sizes < 1, "event"),
        _of("events of a user are in order of time", older, "event"),
        _of("contexts are finite numbers", ~np.isfinite(log.context).all(axis=1), "event"),
        _of("every item is in the catalog", (item < FIRST_ITEM) | (item >= num_rows), "row"),
        _of("rewards and costs are finite numbers", ~finite, "row"),
        _of("no use is before its event", used & (used_time < np.repeat(time, sizes)), "row"),
        _of("uses have finite rewards", ~np.isfinite(use_reward), "row"),
        _of("only uses have times and rewards of use", ~used & ((used_time != 0) | (use_reward != 0)), "row"),
        _of("propensities lie in (0, 1]", ~np.isfinite(logp) | (logp > 0) | (~logp_known & (logp != 0)), "row"),
    ]


def _conditions(requests: LoggedRequests | None, num_rows: int) -> list[Check]:
    if requests is None:
        return []
    checks = [
        _of(
            "k, top_m and keep are 0 or more",
            (requests.k < 0) | (requests.top_m < 0) | (requests.keep < 0),
            "event",
        ),
        _of("temperatures are above 0", ~(np.asarray(requests.temperature) > 0), "event"),
    ]
    if requests.parts is not None:
        part = np.asarray(requests.parts.part)
        outside = (part < 0) | (part > len(requests.parts.bits))
        checks.append(_of("parts of the catalog are those that there are", outside, "event"))
    for role, lists in (
        ("excluded", requests.exclude),
        ("candidate", requests.candidates),
        ("fixed", requests.fixed),
    ):
        if lists is not None:
            offsets, item = np.asarray(lists.offsets), np.asarray(lists.item)
            first = PAD if role == "fixed" else FIRST_ITEM
            outside = (item < first) | (item >= num_rows) | ((item > PAD) & (item < FIRST_ITEM))
            descending = np.diff(offsets) < 0
            if len(offsets) and offsets[0] != 0:
                descending[0] = True
            checks += [
                _of(f"offsets of {role} items ascend from 0", descending, "event"),
                _of(f"every {role} item is in the catalog", outside, "entry"),
            ]
    return checks


def _of(name: str, bad: Bool[np.ndarray, "N"], thing: str) -> Check:
    rows = np.flatnonzero(bad)
    examples = [f"{thing} {int(row):,}" for row in rows[:EXAMPLES]]
    return check_of(name, examples, count=len(rows), advice="Import the log again.", stops=True)


def _log(data: prepared.Dataset) -> list[Check]:
    log = data.interactions
    event = np.repeat(np.arange(log.num_events), np.diff(log.event_offsets))
    user = np.repeat(np.arange(log.num_users), np.diff(log.user_offsets))[event]
    frame = pl.DataFrame(
        {
            "user_id": user,
            "item_id": np.asarray(log.item),
            "timestamp": np.asarray(log.time)[event],
            "reward": np.asarray(log.reward),
        }
    )
    if data.kind == "impressions":
        position = np.arange(log.num_rows) - np.asarray(log.event_offsets)[event]
        frame = frame.with_columns(event_id=pl.Series(event), position=pl.Series(position))

    def place(row: int) -> str:
        return f'event {int(log.event_id[event[row]])} of user "{data.users.name(int(user[row]))}"'

    columns = data.manifest.source.get("columns", {"reward": ""})
    priced = isinstance(columns, Mapping) and "reward" in columns
    return log_checks(frame, place, priced=priced, clock=data.clock)


def _missing_names(data: prepared.Dataset) -> Check:
    log = data.interactions
    rows_of_user = np.diff(np.asarray(log.event_offsets)[np.asarray(log.user_offsets)])
    rows_of_item = np.bincount(np.asarray(log.item) - FIRST_ITEM, minlength=data.catalog.num_items)
    names = missing_names("user", data.users.names, rows_of_user)
    names |= missing_names("item", data.catalog.vocabulary.names, rows_of_item)
    return check_of(
        "no name looks like a missing value",
        [f"{name}: {count_of(count, 'row')}" for name, count in names.items()],
        advice="Import the log with --set-aside-missing to leave these rows out.",
    )
