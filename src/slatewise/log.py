"""A log as columns, a part of its events, and the catalog of its items.

Imports no torch, so that commands that only read or write logs start at once.

Axes: R log rows · V events · U users · W windows · P used items · N items · E features · X context.

Item numbers: 0 is padding, 1 stands for every item the vocabulary does not know, real items start at 2.
A table over items has ``catalog.num_rows = catalog.num_items + 2`` rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from slatewise.features import FeatureScale, ItemContent
from slatewise.logged_requests import LoggedRequests, list_rows

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
    context: Float[np.ndarray, "V X"]
    item: Int[np.ndarray, "R"]
    reward: Float[np.ndarray, "R"]
    """What came of the item in all."""
    cost: Float[np.ndarray, "R"]
    logp: Float[np.ndarray, "R"]
    """Log of the propensity; 0 where the log has none."""
    logp_known: Bool[np.ndarray, "R"]
    used: Bool[np.ndarray, "R"]
    used_time: Int[np.ndarray, "R"]
    """When the use arrived; 0 where unused."""
    use_reward: Float[np.ndarray, "R"]
    """What the use was worth when it arrived; 0 where unused."""
    requests: LoggedRequests | None = None
    """None where the log says nothing of the conditions of its slates."""
    user_features: Float[np.ndarray, "U G"] | None = None
    """What is known of every user beside the log, which every decision about them sees after its context."""

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

    @property
    def context_width(self) -> int:
        """Numbers that are seen before a decision: X of its context, and G of the user."""
        return int(self.context.shape[1]) + (0 if self.user_features is None else self.user_features.shape[1])

    @cached_property
    def num_policies(self) -> int:
        """Logging policies, one for "the log does not say" included."""
        return int(self.policy_id.max(initial=0)) + 1

    def take(self, events: Int[np.ndarray, "W"]) -> Interactions:
        """Some events, one after the other in this order, as if they were one user's."""
        rows, event_offsets = list_rows(np.asarray(self.event_offsets), events)
        of_events = ("event_id", "policy_id", "time", "session_end", "context")
        of_rows = ("item", "reward", "cost", "logp", "logp_known", "used", "used_time", "use_reward")
        return Interactions(
            user_offsets=np.array([0, len(events)]),
            event_offsets=event_offsets,
            requests=None if self.requests is None else self.requests.take(events),
            **{name: np.asarray(getattr(self, name))[events] for name in of_events},
            **{name: np.asarray(getattr(self, name))[rows] for name in of_rows},
        )

    def reorder(self, events: Int[np.ndarray, "V"]) -> Interactions:
        """The log with the events of each user in another order; their times are dealt out anew, ascending.

        How long after its slate a use arrived stays the same. Sessions, which are a matter of order, are forgotten.

        Args:
            events: a permutation that moves no event to another user.
        """
        shuffled, time = self.take(events), np.asarray(self.time)
        size = np.diff(shuffled.event_offsets)
        later = shuffled.used_time - np.repeat(shuffled.time, size)
        return replace(
            shuffled,
            user_offsets=self.user_offsets,
            time=time,
            session_end=np.zeros(len(events), np.bool_),
            user_features=self.user_features,
            used_time=np.where(shuffled.used, np.repeat(time, size) + later, 0),
        )


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Segments of users' events: window w holds the events start … stop − 1 of its user, and trains from `learn` on."""

    user: Int[np.ndarray, "W"]
    start: Int[np.ndarray, "W"]
    learn: Int[np.ndarray, "W"]
    stop: Int[np.ndarray, "W"]

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, index: Int[np.ndarray, "V"] | slice) -> Windows:
        return Windows(user=self.user[index], start=self.start[index], learn=self.learn[index], stop=self.stop[index])


