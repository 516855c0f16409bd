"""The columns of two logs in the same numbers as those of one."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from jaxtyping import Int

from slatewise.log import Interactions
from slatewise.logged_requests import CatalogParts, ItemLists, LoggedRequests


def user_of_event(log: Interactions) -> Int[np.ndarray, "V"]:
    """Whose each event is."""
    return np.repeat(np.arange(log.num_users), np.diff(np.asarray(log.user_offsets)))


def is_numbered(log: Interactions) -> bool:
    """True where the log had no names of events, and the import numbered its rows."""
    return log.slate_size == 1 and np.array_equal(np.sort(np.asarray(log.event_id)), np.arange(log.num_events))


def join(
    ours: Interactions,
    theirs: Interactions,
    new_events: Int[np.ndarray, "W"],
    their_user: Int[np.ndarray, "V"],
    *,
    num_users: int,
) -> Interactions:
    """All events of the first and some of the second, by user and time."""
    user = np.concatenate([user_of_event(ours), their_user[new_events]])
    event = np.concatenate([np.arange(ours.num_events), ours.num_events + new_events])
    both = _stack(ours, theirs)
    order = np.lexsort((np.asarray(both.time)[event], user))
    offsets = np.searchsorted(user[order], np.arange(num_users + 1)).astype(np.int64)
    return replace(both.take(event[order]), user_offsets=offsets)


def _stack(ours: Interactions, theirs: Interactions) -> Interactions:
    """The events of both, those of the second after those of the first, whoever's they are."""
    columns = {
        column.name: np.concatenate([getattr(ours, column.name), getattr(theirs, column.name)])
        for column in fields(Interactions)
        if column.name not in ("user_offsets", "event_offsets", "requests", "user_features")
    }
    requests = None
    if ours.requests is not None or theirs.requests is not None:
        requests = _stack_requests(_requests(ours), _requests(theirs))
    return Interactions(
        user_offsets=np.array([0, ours.num_events + theirs.num_events]),
        event_offsets=_stack_offsets(np.asarray(ours.event_offsets), np.asarray(theirs.event_offsets)),
        requests=requests,
        **columns,
    )


def _stack_offsets(first: Int[np.ndarray, "V1"], second: Int[np.ndarray, "W1"]) -> Int[np.ndarray, "X1"]:
    return np.concatenate([first, first[-1] + second[1:]])


def _stack_requests(first: LoggedRequests, second: LoggedRequests) -> LoggedRequests:
    def stack(name: str) -> ItemLists | None:
        if getattr(first, name) is None and getattr(second, name) is None:
            return None
        head, tail = (getattr(requests, name) or _empty_lists(len(requests.k)) for requests in (first, second))
        return ItemLists(
            offsets=_stack_offsets(np.asarray(head.offsets), np.asarray(tail.offsets)),
            item=np.concatenate([head.item, tail.item]),
        )

    def stack_parts() -> CatalogParts | None:
        if first.parts is None and second.parts is None:
            return None
        head, tail = (requests.parts or _whole_catalogs(len(requests.k)) for requests in (first, second))
        width = max(head.bits.shape[1], tail.bits.shape[1])
        bits = [np.pad(parts.bits, ((0, 0), (0, width - parts.bits.shape[1]))) for parts in (head, tail)]
        shifted = np.where(np.asarray(tail.part) > 0, np.asarray(tail.part) + len(head.bits), 0)
        return CatalogParts(part=np.concatenate([head.part, shifted]).astype(np.int32), bits=np.concatenate(bits))

    names = ("k", "top_m", "keep", "temperature", "exclude_seen", "catalog")
    scalars = {name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in names}
    return LoggedRequests(
        **scalars,
        exclude=stack("exclude"),
        candidates=stack("candidates"),
        fixed=stack("fixed"),
        parts=stack_parts(),
    )


def _empty_lists(events: int) -> ItemLists:
    return ItemLists(offsets=np.zeros(events + 1, np.int64), item=np.zeros(0, np.int32))


def renumber_parts(parts: CatalogParts | None, number: Int[np.ndarray, "rows"]) -> CatalogParts | None:
    """Parts of a catalog in other item numbers: number i becomes ``number[i]``."""
    if parts is None:
        return None
    inside = np.zeros((len(parts.bits), int(number.max(initial=0)) + 1), np.bool_)
    for place, row in enumerate(inside, start=1):
        row[number[parts.of(place, len(number))]] = True
    return replace(parts, bits=np.packbits(inside, axis=1))


def _whole_catalogs(events: int) -> CatalogParts:
    return CatalogParts(part=np.zeros(events, np.int32), bits=np.zeros((0, 0), np.uint8))


def _requests(log: Interactions) -> LoggedRequests:
    """The conditions of a log's events; of one that says nothing, conditions that say nothing."""
    nothing = np.zeros(log.num_events, np.int32)
    return log.requests or LoggedRequests(
        k=nothing,
        top_m=nothing,
        keep=nothing,
        temperature=np.ones(log.num_events),
        exclude_seen=nothing.astype(np.bool_),
        catalog=nothing,
    )
