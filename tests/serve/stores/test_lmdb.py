"""The store: kept whole or not at all, found again, one process at a time."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from msgspec.structs import replace

from slatewise.errors import SlatewiseError
from slatewise.protocols import StateStore
from slatewise.serve.events.files import START, Position
from slatewise.serve.stores.lmdb import Play, Store, UseRecord, UserRecord, use_key

PLAY = Play(user_id="ann", timestamp=7, slate=["a", "b"])
USE = UseRecord(event_id="5", position=1, item_id="b", reward=2.0, time=9)
USER = UserRecord(policy_version="v1", latest="5", carry=b"\x00\x01", used_items=b"")


def test_bytes_come_back_after_opening_again(tmp_path: Path) -> None:
    store: StateStore = Store(tmp_path / "store")
    assert store.get("ann") is None
    store.put("ann", b"\x00carry")
    store.put("ben", b"")
    store.close()
    store = Store(tmp_path / "store")
    assert store.get("ann") == b"\x00carry"
    assert store.get("ben") == b""
    store.close()
    store.close()


def test_records_come_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.transaction():
        store.put_user("ann", USER)
        store.put_play("5", PLAY)
        assert store.put_use(USE) == use_key("5", 1)
        assert store.latest_time() == 0
        store.put_latest_time(1_700_000_000_000_000)
        store.put_outcome("id\n5\nx", "5")
        store.put_followed("/log", Position(3, 99))
        assert store.play("5") == PLAY  # seen inside its own block
    with store.transaction():
        assert store.user("ann") == USER
        assert store.user("ben") is None
        assert store.play("5") == PLAY
        assert store.play("6") is None
        assert store.use(use_key("5", 1)) == USE
        assert store.use(use_key("5", 0)) is None
        assert store.latest_time() == 1_700_000_000_000_000
        assert store.event_of("id\n5\nx") == "5"
        assert store.event_of("id\n5\ny") is None
        assert store.followed_to("/log") == Position(3, 99)
        assert store.followed_to("/another") == START
    store.close()


def test_an_error_in_a_block_leaves_nothing_of_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("ann", b"before")

    def fail() -> None:
        with store.transaction():
            store.put("ann", b"after")
            store.put_play("5", PLAY)
            raise KeyError("5")

    with pytest.raises(KeyError):
        fail()
    assert store.get("ann") == b"before"
    with store.transaction():
        assert store.play("5") is None
    store.close()


def test_names_longer_than_a_key_stay_apart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = ["é" * 1000, "é" * 1000 + "a", "é" * 999, "x" * 480, "x" * 481, "a\x00b", "a"]
    for index, name in enumerate(names):
        store.put(name, str(index).encode())
    assert [store.get(name) for name in names] == [str(index).encode() for index in range(len(names))]
    store.close()


def test_records_are_read_inside_a_block_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError, match="no transaction is open"):
        store.play("5")
    with store.transaction(), pytest.raises(RuntimeError, match="open already"), store.transaction():
        pass
    store.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(SlatewiseError, match="belongs to a running service"):
        Store(tmp_path)
    store.close()


def test_a_folder_that_is_no_store_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database " * 1000)
    with pytest.raises(SlatewiseError, match="Delete the folder and start again: it is made anew from the event log"):
        Store(tmp_path)


def test_a_store_of_another_format_is_emptied(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.transaction():
        store.put_user("ann", USER)
        store.put_followed("/log", Position(3, 99))
    store.close()
    environment = lmdb.open(str(tmp_path), max_dbs=5)
    with environment.begin(write=True) as transaction:
        transaction.put(b"format", b"2", db=environment.open_db(b"meta", txn=transaction))
    environment.close()
    store = Store(tmp_path)
    with store.transaction():
        assert store.user("ann") is None
        assert store.followed_to("/log") == START  # so that all of the log is read again
    store.close()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_store_that_was_cut_is_set_aside_and_begins_anew(
    tmp_path: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    for number in range(200):
        with store.transaction():
            store.put_user(str(number), replace(USER, carry=bytes(2000)))
            store.put_followed("/log", Position(1, number))
    store.close()
    file = tmp_path / "data.mdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    store = Store(tmp_path)  # to read it would end the process
    assert f"data.mdb has {int(share * len(whole)):,} bytes; expected {len(whole):,}: it was cut" in caplog.text
    with store.transaction():
        assert store.user("0") is None
        assert store.followed_to("/log") == START
    store.close()
    assert (tmp_path / "data.mdb.damaged").stat().st_size == int(share * len(whole))
    file.write_bytes(whole)
    store = Store(tmp_path)
    with store.transaction():
        assert store.user("199") == replace(USER, carry=bytes(2000))
    store.close()


class BrokenDisk:
    """An environment whose disk takes nothing; of the others only `close` is asked."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.close = environment.close

    def sync(self, force: bool) -> None:
        raise lmdb.DiskError("mdb_env_sync: Input/output error")


def test_a_store_that_the_disk_did_not_take_is_made_again_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    with store.transaction():
        store.put_user("ann", USER)
        store.put_followed("/log", Position(3, 99))
    store._env = BrokenDisk(store._env)  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(SlatewiseError, match=r"the disk did not take the store .*Input/output error"):
            store.sync()
        with pytest.raises(SlatewiseError, match="is then made again from the event log"), store.transaction():
            pass
    store.close()
    store = Store(tmp_path)
    with store.transaction():
        assert store.user("ann") is None
        assert store.followed_to("/log") == START
    store.put("ben", b"carry")
    store.close()
    assert "the disk did not take it; it is made again from the event log" in caplog.text
    store = Store(tmp_path)
    assert store.get("ben") == b"carry"
    store.close()


def test_a_full_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path, map_bytes=1 << 17)

    def fill() -> None:
        for index in range(100):
            store.put(str(index), b"x" * 4000)

    with pytest.raises(SlatewiseError, match="make room and start again"):
        fill()
    store.close()