@dataclass(frozen=True, kw_only=True)
class LogPart:
    """These events of these users: of user u, the events first[u] … last[u] − 1, counted from the user's first.

    The events before them are not part of it, but a state may read them as history.
    """

    interactions: Interactions
    first: Int[np.ndarray, "U"]
    last: Int[np.ndarray, "U"]

    @classmethod
    def whole(cls, interactions: Interactions) -> LogPart:
        """Every event of a log."""
        count = np.diff(np.asarray(interactions.user_offsets)).astype(np.int64)
        return cls(interactions=interactions, first=np.zeros_like(count), last=count)

    @property
    def empty(self) -> bool:
        """True where it holds no event."""
        return not bool((self.last > self.first).any())

    @property
    def num_events(self) -> int:
        """V of this part."""
        return int(np.maximum(self.last - self.first, 0).sum())

    def users(self) -> Int[np.ndarray, "U"]:
        """Users with an event in it, ascending."""
        return np.flatnonzero(self.last > self.first)

    def events(self) -> Int[np.ndarray, "V"]:
        """Where its events stand in the columns of the log, in the order of the log."""
        offsets = np.asarray(self.interactions.user_offsets)
        count = np.diff(offsets)
        event = np.arange(self.interactions.num_events) - np.repeat(offsets[:-1], count)
        return np.flatnonzero((event >= np.repeat(self.first, count)) & (event < np.repeat(self.last, count)))

    def used_rows(self) -> Int[np.ndarray, "P"]:
        """Where the rows of used items stand in the columns of the log."""
        rows = self.rows()
        used: Int[np.ndarray, "P"] = rows[np.asarray(self.interactions.used)[rows]]
        return used

    def rows(self) -> Int[np.ndarray, "R"]:
        """Where the rows of its events stand in the columns of the log, in the order of the log."""
        return list_rows(np.asarray(self.interactions.event_offsets), self.events())[0]

    def num_used_events(self) -> int:
        """Events in which something was used."""
        offsets = np.asarray(self.interactions.event_offsets)
        return len(np.unique(np.searchsorted(offsets, self.used_rows(), side="right")))

    def num_several_uses(self) -> int:
        """Events in which more than one item was used."""
        offsets = np.asarray(self.interactions.event_offsets)
        uses = np.unique(np.searchsorted(offsets, self.used_rows(), side="right"), return_counts=True)[1]
        return int((uses > 1).sum())

    def rewards(self) -> Float[np.ndarray, "P"]:
        """What came of the used items in all."""
        return np.asarray(self.interactions.reward[self.used_rows()])

    def use_rewards(self) -> Float[np.ndarray, "P"]:
        """What the uses were worth when they arrived: what states read."""
        return np.asarray(self.interactions.use_reward[self.used_rows()])

    def counts(self, num_rows: int) -> Int[np.ndarray, "rows"]:
        """How often each item number below `num_rows` was used."""
        counts = np.zeros(max(num_rows, len(self._counts)), np.int64)
        counts[: len(self._counts)] = self._counts
        return counts

    @cached_property
    def _counts(self) -> Int[np.ndarray, "N"]:
        # every validation asks for them
        return np.bincount(self.interactions.item[self.used_rows()])

    def windows(self, *, max_length: int, burn_in: int = 0) -> Windows:
        """The part cut into windows of at most `max_length` events to learn from.

        Args:
            max_length: most events that one window trains on.
            burn_in: events before them that only move the state; a user's first window has none to read.

        Raises:
            ValueError: max_length < 1 or burn_in < 0.
        """
        if max_length < 1 or burn_in < 0:
            raise ValueError(f"max_length is {max_length}, burn_in {burn_in}; expected at least 1 and at least 0")
        pieces = -(-np.maximum(self.last - self.first, 0) // max_length)
        user = np.repeat(np.arange(len(self.first)), pieces)
        piece = np.arange(len(user)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        learn = self.first[user] + piece * max_length
        stop = np.minimum(learn + max_length, self.last[user])
        return Windows(user=user, start=np.maximum(learn - burn_in, 0), learn=learn, stop=stop)

    def histories(self, users: Int[np.ndarray, "W"], *, max_history: int | None = None) -> Windows:
        """One window a user: all of the user's events in the part, after up to `max_history` events before it.

        Args:
            users: users with an event in it.
            max_history: most events that only move the state; None = all there are.
        """
        first = self.first[users]
        start = np.zeros_like(first) if max_history is None else np.maximum(first - max_history, 0)
        return Windows(user=users, start=start, learn=first, stop=self.last[users])


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
        index = pc.index_in(names, value_set=self.names)
        numbers = pc.fill_null(pc.add(pc.cast(index, pa.int64()), self.first), self.unknown)
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
    feature_scales: tuple[FeatureScale, ...] = ()
    """How each column of `features` was standardised; () where nothing says it."""
    content: ItemContent | None = None
    """None where item vectors are learned rows alone."""
    columns: pa.Table | None = None
    """What the item table said of every real item, in the order of their numbers: numbers, truth values, dates, text
    and lists of text under the names of the table; None where nothing is known."""

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
