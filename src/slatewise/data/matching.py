"""Events of one log that another has already, and outcomes that belong to its slates."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from slatewise.data.joining import is_numbered, user_of_event
from slatewise.log import Interactions

LateOutcome = tuple[int, int, int]
"""Number of the event, of the item, and time of an outcome that came after its slate was written."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """What two logs whose events have names have in common."""

    ours: Interactions
    """The first log with what the second knows more of its slates."""
    is_new: Bool[np.ndarray, " W"]
    """Events of the second that the first does not have."""
    duplicates: int
    """Events that it has."""
    late_outcomes: int
    """Outcomes of its slates that it did not have."""
    set_aside: int
    """Events that contradict it: another user's, another slate, or an item that the slate does not show."""
    counted: frozenset[LateOutcome]
    """Late outcomes of items that were used already; nothing else tells that they were counted."""


def match_logs(
    ours: Interactions,
    theirs: Interactions,
    their_user: Int[np.ndarray, " W"],
    *,
    counted: frozenset[LateOutcome],
    clock: bool,
) -> tuple[Interactions, Match]:
    """The second log with numbers of events that are free in the first, and what the two have in common.

    Args:
        ours: the first log.
        theirs: the second one.
        their_user: whose each of its events is.
        counted: late outcomes that the first log has counted.
        clock: False where times are only the order of the rows; the second log comes after the first then.
    """
    if is_numbered(theirs) or is_numbered(ours):
        is_new = ~_duplicate_rows(ours, theirs, their_user, clock=clock)
        if is_numbered(theirs):
            numbers = np.zeros(theirs.num_events, np.int64)
            numbers[is_new] = _free_numbers(ours.event_id, int(is_new.sum()))
            theirs = replace(theirs, event_id=numbers)
        else:
            ours = replace(ours, event_id=_free_numbers(theirs.event_id, ours.num_events))
        num_old = len(is_new) - int(is_new.sum())
        match = Match(ours=ours, is_new=is_new, duplicates=num_old, late_outcomes=0, set_aside=0, counted=counted)
    else:
        match = _match_events(ours, theirs, their_user, counted=counted, clock=clock)
    return theirs if clock else _behind(ours, theirs), match


def _free_numbers(numbers: Int[np.ndarray, "V"], count: int) -> Int[np.ndarray, "W"]:
    """The smallest numbers of events that are free, ascending."""
    return np.setdiff1d(np.arange(len(numbers) + count), np.asarray(numbers))[:count]


def _duplicate_rows(
    ours: Interactions, theirs: Interactions, their_user: Int[np.ndarray, " W"], *, clock: bool
) -> Bool[np.ndarray, " W"]:
    """Events of one row that the first log has: the same user, time, item and reward, as often as it has them.

    Args:
        ours: the first log.
        theirs: the second one.
        their_user: whose each of its events is.
        clock: False where times are only the order of the rows, which says nothing across logs.
    """

    def rows(log: Interactions, user: Int[np.ndarray, " V"]) -> pl.DataFrame:
        single = np.flatnonzero(np.diff(np.asarray(log.event_offsets)) == 1)
        row = np.asarray(log.event_offsets)[single]
        frame = pl.DataFrame(
            {
                "event": single,
                "user": user[single],
                "time": np.asarray(log.time)[single] * clock,
                "item": np.asarray(log.item)[row],
                "reward": np.asarray(log.reward)[row],
            }
        )
        return frame.with_columns(again=pl.int_range(pl.len()).over("user", "time", "item", "reward"))

    keys = ["user", "time", "item", "reward", "again"]
    duplicates = rows(theirs, their_user).join(rows(ours, user_of_event(ours)), on=keys, how="semi")
    result = np.zeros(theirs.num_events, np.bool_)
    result[duplicates["event"].to_numpy()] = True
    return result


def _behind(ours: Interactions, theirs: Interactions) -> Interactions:
    """The second of two logs without a clock, in the order of the rows after the first."""
    shift = np.int64(np.max(ours.time, initial=-1) + 1_000_000 - np.min(theirs.time, initial=0))
    used_time = np.where(np.asarray(theirs.used), np.asarray(theirs.used_time) + shift, theirs.used_time)
    return replace(theirs, time=np.asarray(theirs.time) + shift, used_time=used_time)


