"""Log and store kept in step: a record is appended to the log, then applied to the store; never the other way round.

Applying is the same whether a record is new or read from the log again, and applying it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import msgspec

from slatewise.data.wire import CatalogRecord, Decision, Outcome, Record
from slatewise.errors import input_error
from slatewise.serve.events.files import START, Position, SegmentedLog
from slatewise.serve.stores.lmdb import Play, Store, UseRecord, use_key
from slatewise.serve.users import Users

BLOCK = 1000
"""Records of the log that one transaction follows."""


class Journal:
    """What was served and what came of it. `record` and `follow` are for one thread."""

    def __init__(self, log: SegmentedLog, store: Store, users: Users, *, reward: Callable[[Outcome], float]) -> None:
        self._log = log
        self._store = store
        self._users = users
        self._reward = reward
        self._name = str(log.folder.resolve())
        self._followed = START

    def follow(self) -> None:
        """Apply what stands in the log and not in the store: after a start, a crash, a full disk.

        Raises:
            InputError: a line of the log that is no record.
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
                self._store.put_catalog("")
        records = self._log.since(position)
        while block := list(islice(records, BLOCK)):
            with self._store.transaction():
                records_read = [self._read(record, end.segment) for end, record in block]
                for record in records_read:
                    self._apply(record)
                self._put_followed(block[-1][0], records_read)
        self._followed = self._log.position

    def record_catalog(self, record: CatalogRecord) -> None:
        """Append what can be shown from now on, unless the log ends with that catalog in force.

        Raises:
            SlatewiseError: nothing was recorded.
        """
        with self._store.transaction():
            if self._log.position > START and self._store.catalog() == record.catalog_version:
                return
            self.record([record])
        self.mark_recorded()

    def record(self, records: Sequence[Record]) -> list[bool]:
        """Append records and apply them inside the store's open transaction; call `recorded` when that is over.

        Returns:
            For each record whether it moved a user's state.

        Raises:
            SlatewiseError: nothing was recorded.
        """
        self._log.append([msgspec.to_builtins(record) for record in records])
        moved = [self._apply(record) for record in records]
        self._put_followed(self._log.position, records)
        return moved

    def _put_followed(self, position: Position, records: Sequence[Record]) -> None:
        self._store.put_followed(self._name, position)
        moments = [record.received or 0 if isinstance(record, Outcome) else record.timestamp for record in records]
        self._store.put_latest_time(max([self._store.latest_time(), *moments]))

    def mark_recorded(self) -> None:
        """The transaction around `record` was kept."""
        self._followed = self._log.position

    def sync(self) -> None:
        """Wait until the disk has all; may be called from another thread."""
        self._log.sync()
        self._store.sync()

    def close(self) -> None:
        """Flush, and let go of log and store."""
        self._log.close()
        self._store.close()

    def _read(self, record: dict[str, object], segment: int) -> Record:
        try:
            typed_record: Record = msgspec.convert(record, Record)
        except msgspec.ValidationError as error:
            raise input_error(
                f"no decision, outcome or catalog: {error}",
                file=self._log.folder / f"events-{segment:08d}.jsonl",
                advice="Something else wrote to this file: mend or remove the line.",
            ) from error
        return typed_record

    def _apply(self, record: Record) -> bool:
        if isinstance(record, CatalogRecord):
            self._store.put_catalog(record.catalog_version)
            return False
        if isinstance(record, Decision):
            if self._store.play(record.event_id) is None:
                self._store.put_play(
                    record.event_id,
                    Play(user_id=record.user_id, timestamp=record.timestamp, slate=record.slate),
                )
            return False
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
        self._store.put_outcome(key, record.event_id)
        reward = self._reward(record)
        if reward <= 0 or self._store.use(use_key(record.event_id, position)) is not None:
            return False
        use = UseRecord(
            event_id=record.event_id,
            position=position,
            item_id=play.slate[position],
            reward=reward,
            time=max(arrival(record), play.timestamp),
        )
        self._users.move(play.user_id, use)
        return True


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
