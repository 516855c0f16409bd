"""A log as columns, and the catalog of its items. Loads no torch: what only reads or writes logs does not wait for it.

Axes: R log rows · V events · U users · N items · E features · X context.

Item numbers: 0 is padding, 1 stands for every item the vocabulary does not know, real items start at 2.
A table over items has ``catalog.num_rows = catalog.num_items + 2`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

PAD = 0
UNKNOWN = 1
FIRST_ITEM = 2


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """Columns of a log, one row per shown or used item, ordered by (user, time, event, position).

    Rows of one event are neighbours: event e has the rows ``event_offsets[e] : event_offsets[e + 1]``; the events of
    user u are ``user_offsets[u] : user_offsets[u + 1]``. The arrays may be memory-mapped.
    """

    user_offsets: Int[np.ndarray, "U1"]
    event_offsets: Int[np.ndarray, "V1"]
    event_id: Int[np.ndarray, "V"]
    policy_id: Int[np.ndarray, "V"]
    time: Int[np.ndarray, "V"]
    """Microseconds since 1970, UTC."""
    session_end: Bool[np.ndarray, "V"]
    """Last event of a session the log names."""
    choice: Int[np.ndarray, "V"]
    context: Float[np.ndarray, "V X"]
    item: Int[np.ndarray, "R"]
    reward: Float[np.ndarray, "R"]
    cost: Float[np.ndarray, "R"]
    logp: Float[np.ndarray, "R"]
    """Log of the propensity; 0 where the log has none."""
    logp_known: Bool[np.ndarray, "R"]

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_offsets) - 1

    @property
    def num_events(self) -> int:
        """V."""
        return len(self.event_offsets) - 1

    @property
    def num_rows(self) -> int:
        """R."""
        return len(self.item)

    @cached_property
    def slate_size(self) -> int:
        """Rows of the longest event: K of the trajectories made from this log."""
        return int(np.diff(self.event_offsets).max(initial=1))


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Names ↔ numbers, in the order of the names; the first name has the number ``first``."""

    names: pa.StringArray
    first: int = FIRST_ITEM
    unknown: int = UNKNOWN

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        # Built on the first single look-up: about 100 bytes a name, so 1 GB at 10⁷ items.
        return {name: number for number, name in enumerate(self.names.to_pylist(), start=self.first)}

    def number(self, name: str) -> int:
        """Number of one name; ``unknown`` where it has none."""
        return self._numbers.get(name, self.unknown)

    def encode(self, names: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
        """Numbers of many names; ``unknown`` where a name has none."""
        found = pc.index_in(names, value_set=self.names)
        numbers = pc.fill_null(pc.add(pc.cast(found, pa.int64()), self.first), self.unknown)
        return np.asarray(numbers, dtype=np.int64)

    def name(self, number: int) -> str:
        """Name of a number.

        Raises:
            IndexError: no such number, or a reserved one.
        """
        if not self.first <= number < self.first + len(self.names):
            raise IndexError(
                f"number {number} has no name; names have numbers {self.first}…{self.first + len(self) - 1}"
            )
        return str(self.names[number - self.first].as_py())


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The items: names, words, groups and numbers about them; row i of every array belongs to item number i."""

    vocabulary: Vocabulary
    text: Sequence[str]
    """One line per item number, "" for the two reserved ones and where nothing is known."""
    group: Int[np.ndarray, "rows"]
    """Group (genre, category) per item number; 0 = none."""
    group_names: tuple[str, ...]
    """Name of each group; group_names[0] is ""."""
    features: Float[np.ndarray, "rows E"]
    """Numeric features, standardised; width 0 where there are none."""

    @property
    def num_items(self) -> int:
        """Real items."""
        return len(self.vocabulary)

    @property
    def num_rows(self) -> int:
        """Rows of a table over items: the real ones and the two reserved numbers."""
        return len(self.vocabulary) + FIRST_ITEM

    def title(self, item: int) -> str:
        """Words for an item number: its text, else its name."""
        if item < FIRST_ITEM or item >= self.num_rows:
            return "(unknown item)"
        return self.text[item] or self.vocabulary.name(item)
