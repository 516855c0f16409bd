"""The conditions under which logged slates were drawn, made again: what a policy is asked when it is evaluated on them.

The log lists what requests and rules excluded, not what a user had used before: that the log itself says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, PAD, Interactions
from slatewise.logged_requests import ItemLists, LoggedRequests
from slatewise.types import Exploration, SlateRequest, Slates

_NOTHING = np.zeros(0, np.int64)


def slate_request(
    interactions: Interactions,
    events: Int[np.ndarray, "B"],
    *,
    num_rows: int,
    numbers: Int[np.ndarray, "rows"] | None = None,
) -> SlateRequest:
    """The conditions under which the slates of some events were drawn.

    Args:
        interactions: the log.
        events: where the events stand in its columns; all of one group of `like_conditions`.
        num_rows: of the item table of the policy. What its catalog has and the log's had not is not allowed where a
            filter or a mask left a part of the catalog.
        numbers: number of each item of the log in the catalog of a policy; None = they agree.

    Raises:
        InputError: the log does not say under which conditions a slate was drawn.
        ValueError: no event, or events that were served with different k, exploration, or candidates and none.
    """
    requests = _requests_of(interactions, events)
    if len(groups := _groups(requests, events)) != 1:
        raise ValueError(f"{len(events)} events under {len(groups)} conditions; take one group of like_conditions")
    first = int(events[0])
    exploration = None
    if requests.top_m[first]:
        exploration = Exploration(
            top_m=int(requests.top_m[first]),
            keep=int(requests.keep[first]),
            temperature=float(requests.temperature[first]),
        )
    fixed = _lists(requests.fixed, events, numbers)
    exclude = [
        excluded_items(explicit, used, shown)
        for explicit, used, shown in zip(
            _lists(requests.exclude, events, numbers), seen_items(interactions, events, numbers), fixed, strict=True
        )
    ]
    k = int(requests.k[first])
    candidates = _lists(requests.candidates, events, numbers)
    return SlateRequest(
        k=k,
        candidates=_table(candidates) if len(candidates[0]) else None,
        allowed=_part_of_catalog(requests, first, num_rows, numbers),
        exclude=_table(exclude),
        fixed=_table(fixed, k) if any(map(len, fixed)) else None,
        exploration=exploration,
    )


def like_conditions(interactions: Interactions, events: Int[np.ndarray, "B"]) -> list[Int[np.ndarray, "_"]]:
    """Events in groups that one `SlateRequest` describes: the same k, exploration and part of the catalog,
    candidates for all or for none.

    Raises:
        InputError: the log does not say under which conditions a slate was drawn.
    """
    return _groups(_requests_of(interactions, events), events)


def logged_slates(
    interactions: Interactions,
    events: Int[np.ndarray, "B"],
    k: int,
    *,
    numbers: Int[np.ndarray, "rows"] | None = None,
) -> Slates:
    """What was shown with which propensities, item 0 where a slate was shorter than k.

    Args:
        interactions: the log.
        events: where the events stand in its columns.
        k: number of positions.
        numbers: number of each item of the log in the catalog of a policy; None = they agree.
    """
    offsets = np.asarray(interactions.event_offsets)
    start, length = offsets[events], offsets[events + 1] - offsets[events]
    shown = np.arange(k) < length[:, None]
    rows = np.where(shown, start[:, None] + np.arange(k), 0)
    items = _in_numbers(np.where(shown, np.asarray(interactions.item)[rows], PAD).astype(np.int64), numbers)
    logp = np.where(shown, np.asarray(interactions.logp)[rows], np.float32(0))
    return Slates(items=torch.from_numpy(items), logp=torch.from_numpy(logp))


def seen_items(
    interactions: Interactions, events: Int[np.ndarray, "B"], numbers: Int[np.ndarray, "rows"] | None = None
) -> list[Int[np.ndarray, "_"]]:
    """Items whose use had arrived before each event whose request excluded them, each once, ascending.

    Before, that is, in this log: a service whose users start from another one excludes what they used there, too.

    Args:
        interactions: the log.
        events: where the events stand in its columns.
        numbers: number of each item of the log in the catalog of a policy; None = they agree.
    """
    offsets = np.asarray(interactions.user_offsets)
    first = offsets[np.searchsorted(offsets, events, side="right") - 1]
    excludes = np.ones(len(events), np.bool_)
    if interactions.requests is not None:
        excludes = np.asarray(interactions.requests.exclude_seen)[events]
    lists: list[Int[np.ndarray, "_"]] = []
    for start, event, counts in zip(first.tolist(), events.tolist(), excludes.tolist(), strict=True):
        past = slice(*np.asarray(interactions.event_offsets)[[start, event if counts else start]])
        arrived = interactions.used[past] & (interactions.used_time[past] <= interactions.time[event])
        used = _in_numbers(np.asarray(interactions.item[past])[arrived].astype(np.int64), numbers)
        lists.append(np.unique(used[used >= FIRST_ITEM]))
    return lists


def excluded_items(
    explicit: Int[np.ndarray, "X"], used: Int[np.ndarray, "Y"], fixed: Int[np.ndarray, "K"]
) -> Int[np.ndarray, "_"]:
    """Numbers that the policy must not show to one user: excluded items, then seen ones that no position fixes.

    Args:
        explicit: what the request or a rule excludes; unknown items are left out, because nothing can show them.
        used: what the user used before.
        fixed: what positions show for certain.
    """
    return np.concatenate([explicit[explicit >= FIRST_ITEM], np.setdiff1d(used, fixed)])


def _requests_of(interactions: Interactions, events: Int[np.ndarray, "B"]) -> LoggedRequests:
    requests = interactions.requests
    unknown = np.ones(len(events), np.bool_) if requests is None else np.asarray(requests.k)[events] == 0
    if requests is None or unknown.any():
        event = int(np.asarray(interactions.event_id)[events[int(unknown.argmax())]]) if len(events) else 0
        raise input_error(
            f"the log does not say under which conditions the slate of event {event} was drawn",
            advice="Only decisions with k, as `slatewise serve` writes them, can be evaluated as they were asked for.",
        )
    return requests


def _groups(requests: LoggedRequests, events: Int[np.ndarray, "B"]) -> list[Int[np.ndarray, "_"]]:
    listed = np.zeros(len(events), np.int64)
    if requests.candidates is not None:
        offsets = np.asarray(requests.candidates.offsets)
        listed = offsets[events + 1] - offsets[events]
    values = (requests.k, requests.top_m, requests.keep, requests.temperature)
    part = np.zeros(len(events)) if requests.parts is None else np.asarray(requests.parts.part)[events]
    key = np.stack([*(np.asarray(value)[events].astype(np.float64) for value in values), part, listed > 0], axis=1)
    _, group = np.unique(key, axis=0, return_inverse=True)
    return [events[group.ravel() == number] for number in range(int(group.max(initial=-1)) + 1)]


def _part_of_catalog(
    requests: LoggedRequests, event: int, num_rows: int, numbers: Int[np.ndarray, "rows"] | None
) -> Bool[Tensor, " N"] | None:
    """The part of the catalog that an event's slate was chosen from, in the numbers of the policy; None = all of it."""
    if requests.parts is None or not int(requests.parts.part[event]):
        return None
    part = int(requests.parts.part[event])
    if numbers is None:
        return torch.from_numpy(requests.parts.of(part, num_rows))
    allowed = torch.zeros(num_rows, dtype=torch.bool)
    allowed[torch.from_numpy(numbers[requests.parts.of(part, len(numbers))])] = True
    allowed[:FIRST_ITEM] = False
    return allowed


def _lists(
    lists: ItemLists | None, events: Int[np.ndarray, "B"], numbers: Int[np.ndarray, "rows"] | None
) -> list[Int[np.ndarray, "_"]]:
    if lists is None:
        return [_NOTHING] * len(events)
    return [_in_numbers(lists.of(event).astype(np.int64), numbers) for event in events.tolist()]


def _in_numbers(items: Int[np.ndarray, "*A"], numbers: Int[np.ndarray, "rows"] | None) -> Int[np.ndarray, "*A"]:
    return items if numbers is None else numbers[items]


def _table(lists: Sequence[Int[np.ndarray, "_"]], width: int | None = None) -> Int[Tensor, "B X"]:
    """Lists side by side, 0-padded to the longest or to a width."""
    columns = max(map(len, lists)) if width is None else width
    table = np.full((len(lists), columns), PAD, np.int64)
    for row, items in enumerate(lists):
        table[row, : len(items)] = items
    return torch.from_numpy(table)
