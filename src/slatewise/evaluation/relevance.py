"""What the users of a part have to find: the items that they used there, without those that must not be recommended.

The rules stand in docs/guides/evaluation.md. Everything is a flat table of (user, item), sorted, in memory linear in
the uses: one user with thousands of them costs no more than many users with a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.config import EvaluateConfig
from slatewise.log import FIRST_ITEM, Interactions, LogPart
from slatewise.wording import agree, count_of

BLOCK = 4096
"""Users whose items are counted at a time."""


@dataclass(frozen=True, kw_only=True)
class HeldOutItems:
    """Items that B users used in a part, each once; sorted by user, then by item."""

    row: Int[np.ndarray, "P"]
    """Which of the B users."""
    item: Int[np.ndarray, "P"]
    reward: Float[np.ndarray, "P"]
    """The largest that came of the item."""
    repeat: Bool[np.ndarray, "P"]
    """The user had used the item before the part."""

    def those(self, among: Bool[np.ndarray, "P"]) -> HeldOutItems:
        """Only the marked ones."""
        return HeldOutItems(
            row=self.row[among], item=self.item[among], reward=self.reward[among], repeat=self.repeat[among]
        )

    def relevant(self, config: EvaluateConfig) -> HeldOutItems:
        """Those that a list should hold: repeats only where lists may hold them."""
        return self.those(~self.repeat) if config.exclude_seen else self

    def select_liked(self, config: EvaluateConfig) -> HeldOutItems:
        """The relevant ones with a reward of at least `liked_at_least`; none where that is not set."""
        least = np.inf if config.liked_at_least is None else config.liked_at_least
        relevant = self.relevant(config)
        return relevant.those(relevant.reward >= least)

    def hits(self, items: Int[Tensor, "B K"]) -> Bool[Tensor, "B K"]:
        """True where the lists of the users hold one of their items."""
        lists = items.numpy()
        if not len(self.item):
            return torch.zeros(lists.shape, dtype=torch.bool)
        base = 1 + max(int(self.item.max()), int(lists.max(initial=0)))
        keys, shown = self.row * base + self.item, np.arange(len(lists))[:, None] * base + lists
        place = np.minimum(np.searchsorted(keys, shown), len(keys) - 1)
        return torch.from_numpy(keys[place] == shown)

    def per_user(self, users: int) -> Int[Tensor, "B"]:
        """How many of them each of B users has."""
        return torch.from_numpy(np.bincount(self.row, minlength=users))


def held_out_items(
    interactions: Interactions, user: Int[np.ndarray, "B"], first: Int[np.ndarray, "B"], last: Int[np.ndarray, "B"]
) -> HeldOutItems:
    """Items that were used of the users' events first … last − 1, and which of them had been used before.

    Args:
        interactions: the log.
        user: users.
        first: event of each user with which the part begins.
        last: event after the part's last.
    """
    row, used = _used_rows(interactions, user, first, last)
    item, reward = np.asarray(interactions.item[used]).astype(np.int64), np.asarray(interactions.reward[used])
    order = np.lexsort((reward, item, row))
    row, item, reward = row[order], item[order], reward[order]
    # of the uses of an item the one with the largest reward comes last
    final = np.diff(row, append=-1).astype(bool) | np.diff(item, append=-1).astype(bool)
    final &= item >= FIRST_ITEM
    row, item, reward = row[final], item[final], reward[final]
    seen_row, seen_item = seen_items(interactions, user, first)
    base = 1 + max(int(item.max(initial=0)), int(seen_item.max(initial=0)))
    repeat = np.isin(row * base + item, seen_row * base + seen_item)
    return HeldOutItems(row=row, item=item, reward=reward, repeat=repeat)


def seen_items(
    interactions: Interactions, user: Int[np.ndarray, "B"], event: Int[np.ndarray, "B"]
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Which of the users, and which items they had used when an event was decided on: each once, sorted.

    A use counts from its arrival on: one that arrived after the decision had not been seen by it.
    """
    row, used = _used_rows(interactions, user, np.zeros_like(event), event)
    offsets = np.asarray(interactions.user_offsets)
    following = offsets[user] + event
    ends = following == offsets[user + 1]
    moment = np.asarray(interactions.time[np.where(ends, 0, following)]) if interactions.num_events else event
    moment = np.where(ends, np.iinfo(np.int64).max, moment)
    item = np.asarray(interactions.item[used]).astype(np.int64)
    real = (np.asarray(interactions.used_time[used]) <= moment[row]) & (item >= FIRST_ITEM)
    base = 1 + int(item.max(initial=0))
    key = np.unique(row[real] * base + item[real])
    return key // base, key % base


def pad_by_row(row: Int[np.ndarray, "P"], values: np.ndarray, users: int) -> Tensor:
    """Values of B users, sorted by user, as one row a user, filled up with 0.

    Args:
        row: user of each value.
        values: the values.
        users: B.
    """
    number = np.bincount(row, minlength=users)
    place = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
    table = np.zeros((users, int(number.max(initial=0))), values.dtype)
    table[row, place] = values
    return torch.from_numpy(table)


def used_items(
    interactions: Interactions, user: Int[np.ndarray, "B"], first: Int[np.ndarray, "B"], last: Int[np.ndarray, "B"]
) -> tuple[Int[Tensor, "B X"], Float[Tensor, "B X"]]:
    """Items that were used of some of the users' events, in the order of the log, and their rewards; 0-padded."""
    row, used = _used_rows(interactions, user, first, last)
    item, reward = np.asarray(interactions.item[used]).astype(np.int64), np.asarray(interactions.reward[used])
    return pad_by_row(row, item, len(user)), pad_by_row(row, reward, len(user))


