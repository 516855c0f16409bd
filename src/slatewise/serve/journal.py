"""Log and store kept in step.

A new record is checked and applied inside a transaction of the store, then appended to the log, then the transaction is
committed. What fails before the append leaves nothing anywhere. What fails after it leaves the store behind the log,
which has the record: the next transaction begins by following the log. So nobody is told that a record was not taken
which stands in the log.

Applying is the same whether a record is new or read from the log again, and applying it twice changes nothing. A line
of the log that cannot be applied is set aside, counted and named; it stops nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import msgspec

from slatewise.data.decisions_and_outcomes import (
    LARGEST_REWARD,
    UNUSABLE_REWARD,
    CatalogRecord,
    Decision,
    LineError,
    Outcome,
    Record,
    decode_line,
)
from slatewise.data.set_aside import SetAside, UnusableLines
from slatewise.errors import SlatewiseError
from slatewise.serve.events.files import START, Position, SegmentedLog
from slatewise.serve.refused import AbandonedError
from slatewise.serve.stores.lmdb import Play, Store, UseRecord, use_key
from slatewise.serve.users import Users

BLOCK = 1000
"""Records of the log that one transaction follows."""
REWARDS_EXPECTED = f"expected rewards from -{LARGEST_REWARD:g} to {LARGEST_REWARD:g}"
_logger = logging.getLogger(__name__)


class Journal:
    """What was served and what came of it. All but `sync` and `fault` is for one thread."""

    def __init__(self, log: SegmentedLog, store: Store, users: Users, *, reward: Callable[[Outcome], float]) -> None:
        self._log = log
        self._store = store
        self._users = users
        self._reward = reward
        self._name = str(log.folder.resolve())
        self._followed = START
        self._unusable = UnusableLines()

    @property
    def set_aside(self) -> tuple[SetAside, ...]:
        """Lines of the log that could not be applied when it was followed."""
        return self._unusable.by_reason()

    def follow(self) -> None:
        """Apply what stands in the log and not in the store: after a start, a crash, a full disk.

        Raises:
            SlatewiseError: the store cannot take it, or a segment cannot be read.
        """
        if self._followed == self._log.position:
            return
        with self._store.transaction():
            position = self._store.followed_to(self._name)
        # a store ahead of its log belongs to a log that is gone; all of this one may be news to it
        if position > self._log.position:
            position = START
        if position == START:
            with self._store.transaction():
                self._store.put_catalog(None)
        unusable_before = self._unusable.count
        lines = self._log.lines(position)
        while block := list(islice(lines, BLOCK)):
            with self._store.transaction():
                records = [record for end, line in block if (record := self._apply_line(line, end)) is not None]
                self._put_followed(block[-1][0], records)
        self._followed = self._log.position
        if self._unusable.count > unusable_before:
            for reason in self.set_aside:
                _logger.warning("%s: %s", self._log.folder, reason)

    def record_catalog(self, record: CatalogRecord, abandoned: Callable[[], bool] = lambda: False) -> None:
        """Append what can be shown from now on, unless the log ends with that catalog in force.

        Args:
            record: of it.
            abandoned: True once nobody waits for the answer any more.

        Raises:
            SlatewiseError: nothing was recorded.
        """
        with self.recording(abandoned) as apply:
            in_force = self._store.catalog()
            if self._log.position == START or in_force is None or in_force.catalog_version != record.catalog_version:
                apply(record)

    @contextmanager
    def recording(self, abandoned: Callable[[], bool] = lambda: False) -> Iterator[Callable[[Record], bool]]:
        """A transaction of the store in which records are applied; at its end they are appended, then it is committed.

        Yields a function that applies one record and returns whether it moved a user's state.

        Args:
            abandoned: True once nobody waits for the answer any more; asked before every record and before the append.

        Raises:
            AbandonedError: nobody waits; nothing was recorded.
            SlatewiseError: log or store cannot take them; nothing was recorded.
        """
        self.follow()
        records: list[Record] = []

        def check_awaited() -> None:
            if abandoned():
                raise AbandonedError("The service stops, or the client is gone. Nothing was recorded.")

        def apply(record: Record) -> bool:
            check_awaited()
            moved = self._apply(record)
            records.append(record)
            return moved

        appended = False
        try:
            with self._store.transaction():
                yield apply
                check_awaited()
                self._log.append([msgspec.to_builtins(record) for record in records])
                appended = bool(records)
                if appended:
                    self._put_followed(self._log.position, records)
        except SlatewiseError as error:
            if not appended:
                raise
            _logger.error("recorded in the log, not yet in the store: %s", error)
        else:
            self._followed = self._log.position

    def _put_followed(self, position: Position, records: Sequence[Record]) -> None:
        self._store.put_followed(self._name, position)
        moments = [record.received or 0 if isinstance(record, Outcome) else record.timestamp for record in records]
        self._store.put_latest_time(max([self._store.latest_time(), *moments]))

    def fault(self) -> str:
        """Why nothing can be recorded at the moment; "" where it can. May be called from another thread."""
        return self._log.fault()

    def sync(self) -> None:
        """Wait until the disk has all; may be called from another thread."""
        self._log.sync()
        self._store.sync()

    def close(self) -> None:
        """Flush, and let go of log and store."""
        try:
            self._log.close()
        finally:
            self._store.close()

    def _apply_line(self, line: bytes, end: Position) -> Record | None:
        """Apply a line of the log; None where it is set aside."""
        try:
            record = decode_line(line)
            self._apply(record)
        except LineError as error:
            file, number = self._log.line_before(end)
            self._unusable.add(error, file, number)
            return None
        return record

    def _apply(self, record: Record) -> bool:
        """Apply a record to the store's open transaction; gives whether it moved a user's state.

        Raises:
            LineError: a record that no state can hold; nothing of it was applied.
        """
        if isinstance(record, CatalogRecord):
            self._store.put_catalog(record)
            return False
        if isinstance(record, Decision):
            if self._store.play(record.event_id) is None:
                self._store.put_play(
                    record.event_id,
                    Play(user_id=record.user_id, timestamp=record.timestamp, slate=record.slate),
                )
            return False
        reward = self._reward(record)
        if not abs(reward) <= LARGEST_REWARD:
            raise LineError(UNUSABLE_REWARD, f"{reward:g} for an outcome of type {record.type!r}; {REWARDS_EXPECTED}")
        play = self._store.play(record.event_id)
        if play is None:
            play = play_of(record)
        position = None if play is None else position_in(play, item_id=record.item_id, position=record.position)
        # an outcome of a slate or position that nobody knows has no state to move; the log keeps it all the same
        if play is None or position is None:
            return False
        key = outcome_key(record, position)
        if self._store.event_of(key) is not None:
            return False
        moved = reward > 0 and self._store.use(use_key(record.event_id, position)) is None
        if moved:
            use = UseRecord(
                event_id=record.event_id,
                position=position,
                item_id=play.slate[position],
                reward=reward,
                time=max(arrival(record), play.timestamp),
            )
            self._users.move(play.user_id, use)
        self._store.put_outcome(key, record.event_id)
        return moved


def arrival(outcome: Outcome) -> int:
    """When an outcome arrived; records of before that was written down have only the time that their client said."""
    return outcome.timestamp if outcome.received is None else outcome.received


def play_of(outcome: Outcome) -> Play | None:
    """What a use outside of any slate stands for; None where the outcome does not say who used what."""
    if outcome.user_id is None or outcome.item_id is None:
        return None
    return Play(user_id=outcome.user_id, timestamp=arrival(outcome), slate=[outcome.item_id])


def position_in(play: Play, *, item_id: str | None, position: int | None) -> int | None:
    """Position of an item in what was served; None where item and position are missing, strange, or disagree."""
    if position is None:
        return play.slate.index(item_id) if item_id in play.slate else None
    if position >= len(play.slate):
        return None
    return position if item_id in (None, play.slate[position]) else None


def outcome_key(outcome: Outcome, position: int) -> str:
    """What makes an outcome known when it comes again: the rule by which `data import` counts it once.

    Its outcome_id within its event (for a use outside of any slate: within its user), without one position and type.
    """
    parts: list[str | int]
    if outcome.user_id is not None and outcome.position is None:
        parts = ["use", outcome.user_id, outcome.outcome_id] if outcome.outcome_id else ["use", outcome.event_id]
    elif outcome.outcome_id:
        parts = ["id", outcome.event_id, outcome.outcome_id]
    else:
        parts = ["at", outcome.event_id, position, outcome.type]
    # quoted: parts that only run together alike stay apart
    return msgspec.json.encode(parts).decode()
