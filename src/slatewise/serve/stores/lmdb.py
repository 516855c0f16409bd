"""What the service must find again at once: users' memories, served slates that wait for outcomes, outcomes it had.

The event log is the truth and this is its index: every transaction also keeps how far the log has been followed, so a
store that was cut off, lost or belongs to another log is brought up to date by following the log again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import lmdb
import msgspec

from slatewise.data.decisions_and_outcomes import CatalogRecord
from slatewise.errors import SlatewiseError
from slatewise.serve.events.files import START, Position, lock_folder

_logger = logging.getLogger(__name__)
R = TypeVar("R", bound=msgspec.Struct)

MAP_BYTES = 1 << 36
"""Address space for the map; the file grows only as it is filled."""
FORMAT = b"3"
"""Of the records; a store of another format is emptied, and made again from the event log."""
DATA = "data.mdb"
DAMAGED = "damaged"
"""A file of this name marks a store that the disk did not take."""
LONGEST_KEY = 480
"""LMDB takes keys of 511 bytes."""


class Play(msgspec.Struct, frozen=True, array_like=True):
    """A served slate, by the names of its items."""

    user_id: str
    timestamp: int
    slate: list[str]


class UseRecord(msgspec.Struct, frozen=True, array_like=True):
    """One use, by the name of its item so that any later policy can read it."""

    event_id: str
    position: int
    item_id: str
    reward: float
    """What it was worth when it arrived."""
    time: int
    """When it arrived."""
    previous: str = ""
    """Key of the use that moved this user's memory before this one did; "" = none."""


class UserRecord(msgspec.Struct, frozen=True, array_like=True):
    """A user's memory as bytes, valid for one policy."""

    policy_version: str
    latest: str
    """Key of the use that moved the memory last; "" = none since the log that the policy was trained on."""
    carry: bytes
    """(M,) float32: the encoder's memory."""
    used_items: bytes
    """int64 item numbers that are not recommended again."""


