"""Splits of a log into train, validation and test events; within a user, each part precedes the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from slatewise.config import DataConfig, SplitName
from slatewise.config.sections import microseconds
from slatewise.data.manifest import iso
from slatewise.log import Interactions, LogPart
from slatewise.wording import agree, count_of

PartName = Literal["train", "valid", "test"]
SHARED: tuple[SplitName, ...] = ("first_share", "random", "by_time", "by_user")
"""Splits that read valid_share and test_share."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The events that train, validate and test."""

    train: LogPart
    valid: LogPart
    test: LogPart
    notes: tuple[str, ...] = ()
    """Whom the split could not hold out, and what to know of it: one sentence each."""

    def part(self, name: PartName) -> LogPart:
        """The part of that name."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]


def split_log(config: DataConfig, interactions: Interactions, *, clock: bool = True) -> Split:
    """The split that [data] names.

    Args:
        config: its settings; without a name, see `default_split`.
        interactions: the log.
        clock: False where times are only the order of the file.

    Raises:
        ValueError: shares that leave nothing to train on, or moments outside the log.
    """
    name = config.split or default_split(clock=clock)
    if name in SHARED and config.test_from is None and not config.valid_share + config.test_share < 1:
        raise ValueError(
            f"valid_share {config.valid_share} + test_share {config.test_share} must stay below 1: nothing is left to "
            "train on"
        )
    count = np.diff(np.asarray(interactions.user_offsets)).astype(np.int64)
    if name == "leave_one_out":
        split = _leave_one_out(interactions, count)
    elif name == "first_share":
        split = _first_share(interactions, count, config)
    elif name == "random":
        split = _first_share(_shuffle(interactions, count, config, clock=clock), count, config)
    elif name == "by_time":
        split = _by_time(interactions, count, config)
    else:
        split = _by_user(interactions, count, config)
    if config.learn_from is not None:
        if name == "random" or not clock:
            raise ValueError(f'learn_from needs a clock and a split in the order of time, not "{name}"')
        split = replace(split, train=since(split.train, microseconds(config.learn_from)))
    if not clock and name != "random":
        note = f'the log has no clock: "{name}" takes the order of the file for that of time; [data] split = "random"'
        split = replace(split, notes=(*split.notes, note + " does not."))
    return split


def default_split(*, clock: bool) -> SplitName:
    """leave_one_out; random for a log without a clock, whose last event is only the last line of a file."""
    return "leave_one_out" if clock else "random"


def _leave_one_out(interactions: Interactions, count: Int[np.ndarray, "U"]) -> Split:
    """The last event tests, the last but one validates."""
    # users with fewer than three events have none to learn from before the held-out ones
    enough = count >= 3
    notes = _too_few(~enough & (count > 0), "fewer than 3 events: all of theirs train")
    return _prefixes(interactions, np.where(enough, count - 2, count), np.where(enough, count - 1, count), notes)


def _first_share(interactions: Interactions, count: Int[np.ndarray, "U"], config: DataConfig) -> Split:
    """Each user's first events train, the last ones test, those between them validate."""
    train, valid = _share_borders(count, config)
    needed = _fewest(config)
    notes = _too_few((count > 0) & (count < needed), f"fewer than {needed} events: all of theirs train")
    return _prefixes(interactions, train, valid, notes)


def _share_borders(count: Int[np.ndarray, "*U"], config: DataConfig) -> tuple[Int[np.ndarray, "*U"], ...]:
    """Where training and validation end; see `_fewest`.

    A part whose share is not 0 gets one event at least, so that 10 % of 6 events are not none.
    """
    validates, tests = config.valid_share > 0, config.test_share > 0
    train, valid = (
        np.floor(count * (1 - share) + 1e-9).astype(np.int64)
        for share in (config.test_share + config.valid_share, config.test_share)
    )
    train = np.clip(train, 1, np.maximum(count - validates - tests, 1))
    valid = np.clip(valid, train + validates, np.maximum(count - tests, train + validates))
    enough = count >= _fewest(config)
    return np.where(enough, train, count), np.where(enough, valid, count)


def _fewest(config: DataConfig) -> int:
    """Events of the shortest history that is split: one for each part whose share is not 0."""
    return 1 + (config.valid_share > 0) + (config.test_share > 0)


def _shuffle(
    interactions: Interactions, count: Int[np.ndarray, "U"], config: DataConfig, *, clock: bool
) -> Interactions:
    """The log with the events of each user in random order, the held-out ones last.

    Where there is a clock, the events of each part stay in the order of time.
    """
    user = np.repeat(np.arange(len(count)), count)
    order = np.lexsort((np.random.default_rng(config.split_seed).random(len(user)), user))
    if clock:
        rank = np.arange(len(user)) - np.asarray(interactions.user_offsets)[user]
        part = sum((rank >= border[user]).astype(np.int64) for border in _share_borders(count, config))
        order = order[np.lexsort((order, part, user))]
    return interactions.reorder(order)


