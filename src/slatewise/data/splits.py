"""Splits of a log into train, validation and test events; within a user, each split precedes the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int

from slatewise.config import DataConfig, SplitName
from slatewise.log import Interactions, LogPart

PartName = Literal["train", "valid", "test"]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Of user u's events, 0 … train_end[u] train, up to valid_end[u] validate, up to test_end[u] test."""

    interactions: Interactions
    train_end: Int[np.ndarray, "U"]
    valid_end: Int[np.ndarray, "U"]
    test_end: Int[np.ndarray, "U"]

    def part(self, name: PartName) -> LogPart:
        """The events that train, validate or test."""
        first, last = {
            "train": (np.zeros_like(self.train_end), self.train_end),
            "valid": (self.train_end, self.valid_end),
            "test": (self.valid_end, self.test_end),
        }[name]
        return LogPart(interactions=self.interactions, first=first, last=last)


def make(
    name: SplitName,
    interactions: Interactions,
    *,
    valid_share: float = 0.1,
    test_share: float = 0.2,
    seed: int = 0,
) -> Split:
    """The split of that name.

    Args:
        name: leave_one_out: the last event tests, the last but one validates; first_share: each user's first
            1 − test_share trains (its end validates); by_time: the same at two moments for all users; by_user: whole
            users.
        interactions: the log.
        valid_share: share of the events (users) that validate; not read by leave_one_out.
        test_share: share of the events (users) that test; not read by leave_one_out.
        seed: of the order of users in by_user.

    Raises:
        ValueError: shares that leave nothing to train on.
    """
    if name != "leave_one_out" and not (valid_share >= 0 and test_share >= 0 and valid_share + test_share < 1):
        raise ValueError(f"valid_share {valid_share} + test_share {test_share} must stay below 1")
    count = np.diff(np.asarray(interactions.user_offsets)).astype(np.int64)
    if name == "leave_one_out":
        # users with fewer than three events have none to learn from before the held-out ones: all of theirs train
        enough = count >= 3
        return Split(
            interactions=interactions,
            train_end=np.where(enough, count - 2, count),
            valid_end=np.where(enough, count - 1, count),
            test_end=count,
        )
    if name == "first_share":
        return Split(
            interactions=interactions,
            train_end=np.floor(count * (1 - test_share - valid_share) + 1e-9).astype(np.int64),
            valid_end=np.floor(count * (1 - test_share) + 1e-9).astype(np.int64),
            test_end=count,
        )
    if name == "by_time":
        return _by_time(interactions, count, valid_share, test_share)
    return _by_user(interactions, count, valid_share, test_share, seed)


def split_log(config: DataConfig, interactions: Interactions) -> Split:
    """The split that [data] names.

    Raises:
        ValueError: shares that leave nothing to train on.
    """
    return make(
        config.split,
        interactions,
        valid_share=config.valid_share,
        test_share=config.test_share,
        seed=config.split_seed,
    )


def _by_time(interactions: Interactions, count: Int[np.ndarray, "U"], valid: float, test: float) -> Split:
    time = np.asarray(interactions.time)
    ordered = np.sort(time)
    places = [_whole(len(time) * (1 - test - valid)), _whole(len(time) * (1 - test))]
    # a moment belongs to the later part: equal times are never torn apart
    parts = [time < ordered[place] if place < len(time) else np.ones(len(time), np.bool_) for place in places]
    earlier = [np.concatenate([[0], np.cumsum(part)]) for part in parts]
    offsets = np.asarray(interactions.user_offsets)
    train_end, valid_end = (total[offsets[1:]] - total[offsets[:-1]] for total in earlier)
    return Split(interactions=interactions, train_end=train_end, valid_end=valid_end, test_end=count)


def _by_user(interactions: Interactions, count: Int[np.ndarray, "U"], valid: float, test: float, seed: int) -> Split:
    place = np.random.default_rng(seed).permutation(len(count))
    trains = place < _whole(len(count) * (1 - test - valid))
    tests = place >= _whole(len(count) * (1 - test))
    return Split(
        interactions=interactions,
        train_end=np.where(trains, count, 0),
        valid_end=np.where(tests, 0, count),
        test_end=count,
    )


def _whole(share: float) -> int:
    """Rounded down, but not because a share like .7 has no exact binary form."""
    return int(share + 1e-9)