def _match_events(
    ours: Interactions,
    theirs: Interactions,
    their_user: Int[np.ndarray, " W"],
    *,
    counted: Collection[LateOutcome],
    clock: bool,
) -> Match:
    """Match events by their numbers, and give the slates of the first log the outcomes that only the second knows.

    Args:
        ours: the first log.
        theirs: the second one.
        their_user: whose each of its events is.
        counted: late outcomes that the first log has counted.
        clock: False where times are only the order of the rows.
    """
    order = np.argsort(np.asarray(ours.event_id), kind="stable")
    sorted_ids = np.asarray(ours.event_id)[order]
    inside = np.minimum(np.searchsorted(sorted_ids, theirs.event_id), max(len(order) - 1, 0))
    named = sorted_ids[inside] == theirs.event_id if len(order) else np.zeros(theirs.num_events, np.bool_)
    twin = np.flatnonzero(named)
    event = order[inside[twin]] if len(order) else inside[twin]
    is_others = user_of_event(ours)[event] != their_user[twin]
    is_late = _is_outcome(theirs, twin) & ~_is_outcome(ours, event) & ~is_others
    start = np.asarray(theirs.event_offsets)[twin]
    row = _row_of_item(ours, event[is_late], np.asarray(theirs.item)[start[is_late]])
    their_row = start[is_late]
    shown = row >= 0
    late = shown & ~_is_counted(ours, theirs, row, their_row, event=event[is_late], counted=counted)
    changed = _with_outcomes(ours, row[late], theirs, their_row[late])
    whole = ~is_late & ~is_others
    is_same = _same_slates(ours, theirs, event[whole], twin[whole], clock=clock)
    changed, num_updates = _with_updates(changed, theirs, event[whole][is_same], twin[whole][is_same])
    used = np.asarray(ours.used)[row[late]]
    return Match(
        ours=changed,
        is_new=~named,
        duplicates=int(is_same.sum()) + int((shown & ~late).sum()),
        late_outcomes=int(late.sum()) + num_updates,
        set_aside=int(is_others.sum()) + int((~is_same).sum()) + int((~shown).sum()),
        counted=frozenset(counted).union(_keys(ours, theirs, event[is_late][late][used], their_row[late][used])),
    )


def _is_outcome(log: Interactions, event: Int[np.ndarray, " P"]) -> Bool[np.ndarray, " P"]:
    """Whether events are read from an outcome without its slate: one row, used, of no policy, without a propensity."""
    start = np.asarray(log.event_offsets)[event]
    alone = (np.asarray(log.event_offsets)[event + 1] - start == 1) & np.asarray(log.used)[start]
    result: Bool[np.ndarray, " P"] = (
        alone & (np.asarray(log.policy_id)[event] == 0) & ~np.asarray(log.logp_known)[start]
    )
    return result


def _keys(
    ours: Interactions, theirs: Interactions, event: Int[np.ndarray, " P"], their_row: Int[np.ndarray, " P"]
) -> list[LateOutcome]:
    """What tells late outcomes of some of our events from each other."""
    columns = (
        np.asarray(ours.event_id)[event],
        np.asarray(theirs.item)[their_row],
        np.asarray(theirs.used_time)[their_row],
    )
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _is_counted(
    ours: Interactions,
    theirs: Interactions,
    row: Int[np.ndarray, " P"],
    their_row: Int[np.ndarray, " P"],
    *,
    event: Int[np.ndarray, " P"],
    counted: Collection[LateOutcome],
) -> Bool[np.ndarray, " P"]:
    """Whether the first log has late outcomes already: as the use of their row, or beside an earlier one.

    Args:
        ours: the first log.
        theirs: the second one.
        row: of the first log; negative where its slate does not show the item.
        their_row: of the second log.
        event: of the first log, to which each outcome belongs.
        counted: late outcomes of used items that the first log has counted.
    """
    used, time, reward = (np.asarray(column)[row] for column in (ours.used, ours.used_time, ours.use_reward))
    is_use = used & (time == np.asarray(theirs.used_time)[their_row])
    is_use &= reward == np.asarray(theirs.use_reward)[their_row]
    is_beside = np.array([key in counted for key in _keys(ours, theirs, event, their_row)], np.bool_)
    return (is_use | is_beside) if len(row) else np.zeros(0, np.bool_)


