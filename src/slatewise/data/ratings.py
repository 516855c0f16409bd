"""The ratings of a log as a sparse matrix of users × items."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, LogPart


@dataclass(frozen=True, kw_only=True)
class Ratings:
    """Ratings in compressed rows: user u rated ``item[offsets[u] : offsets[u + 1]]``, in ascending order of items."""

    offsets: Int[Tensor, "U1"]
    item: Int[Tensor, "R"]
    value: Float[Tensor, "R"]
    """As the log has it."""
    num_rows: int
    """Rows of the item table."""

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.offsets) - 1

    @cached_property
    def user(self) -> Int[Tensor, "R"]:
        """User of each rating."""
        return torch.repeat_interleave(torch.arange(self.num_users), self.offsets.diff())

    @cached_property
    def scale(self) -> tuple[float, float]:
        """Lowest and highest rating."""
        return float(self.value.min()), float(self.value.max())

    @cached_property
    def _key(self) -> Int[Tensor, "R"]:
        return self.user * self.num_rows + self.item

    def of(
        self, users: Int[Tensor, "B"], items: Int[Tensor, "B A"]
    ) -> tuple[Float[Tensor, "B A"], Bool[Tensor, "B A"]]:
        """Ratings of items by users, 0 where there is none, and whether there is one.

        A binary search in the ratings: no users × items matrix is ever allocated.
        """
        keys = users.unsqueeze(1) * self.num_rows + items
        index = torch.searchsorted(self._key, keys).clamp(max=len(self._key) - 1)
        rated = self._key[index] == keys
        return self.value[index].masked_fill(~rated, 0.0), rated

    def users(self, users: Int[Tensor, "V"]) -> Ratings:
        """The ratings of a subset of users, renumbered 0 … V − 1."""
        count = self.offsets.diff()[users]
        offsets = torch.nn.functional.pad(count.cumsum(0), (1, 0))
        index = torch.arange(int(offsets[-1])) + torch.repeat_interleave(self.offsets[users] - offsets[:-1], count)
        return Ratings(offsets=offsets, item=self.item[index], value=self.value[index], num_rows=self.num_rows)

    def counts(self) -> Int[Tensor, "rows"]:
        """Number of ratings of each item."""
        return torch.bincount(self.item, minlength=self.num_rows)


def ratings(part: LogPart, *, num_rows: int) -> Ratings:
    """The ratings of a part of a log; of several ratings of an item by the same user, the last is used.

    Args:
        part: one row per rated item, the rating as reward; unknown items are left out.
        num_rows: rows of the item table.

    Raises:
        InputError: no rating, or a rating that is not finite.
    """
    interactions, events = part.interactions, part.events()
    offsets = np.asarray(interactions.event_offsets)
    size = np.diff(offsets)[events]
    row = np.arange(int(size.sum())) + np.repeat(offsets[events] - (np.cumsum(size) - size), size)
    user = np.searchsorted(np.asarray(interactions.user_offsets), events, side="right") - 1
    user = np.repeat(user, size).astype(np.int64)
    item, value = np.asarray(interactions.item)[row].astype(np.int64), np.array(interactions.reward[row], np.float32)
    is_known = item >= FIRST_ITEM
    user, item, value = user[is_known], item[is_known], value[is_known]
    if not len(item):
        raise input_error(
            "the log has no rating of a known item", advice="`slatewise data validate` says what it holds."
        )
    if not np.isfinite(value).all():
        at = int(np.flatnonzero(~np.isfinite(value))[0])
        raise input_error(
            f"item {item[at]} has the rating {value[at]} by user {user[at]}; expected a finite number",
            advice="`slatewise data validate` finds all of them.",
        )
    key = user * num_rows + item
    order = np.argsort(key, kind="stable")
    last = order[np.append(key[order][1:] != key[order][:-1], True)]
    count = np.bincount(user[last], minlength=interactions.num_users)
    return Ratings(
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(count)])),
        item=torch.from_numpy(item[last]),
        value=torch.from_numpy(value[last]),
        num_rows=num_rows,
    )