def _used_rows(
    interactions: Interactions, user: Int[np.ndarray, "B"], first: Int[np.ndarray, "B"], last: Int[np.ndarray, "B"]
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """Which of the users, and the row of the log, of every item used in their events first … last − 1."""
    offsets, events = np.asarray(interactions.user_offsets), np.asarray(interactions.event_offsets)
    start, stop = events[offsets[user] + first], events[offsets[user] + last]
    number = stop - start
    row = np.repeat(np.arange(len(user)), number)
    place = np.arange(len(row)) + np.repeat(start - np.cumsum(number) + number, number)
    used = np.asarray(interactions.used[place])
    return row[used], place[used]


@dataclass(frozen=True, kw_only=True)
class Relevance:
    """How many items each of U users used in a part, and how many of them a list should hold."""

    used: Int[Tensor, "U"]
    """Different ones."""
    repeats: Int[Tensor, "U"]
    """Of them, used before the part."""
    relevant: Int[Tensor, "U"]
    """Of the used ones, those that a list should hold: without the repeats, where these are excluded."""
    liked: Int[Tensor, "U"]
    """Of the relevant ones, those with a reward of at least `liked_at_least`."""

    @classmethod
    def of(cls, items: HeldOutItems, users: int, config: EvaluateConfig) -> Relevance:
        """Counts of the items of U users."""
        return cls(
            used=items.per_user(users),
            repeats=items.those(items.repeat).per_user(users),
            relevant=items.relevant(config).per_user(users),
            liked=items.select_liked(config).per_user(users),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Relevance]) -> Relevance:
        """The users of all parts, one after the other."""
        none = torch.zeros(0, dtype=torch.int64)
        names = cls.__dataclass_fields__
        return cls(**{name: torch.cat([none, *(getattr(part, name) for part in parts)]) for name in names})

    def rows(self, index: Int[Tensor, " V"]) -> Relevance:
        """The users at an index, in its order."""
        return Relevance(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def summary(self, config: EvaluateConfig) -> RelevanceSummary:
        """Who has something to find, and why the others have not."""
        findable = self.relevant > 0
        return RelevanceSummary(
            users=len(self.used),
            used_nothing=int((self.used == 0).sum()),
            only_repeats=int(((self.used > 0) & ~findable).sum()),
            liked_nothing=None if config.liked_at_least is None else int((findable & (self.liked == 0)).sum()),
            used_items=int(self.used.sum()),
            repeats=int(self.repeats.sum()),
            exclude_seen=config.exclude_seen,
        )


def short_lists_note(count: int) -> str:
    """That some users got fewer items than asked for."""
    return f"{count_of(count, 'list')} {agree(count, 'is', 'are')} shorter: fewer items may be shown to their users."


@dataclass(frozen=True, kw_only=True)
class RelevanceSummary:
    """Who has something to find in a part, and why the others have not."""

    users: int
    """With an event in the part; each is given a list."""
    used_nothing: int
    """Of them, without a use in the part."""
    only_repeats: int
    """Of them, who used only what they had used before, where that is not recommended."""
    liked_nothing: int | None
    """Of those with something to find, without an item that they liked; None where nothing says what is liked."""
    used_items: int
    """Items that the users used in the part, each once a user."""
    repeats: int
    """Of them, used before the part."""
    exclude_seen: bool
    """True where items used before are not recommended, and so are not relevant."""

    @property
    def with_relevant(self) -> int:
        """Users with something to find."""
        return self.users - self.used_nothing - self.only_repeats

    @property
    def with_liked(self) -> int:
        """Users with something to find that they liked."""
        return 0 if self.liked_nothing is None else self.with_relevant - self.liked_nothing

    def nothing_to_find(self) -> str:
        """Why no metric of hits has a value, or none of liked items."""
        return f"of {count_of(self.users, 'user')}, {self._reasons(self.liked_nothing or 0)}"

    def _reasons(self, liked_nothing: int) -> str:
        reasons = {
            "used nothing": self.used_nothing,
            "used only what they had used before": self.only_repeats,
            "liked nothing": liked_nothing,
        }
        return ", ".join(f"{number:,} {reason}" for reason, number in reasons.items() if number)

    def sentences(self) -> list[str]:
        """What stands beside the metrics: who is left out and why, and the share of repeats with its setting."""
        text = []
        if self.with_relevant < self.users:
            reasons = self._reasons(0)
            text.append(f"Hit metrics are over {self.with_relevant:,} of {count_of(self.users, 'user')}: {reasons}.")
        if self.liked_nothing:
            text.append(
                f"Those of liked items are over {count_of(self.with_liked, 'user')}: {self.liked_nothing:,} liked "
                "nothing."
            )
        if self.repeats:
            share = (
                f"{self.repeats:,} of {count_of(self.used_items, 'used item')} ({self.repeats / self.used_items:.1%})"
            )
            text.append(
                f"{share} had been used before and are not relevant; [evaluate] exclude_seen = false ranks them."
                if self.exclude_seen
                else f"{share} had been used before and are relevant; [evaluate] exclude_seen = true leaves them out."
            )
        return text


def relevance(part: LogPart, config: EvaluateConfig) -> Relevance:
    """What every user with an event in a part has to find, whatever a policy recommends."""
    users = part.users()
    blocks = []
    for at in range(0, len(users), BLOCK):
        user = users[at : at + BLOCK]
        items = held_out_items(part.interactions, user, part.first[user], part.last[user])
        blocks.append(Relevance.of(items, len(user), config))
    return Relevance.concatenate(blocks)
