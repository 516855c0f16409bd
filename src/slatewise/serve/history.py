"""Where users of the training log start: with what they did there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int

from slatewise.data import batches
from slatewise.data.prepared import Dataset
from slatewise.log import FIRST_ITEM, Catalog, Windows
from slatewise.ops.history import history_of
from slatewise.protocols import Carry, StateEncoder
from slatewise.serve.memory import carry_after_each
from slatewise.types import Uses


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What is known of a user before the service saw any."""

    carry: Carry
    used_items: Int[np.ndarray, "X"]
    """Numbers of the items that the user used, each once, ascending."""
    uses: frozenset[tuple[int, int]]
    """The user's uses in the log: number of the event, position."""


class LoggedHistory:
    """A prepared log read for one user at a time, in the item numbers of the policy's catalog."""

    def __init__(self, dataset: Dataset, catalog: Catalog, *, max_history: int) -> None:
        """Match the names of the log's items with those of the catalog.

        Args:
            dataset: the log; a newer one than the policy was trained on will do.
            catalog: the items that the policy knows.
            max_history: newest events of a user that move the state, as in evaluation.
        """
        if max_history < 1:
            raise ValueError(f"max_history is {max_history}; expected at least 1")
        self.dataset = dataset
        self._max_history = max_history
        reserved = np.arange(FIRST_ITEM, dtype=np.int64)
        self._number = torch.from_numpy(
            np.concatenate([reserved, catalog.vocabulary.encode(dataset.catalog.vocabulary.names)])
        )

    def user_number(self, user_id: str) -> int:
        """Number of a user in the log, −1 for a stranger."""
        return self.dataset.users.number(user_id)

    def beginning(self, user_id: str, encoder: StateEncoder) -> Beginning | None:
        """Memory of a user of the log, None for a stranger."""
        number = self.user_number(user_id)
        if number < 0:
            return None
        log = self.dataset.interactions
        first, last = int(log.user_offsets[number]), int(log.user_offsets[number + 1])
        everything = self._history(number, 0, last - first)
        recent = self._history(number, max(0, last - first - self._max_history), last - first)
        rows = slice(int(log.event_offsets[first]), int(log.event_offsets[last]))
        size = np.diff(log.event_offsets[first : last + 1])
        used = np.flatnonzero(log.used[rows])
        event = np.repeat(np.asarray(log.event_id[first:last]), size)[used]
        position = (np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size))[used]
        return Beginning(
            carry=carry_after_each(encoder, encoder.initial(1), recent),
            used_items=np.unique(everything.item[everything.item >= FIRST_ITEM].numpy()),
            uses=frozenset(zip(event.tolist(), position.tolist(), strict=True)),
        )

    def _history(self, number: int, start: int, stop: int) -> Uses:
        """The uses of some of a user's events, in the numbers of the policy's catalog."""
        bounds = {name: np.array([value]) for name, value in (("start", start), ("learn", start), ("stop", stop))}
        events = batches.trajectories(self.dataset.interactions, Windows(user=np.array([number]), **bounds))
        uses = history_of(events).uses
        return replace(uses, item=self._number[uses.item])
