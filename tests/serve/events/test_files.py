"""The event log: whole lines or none, in order, one writer."""

from __future__ import annotations

import errno
import json
import os
import resource
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers

from slatewise.data.decisions_and_outcomes import encode_line
from slatewise.errors import InputError, SlatewiseError
from slatewise.protocols import EventLog
from slatewise.serve.events.files import START, Position, SegmentedLog
from slatewise.serve.events.segment import UncertainError

LINE = len(b'{"n":0,"crc32":"01234567"}\n')


def files(folder: Path) -> dict[str, int]:
    return {path.name: len(path.read_bytes().splitlines()) for path in sorted(folder.glob("*.jsonl"))}


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Files cannot grow beyond some bytes, as on a full disk: a write stops in the middle of a line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_records_come_back_in_order_also_after_opening_again(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path / "events")
    log.append([{"n": 0}, {"n": 1}])
    assert log.position == Position(1, 2 * LINE)
    log.close()
    again: EventLog = SegmentedLog(tmp_path / "events")
    again.append([{"n": 2}])
    assert [record["n"] for record in again] == [0, 1, 2]
    assert files(tmp_path / "events") == {"events-00000001.jsonl": 3}
    again.close()


def test_what_was_appended_is_in_the_file_at_once(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path)
    log.append([{"é": 1e-45, "x": [0.1]}])
    # read through another handle: nothing waits in a buffer of this process
    line = (tmp_path / "events-00000001.jsonl").read_text(encoding="utf-8")
    checksum = zlib.crc32('{"é":1e-45,"x":[0.1]'.encode())
    assert json.loads(line) == {"é": 1e-45, "x": [0.1], "crc32": f"{checksum:08x}"}
    log.append([])
    assert files(tmp_path) == {"events-00000001.jsonl": 1}
    log.close()


def test_a_full_segment_is_followed_by_the_next(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path, segment_bytes=2 * LINE)
    for n in range(5):
        log.append([{"n": n}])
    assert files(tmp_path) == {"events-00000001.jsonl": 2, "events-00000002.jsonl": 2, "events-00000003.jsonl": 1}
    assert [record["n"] for record in log] == [0, 1, 2, 3, 4]
    assert log.position == Position(3, LINE)
    log.close()


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path, segment_bytes=2 * LINE)
    log.append([{"n": 0}])
    middle = log.position
    for n in range(1, 4):
        log.append([{"n": n}])
    assert list(log.lines(middle)) == [
        (Position(1, 2 * LINE), encode_line({"n": 1})),
        (Position(2, LINE), encode_line({"n": 2})),
        (Position(2, 2 * LINE), encode_line({"n": 3})),
    ]
    assert list(log.lines(log.position)) == []
    assert log.line_before(Position(2, 2 * LINE)) == (tmp_path / "events-00000002.jsonl", 2)
    (tmp_path / "events-00000001.jsonl").unlink()  # moved away after an import
    assert [line for _, line in log.lines(middle)] == [encode_line({"n": 2}), encode_line({"n": 3})]
    assert [line for _, line in log.lines(START)] == [encode_line({"n": 2}), encode_line({"n": 3})]
    log.close()


WHOLE = b'{"n":0}\n{"text":"\xc3\xa9 \\n"}\n{"n":2}\n'


@settings(max_examples=40, deadline=None)
@given(length=integers(0, len(WHOLE)))
def test_a_log_cut_at_any_byte_keeps_every_whole_line(length: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "events-00000001.jsonl").write_bytes(WHOLE[:length])
        log = SegmentedLog(folder)
        kept = WHOLE[:length].count(b"\n")
        assert len(list(log)) == kept
        log.append([{"n": 3}])
        assert [record.get("n") for record in log][-1] == 3
        assert len(list(log)) == kept + 1
        log.close()


def test_a_torn_line_longer_than_one_block_is_cut(tmp_path: Path) -> None:
    (tmp_path / "events-00000001.jsonl").write_bytes(b'{"n":0}\n' + b"x" * 200_000)
    log = SegmentedLog(tmp_path)
    assert (tmp_path / "events-00000001.jsonl").read_bytes() == b'{"n":0}\n'
    log.close()


def test_a_full_disk_leaves_no_half_of_a_batch(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path)
    log.append([{"n": 0}])
    with disk_of(LINE + 12), pytest.raises(SlatewiseError, match=r"events-00000001\.jsonl: File too large\. Nothing"):
        log.append([{"n": 1}, {"n": 2}])
    assert (tmp_path / "events-00000001.jsonl").read_bytes() == encode_line({"n": 0})
    log.append([{"n": 3}])
    assert [record["n"] for record in log] == [0, 3]
    log.close()