class Store:
    """An LMDB environment in a folder; it is a `StateStore`, and the index of the event log beside it.

    All but `sync` is for one thread.
    """

    def __init__(self, folder: Path, *, fsync: bool = False, map_bytes: int = MAP_BYTES) -> None:
        """Open or make the store, and keep other processes from it.

        Args:
            folder: made if it is not there.
            fsync: True waits for the disk at every transaction; False leaves that to `sync` (the log heals the rest).
            map_bytes: most bytes it may ever hold.

        Raises:
            SlatewiseError: the folder cannot be written, holds something else, or another process uses it.
        """
        self.folder = folder
        self._folder_handle = lock_folder(folder)
        try:
            if (folder / DAMAGED).exists():
                _set_aside(folder, "the disk did not take it")
            self._env = _open_whole(folder, map_bytes=map_bytes, fsync=fsync)
            databases = [self._env.open_db(name) for name in (b"users", b"plays", b"uses", b"outcomes", b"meta")]
            self._users, self._plays, self._uses, self._outcomes, self._meta = databases
            with self._env.begin(write=True) as transaction:
                if transaction.get(b"format", db=self._meta) != FORMAT:
                    for database in databases:
                        transaction.drop(database, delete=False)
                    transaction.put(b"format", FORMAT, db=self._meta)
        except (lmdb.Error, OSError) as error:
            os.close(self._folder_handle)
            raise SlatewiseError(
                f"{folder} cannot be opened as a store: {error}. "
                "Delete the folder and start again: it is made anew from the event log."
            ) from error
        self._open: lmdb.Transaction[bytes] | None = None
        self._closed = False
        self._failure = ""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is put inside is kept together at the end, or not at all if an error leaves the block.

        Raises:
            SlatewiseError: the disk or the map is full.
        """
        self._check_synced()
        if self._open is not None:
            raise RuntimeError("a transaction is open already; this store is for one thread and one block at a time")
        try:
            with self._env.begin(write=True) as self._open:
                yield
        except lmdb.Error as error:
            raise SlatewiseError(
                f"{self.folder}: {error}. The event log has what was acknowledged; make room and start again."
            ) from error
        finally:
            self._open = None

    def get(self, user: str) -> bytes | None:
        """A user's memory."""
        if self._open is not None:
            return self._open.get(_key(user), db=self._users)
        with self._env.begin() as transaction:
            return transaction.get(_key(user), db=self._users)

    def put(self, user: str, carry: bytes) -> None:
        """Keep a user's memory; outside of a block this is a transaction of its own."""
        if self._open is not None:
            self._open.put(_key(user), carry, db=self._users)
            return
        with self.transaction():
            self.put(user, carry)

    def user(self, user: str) -> UserRecord | None:
        """The same, decoded."""
        record = self.get(user)
        return None if record is None else msgspec.msgpack.decode(record, type=UserRecord)

    def put_user(self, user: str, record: UserRecord) -> None:
        """Keep it."""
        self.put(user, msgspec.msgpack.encode(record))

    def play(self, event_id: str) -> Play | None:
        """What was served under this id."""
        record = self._transaction.get(_key(event_id), db=self._plays)
        return None if record is None else msgspec.msgpack.decode(record, type=Play)

    def put_play(self, event_id: str, play: Play) -> None:
        """Keep it."""
        self._transaction.put(_key(event_id), msgspec.msgpack.encode(play), db=self._plays)

    def use(self, key: str) -> UseRecord | None:
        """The use of an item of an event, by its `use_key`."""
        record = self._transaction.get(_key(key), db=self._uses)
        return None if record is None else msgspec.msgpack.decode(record, type=UseRecord)

    def put_use(self, use: UseRecord) -> str:
        """Keep it under its key."""
        key = use_key(use.event_id, use.position)
        self._transaction.put(_key(key), msgspec.msgpack.encode(use), db=self._uses)
        return key

    def event_of(self, outcome: str) -> str | None:
        """The event of an outcome that was taken before, by what makes the outcome known again."""
        event_id = self._transaction.get(_key(outcome), db=self._outcomes)
        return None if event_id is None else event_id.decode()

    def put_outcome(self, outcome: str, event_id: str) -> None:
        """Remember that it was taken."""
        self._transaction.put(_key(outcome), event_id.encode(), db=self._outcomes)

    def catalog(self) -> CatalogRecord | None:
        """The catalog that the log named last; None where it named none, or an earlier version kept only its hash."""
        record = self._transaction.get(b"catalog", db=self._meta)
        try:
            return None if record is None else msgspec.json.decode(record, type=CatalogRecord)
        except msgspec.DecodeError:
            return None

    def put_catalog(self, record: CatalogRecord | None) -> None:
        """Remember it."""
        content = b"" if record is None else msgspec.json.encode(record)
        self._transaction.put(b"catalog", content, db=self._meta)

    def followed_to(self, log: str) -> Position:
        """How far the log of this name was followed; the start for one it has not seen."""
        record = self._transaction.get(b"followed", db=self._meta)
        if record is None:
            return START
        name, segment, offset = msgspec.msgpack.decode(record, type=tuple[str, int, int])
        return Position(segment, offset) if name == log else START

    def put_followed(self, log: str, position: Position) -> None:
        """Keep how far it was followed."""
        self._transaction.put(b"followed", msgspec.msgpack.encode((log, *position)), db=self._meta)

    def latest_time(self) -> int:
        """The latest moment that a record of the log was stamped with, in microseconds; 0 before the first."""
        return int.from_bytes(self._transaction.get(b"latest time", db=self._meta) or b"")

    def put_latest_time(self, moment: int) -> None:
        """Keep it."""
        self._transaction.put(b"latest time", moment.to_bytes(8), db=self._meta)

    def sync(self) -> None:
        """Wait until the disk has everything; may be called from another thread.

        Raises:
            SlatewiseError: it does not. The pages may be lost, and no later success says otherwise: nothing is read or
                written any more, and the next start makes the store again.
        """
        self._check_synced()
        try:
            self._env.sync(True)
        except lmdb.Error as error:
            self._failure = str(error)
            with suppress(OSError):
                (self.folder / DAMAGED).touch()
            self._check_synced()

    def close(self) -> None:
        """Flush to the disk and let others use the folder.

        Raises:
            SlatewiseError: the disk did not take everything.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if not self._failure:
                self.sync()
                # free pages at the end were never written: a whole file has them, so that a shorter one was cut
                if _file_size(self.folder) < (size := _used_size(self._env)):
                    os.truncate(self.folder / DATA, size)
        finally:
            self._env.close()
            os.close(self._folder_handle)

    def _check_synced(self) -> None:
        if self._failure:
            raise SlatewiseError(
                f"{self.folder}: the disk did not take the store ({self._failure}). Check the disk and start again: "
                "the store is then made again from the event log."
            )

    @property
    def _transaction(self) -> lmdb.Transaction[bytes]:
        if self._open is None:
            raise RuntimeError("no transaction is open; use `with store.transaction():`")
        return self._open


def _open_whole(folder: Path, *, map_bytes: int, fsync: bool) -> lmdb.Environment:
    """Open the environment in a folder; one whose file was cut is set aside before any of its pages is read.

    To read a page behind the end of a mapped file ends the process (SIGBUS).

    Raises:
        lmdb.Error, OSError: it cannot be opened.
    """

    def open_environment() -> lmdb.Environment:
        return lmdb.open(str(folder), map_size=map_bytes, max_dbs=5, sync=fsync, metasync=fsync, max_readers=16)

    environment = open_environment()
    size, expected = _file_size(folder), _used_size(environment)
    if size >= expected:
        return environment
    environment.close()
    _set_aside(folder, f"{DATA} has {size:,} bytes; expected {expected:,}: it was cut")
    return open_environment()


def _file_size(folder: Path) -> int:
    return (folder / DATA).stat().st_size


def _used_size(environment: lmdb.Environment) -> int:
    """Bytes up to the last page in use, as the first two pages say."""
    return int((environment.info()["last_pgno"] + 1) * environment.stat()["psize"])


def _set_aside(folder: Path, why: str) -> None:
    """Rename a damaged store, so that an empty one is made in its place.

    Raises:
        OSError: it cannot be renamed.
    """
    if (folder / DATA).exists():
        os.replace(folder / DATA, folder / f"{DATA}.damaged")
    (folder / DAMAGED).unlink(missing_ok=True)
    _logger.warning(
        "%s: %s; it is made again from the event log. The old one is kept as data.mdb.damaged.", folder, why
    )


def use_key(event_id: str, position: int) -> str:
    """Names the use of an item: of several outcomes of one item only the first above 0 is its use."""
    return f"{position}\n{event_id}"


def _key(name: str) -> bytes:
    raw = name.encode()
    if len(raw) <= LONGEST_KEY:
        return raw
    return raw[: LONGEST_KEY - 20] + hashlib.blake2b(raw, digest_size=20).digest()