def _by_time(interactions: Interactions, count: Int[np.ndarray, "U"], config: DataConfig) -> Split:
    """The same two moments for all users."""
    time, offsets = np.asarray(interactions.time), np.asarray(interactions.user_offsets)
    earlier = [np.concatenate([[0], np.cumsum(time < moment)]) for moment in _moments(time, config)]
    train, valid = (total[offsets[1:]] - total[offsets[:-1]] for total in earlier)
    return _prefixes(interactions, train, valid, _newcomer_notes(train, valid, count))


def _newcomer_notes(
    train: Int[np.ndarray, "U"], valid: Int[np.ndarray, "U"], count: Int[np.ndarray, "U"]
) -> tuple[str, ...]:
    """Of how many users the state says nothing, because they have no event before the part."""
    parts = [
        f"{name} {_newcomers(first, last)}" for name, first, last in (("valid", train, valid), ("test", valid, count))
    ]
    if not ((train == 0) & (count > 0)).any():
        return ()
    return (
        f"users without an event before the part: {', '.join(parts)}. They start from the state of an unknown user, "
        "and the metrics are over them, too.",
    )


def _newcomers(first: Int[np.ndarray, "U"], last: Int[np.ndarray, "U"]) -> str:
    evaluated = last > first
    return f"{int((evaluated & (first == 0)).sum()):,} of {int(evaluated.sum()):,}"


def _moments(time: Int[np.ndarray, "V"], config: DataConfig) -> tuple[int, int]:
    """Start of validation and of test, in microseconds since 1970."""
    never = np.iinfo(np.int64).max
    if config.test_from is None:
        ordered = np.sort(time)
        places = [int(border) for border in _share_borders(np.array(len(time)), config)]
        # a moment belongs to the later part: equal times are never torn apart
        valid, test = (int(ordered[place]) if place < len(time) else never for place in places)
        return valid, test
    test = microseconds(config.test_from)
    valid = test if config.valid_from is None else microseconds(config.valid_from)
    if len(time) and not (time.min() < valid and test <= time.max()):
        raise ValueError(
            f"valid_from {config.valid_from}, test_from {config.test_from} leave nothing to train on or nothing to "
            f"test: the log runs from {iso(int(time.min()))} to {iso(int(time.max()))}"
        )
    return valid, test


def _by_user(interactions: Interactions, count: Int[np.ndarray, "U"], config: DataConfig) -> Split:
    """Whole users; a held-out user's first events are history, which nothing learns from, and the rest is evaluated."""
    place = np.random.default_rng(config.split_seed).permutation(len(count))
    train, valid = _share_borders(np.array(len(count)), config)
    trains, tests = place < train, place >= valid
    history = np.floor(count * config.fold_in + 1e-9).astype(np.int64)
    notes: tuple[str, ...] = ("held-out users are evaluated without a history: [data] fold_in = 0.",)
    if config.fold_in > 0:
        history = np.maximum(history, np.minimum(count, 1))
        notes = _too_few(~trains & (count == 1), "a single event, which leaves nothing to evaluate after a history")
    nothing = np.zeros_like(count)
    valid, test = (np.where(chosen, count, history) for chosen in (~trains & ~tests, tests))
    return Split(
        train=LogPart(interactions=interactions, first=nothing, last=np.where(trains, count, 0)),
        valid=LogPart(interactions=interactions, first=history, last=valid),
        test=LogPart(interactions=interactions, first=history, last=test),
        notes=notes,
    )


def since(part: LogPart, moment: int) -> LogPart:
    """The events of a part from a moment on; those before it are history."""
    log = part.interactions
    offsets = np.asarray(log.user_offsets)
    earlier = np.concatenate([[0], np.cumsum(np.asarray(log.time) < moment)])
    first = np.clip(earlier[offsets[1:]] - earlier[offsets[:-1]], part.first, part.last)
    return replace(part, first=first)


def _too_few(users: Bool[np.ndarray, "U"], reason: str) -> tuple[str, ...]:
    number = int(users.sum())
    return (f"{count_of(number, 'user')} {agree(number, 'has', 'have')} {reason}.",) if number else ()


def _prefixes(
    interactions: Interactions, train: Int[np.ndarray, "U"], valid: Int[np.ndarray, "U"], notes: tuple[str, ...]
) -> Split:
    """Of user u's events, 0 … train[u] train, up to valid[u] validate, the rest tests."""
    count = np.diff(np.asarray(interactions.user_offsets)).astype(np.int64)
    borders = [np.zeros_like(train), train, valid, count]
    parts = [LogPart(interactions=interactions, first=first, last=last) for first, last in pairwise(borders)]
    return Split(train=parts[0], valid=parts[1], test=parts[2], notes=notes)