@contextmanager
def failing_fsync(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file reaches the disk, as with a broken one."""

    def fail(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with patch.context() as patched:
        patched.setattr(os, "fsync", fail)
        yield


def test_after_a_failed_fsync_nothing_is_taken_until_the_disk_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, file = SegmentedLog(tmp_path), tmp_path / "events-00000001.jsonl"
    log.append([{"n": 0}])
    log.sync()
    log.append([{"n": 1}, {"n": 2}])
    whole = file.read_bytes()
    with failing_fsync(monkeypatch):
        for _ in range(2):
            with pytest.raises(SlatewiseError, match=r"events-00000001\.jsonl: Input/output error\. Make room"):
                log.sync()
            with pytest.raises(SlatewiseError, match=r"did not take earlier records .*\. Nothing was recorded"):
                log.append([{"n": 3}])
    # a system that dropped the pages: the disk has zeros where the lines were, and the next fsync would succeed
    with file.open("r+b") as stream:
        stream.seek(LINE)
        stream.write(bytes(len(whole) - stream.tell()))
    with pytest.raises(SlatewiseError, match="Nothing was recorded"):
        log.append([{"n": 3}])
    log.sync()
    assert file.read_bytes() == whole
    log.append([{"n": 3}])
    assert [record["n"] for record in log] == [0, 1, 2, 3]
    log.close()


def test_why_records_cannot_be_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, file = SegmentedLog(tmp_path, fsync=True), tmp_path / "events-00000001.jsonl"
    log.append([{"n": 0}])
    assert log.fault() == ""
    with failing_fsync(monkeypatch):
        with pytest.raises(SlatewiseError, match="Nothing was recorded"):
            log.append([{"n": 1}])
        assert log.fault() == f"{file}: Input/output error"
    assert log.fault() == ""  # asked again, the disk answers
    with monkeypatch.context() as patched:
        full = SimpleNamespace(f_blocks=100, f_bavail=0)
        patched.setattr(os, "fstatvfs", lambda handle: full)
        assert log.fault() == f"{file}: No space left on device"
    file.rename(tmp_path / "away")
    assert log.fault() == f"{file}: No such file or directory"
    file.write_bytes(b"")
    assert log.fault() == f"{file}: another file has its name"
    log.close()


def test_a_record_that_the_disk_refuses_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentedLog(tmp_path, fsync=True)
    log.append([{"n": 0}])
    with failing_fsync(monkeypatch), pytest.raises(SlatewiseError, match=r"Input/output error\. Nothing was recorded"):
        log.append([{"n": 1}])
    assert [record["n"] for record in log] == [0]
    log.append([{"n": 2}])
    assert [record["n"] for record in log] == [0, 2]
    log.close()


def test_a_record_that_cannot_be_taken_back_is_not_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentedLog(tmp_path, fsync=True)
    log.append([{"n": 0}])

    def fail(handle: int, length: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with failing_fsync(monkeypatch), monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", fail)
        with pytest.raises(UncertainError, match="could not be removed"):
            log.append([{"n": 1}])
        with pytest.raises(SlatewiseError, match="Nothing was recorded"):
            log.append([{"n": 2}])
    log.sync()  # takes it back after all
    log.append([{"n": 3}])
    assert [record["n"] for record in log] == [0, 3]
    log.close()


def test_a_segment_is_not_left_before_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentedLog(tmp_path, segment_bytes=LINE)
    log.append([{"n": 0}])
    with failing_fsync(monkeypatch), pytest.raises(SlatewiseError, match="Input/output error"):
        log.append([{"n": 1}])
    assert files(tmp_path) == {"events-00000001.jsonl": 1}
    log.append([{"n": 2}])
    assert [record["n"] for record in log] == [0, 2]
    assert log.position == Position(2, LINE)
    log.close()


def test_a_log_that_the_disk_does_not_take_is_let_go_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SegmentedLog(tmp_path)
    log.append([{"n": 0}])
    with failing_fsync(monkeypatch), pytest.raises(SlatewiseError, match="Input/output error"):
        log.close()
    log.close()
    SegmentedLog(tmp_path).close()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path)
    with pytest.raises(SlatewiseError, match="belongs to a running service"):
        SegmentedLog(tmp_path)
    log.close()
    SegmentedLog(tmp_path).close()


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "events-00000001.jsonl").write_bytes(b'{"n":0}\nhello\n')
    log = SegmentedLog(tmp_path)
    with pytest.raises(InputError, match=r"events-00000001\.jsonl, line 2: no record: JSON is malformed"):
        list(log)
    log.close()


def test_a_line_that_has_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "events-00000001.jsonl").write_bytes(
        encode_line({"n": 0}) + encode_line({"n": 1}).replace(b"1", b"2", 1)
    )
    log = SegmentedLog(tmp_path)
    with pytest.raises(InputError, match=r"line 2: no record: a checksum that does not match"):
        list(log)
    log.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SlatewiseError, match="cannot be opened"):
        SegmentedLog(tmp_path / "file" / "events")
    with pytest.raises(ValueError, match="expected at least 1"):
        SegmentedLog(tmp_path / "events", segment_bytes=0)


def test_sync_after_close_is_no_error(tmp_path: Path) -> None:
    log = SegmentedLog(tmp_path, fsync=True)
    log.append([{"n": 0}])
    log.sync()
    log.close()
    log.sync()
    log.close()
    assert files(tmp_path) == {"events-00000001.jsonl": 1}
