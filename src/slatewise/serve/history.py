"""Where users of the training log start: with what they did there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int

from slatewise.data import batches
from slatewise.data.prepared import Dataset
from slatewise.log import FIRST_ITEM, Catalog, Windows
from slatewise.ops.choices import picked
from slatewise.protocols import StateEncoder
from slatewise.serve.memory import Memory, rolled


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """What is known of a user before the service saw any."""

    memory: Memory
    seen: Int[np.ndarray, "X"]
    """Numbers of the items that the user picked, each once, rising."""
    events: frozenset[int]
    """Numbers of the user's events in the log."""


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
        whole = Windows(
            user=np.array([number]), start=np.array([0]), learn=np.array([0]), stop=np.array([last - first])
        )
        history = batches.trajectories(log, whole)
        history = replace(history, slate=self._number[history.slate])
        newest = replace(whole, start=np.array([max(0, last - first - self._max_history)]))
        recent = batches.trajectories(log, newest)
        used = picked(history.slate, history.choice)
        return Beginning(
            memory=rolled(encoder, replace(recent, slate=self._number[recent.slate])),
            seen=np.unique(used[used >= FIRST_ITEM].numpy()),
            events=frozenset(history.event_id[0].tolist()),
        )