def _rows(
    ours: Interactions, theirs: Interactions, event: Int[np.ndarray, " P"], twin: Int[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"], Int[np.ndarray, " P"]]:
    """The rows of pairs of events as long as each other, in both logs, and where each pair begins."""
    start, their_start = np.asarray(ours.event_offsets)[event], np.asarray(theirs.event_offsets)[twin]
    size = np.asarray(ours.event_offsets)[event + 1] - start
    first = np.cumsum(size) - size
    position = np.arange(int(size.sum())) - np.repeat(first, size)
    return np.repeat(start, size) + position, np.repeat(their_start, size) + position, first


def _same_slates(
    ours: Interactions, theirs: Interactions, event: Int[np.ndarray, " P"], twin: Int[np.ndarray, " P"], *, clock: bool
) -> Bool[np.ndarray, " P"]:
    """Whether pairs of events show the same items at the same time."""
    size, their_size = (np.diff(np.asarray(log.event_offsets))[index] for log, index in ((ours, event), (theirs, twin)))
    same: Bool[np.ndarray, " P"] = np.asarray(size == their_size, np.bool_)
    if clock:
        same &= np.asarray(ours.time)[event] == np.asarray(theirs.time)[twin]
    row, their_row, first = _rows(ours, theirs, event[same], twin[same])
    equal = np.asarray(ours.item)[row] == np.asarray(theirs.item)[their_row]
    if len(first):
        same[same] = np.logical_and.reduceat(equal, first)
    return same


def _with_updates(
    ours: Interactions, theirs: Interactions, event: Int[np.ndarray, " P"], twin: Int[np.ndarray, " P"]
) -> tuple[Interactions, int]:
    """The first log with what the same slates of the second have more of, and in how many rows that is.

    A used item is more than an unused one; of two rewards after the same first use the larger one has more outcomes.
    """
    row, their_row, _ = _rows(ours, theirs, event, twin)
    used, their_used = np.asarray(ours.used)[row], np.asarray(theirs.used)[their_row]
    same_use = (used == their_used) & (np.asarray(ours.used_time)[row] == np.asarray(theirs.used_time)[their_row])
    is_larger = np.abs(np.asarray(theirs.reward)[their_row]) > np.abs(np.asarray(ours.reward)[row])
    is_update = (their_used & ~used) | (same_use & is_larger)
    if not is_update.any():
        return ours, 0
    place, source = row[is_update], their_row[is_update]

    def with_theirs(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        result = np.array(values)
        result[place] = np.asarray(others)[source]
        return result

    changed = replace(
        ours,
        reward=with_theirs(ours.reward, theirs.reward),
        used=with_theirs(ours.used, theirs.used),
        used_time=with_theirs(ours.used_time, theirs.used_time),
        use_reward=with_theirs(ours.use_reward, theirs.use_reward),
    )
    return changed, int(is_update.sum())


def _row_of_item(log: Interactions, event: Int[np.ndarray, "W"], item: Int[np.ndarray, "W"]) -> Int[np.ndarray, "W"]:
    """Where in the log each event shows an item; −1 where it does not."""
    offsets = np.asarray(log.event_offsets)
    rows = np.full(len(event), -1, np.int64)
    for position in range(log.slate_size):
        row = offsets[event] + position
        inside = row < offsets[event + 1]
        shows = inside & (np.asarray(log.item)[np.where(inside, row, 0)] == item) & (rows < 0)
        rows[shows] = row[shows]
    return rows


def _with_outcomes(
    log: Interactions, row: Int[np.ndarray, "W"], theirs: Interactions, their_row: Int[np.ndarray, "W"]
) -> Interactions:
    """The log after further outcomes of some rows: rewards add up, the first use counts."""
    if not len(row):
        return log
    reward, used = np.array(log.reward), np.array(log.used)
    used_time, use_reward = np.array(log.used_time), np.array(log.use_reward)
    np.add.at(reward, row, np.asarray(theirs.reward)[their_row])
    # of several for one row the earliest is its use: assigned last
    order = np.argsort(-np.asarray(theirs.used_time)[their_row], kind="stable")
    order = order[~used[row[order]]]
    used_time[row[order]] = np.asarray(theirs.used_time)[their_row[order]]
    use_reward[row[order]] = np.asarray(theirs.use_reward)[their_row[order]]
    used[row] = True
    return replace(log, reward=reward, used=used, used_time=used_time, use_reward=use_reward)
