"""The durable log of what was served and what came of it: JSON lines in segments that `slatewise data import` reads.

A record is written whole, by one `write`, before anybody hears of it; so a process that dies leaves at most one torn
line at the end of its last segment, and nobody was told of that one. Opening the log again cuts it off.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from slatewise.errors import SlatewiseError, input_error

PATTERN = "events-*.jsonl"


class Position(NamedTuple):
    """A place between two records; later places compare greater."""

    segment: int
    offset: int
    """Bytes from the start of the segment."""


START = Position(0, 0)


class SegmentedLog:
    """An `EventLog` in a folder: ``events-00000001.jsonl``, ``events-00000002.jsonl``, …"""

    def __init__(self, folder: Path, *, segment_bytes: int = 64 << 20, fsync: bool = False) -> None:
        """Open or make the log, and keep others from writing to it.

        Args:
            folder: made if it is not there.
            segment_bytes: a segment that has reached this size is closed and the next one begun.
            fsync: True waits for the disk at every append (survives a power cut); False hands each append to the
                operating system (survives the end of the process) and leaves the disk to `sync`.

        Raises:
            SlatewiseError: the folder cannot be written, or another process writes to it.
        """
        if segment_bytes < 1:
            raise ValueError(f"segment_bytes is {segment_bytes}; expected at least 1")
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._fsync = fsync
        self._guard = threading.Lock()
        self._dirty = False
        self._folder_handle = lock_folder(folder)
        try:
            segments = self.segments()
            self._segment = segments[-1] if segments else 1
            self._handle = self._open(self._segment)
            self._offset = self._cut_torn_line()
        except OSError as error:
            os.close(self._folder_handle)
            raise SlatewiseError(f"{folder}: {error.strerror}. Name another folder with --events.") from error

    @property
    def position(self) -> Position:
        """The place after the last record."""
        return Position(self._segment, self._offset)

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records, all or none; when it returns they outlive this process.

        Raises:
            SlatewiseError: the disk is full or gone; nothing was written.
        """
        if not records:
            return
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        if self._offset >= self._segment_bytes:
            self._rotate()
        try:
            written = 0
            while written < len(lines):
                written += os.write(self._handle, lines[written:])
            if self._fsync:
                os.fsync(self._handle)
        except OSError as error:
            # half a batch must not stay: its sender is told that nothing was kept
            os.ftruncate(self._handle, self._offset)
            raise SlatewiseError(f"{self._path(self._segment)}: {error.strerror}. Nothing was recorded.") from error
        self._offset += len(lines)
        self._dirty = not self._fsync

    def sync(self) -> None:
        """Wait until the disk has everything; may be called from another thread than `append`."""
        with self._guard:
            if not self._dirty or self._handle < 0:
                return
            self._dirty = False
            handle = os.dup(self._handle)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def segments(self) -> list[int]:
        """Numbers of the segments in the folder, in order."""
        numbers = []
        for path in self.folder.glob(PATTERN):
            number = path.stem.removeprefix("events-")
            if number.isdecimal():
                numbers.append(int(number))
        return sorted(numbers)

    def lines(self, position: Position = START) -> Iterator[tuple[Position, bytes]]:
        """Lines after a place, each with the place behind it; segments that were moved away are passed over.

        A torn last line is none of them.

        Raises:
            SlatewiseError: a segment that cannot be read.
        """
        for segment in self.segments():
            if segment < position.segment:
                continue
            offset = position.offset if segment == position.segment else 0
            try:
                with self._path(segment).open("rb") as file:
                    file.seek(offset)
                    for line in file:
                        if not line.endswith(b"\n"):
                            break
                        offset += len(line)
                        yield Position(segment, offset), line
            except OSError as error:
                raise SlatewiseError(f"{self._path(segment)} cannot be read: {error.strerror}.") from error

    def line_before(self, position: Position) -> tuple[Path, int]:
        """File and number of the line that ends at a place; reads the file up to there."""
        path = self._path(position.segment)
        with path.open("rb") as file:
            return path, file.read(position.offset).count(b"\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every record, oldest first.

        Raises:
            InputError: a line that is no JSON object.
        """
        for position, line in self.lines():
            try:
                yield msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.MsgspecError as error:
                file, number = self.line_before(position)
                raise input_error(
                    f"no JSON object: {error}",
                    file=file,
                    row=number,
                    advice="Something else wrote to this file: correct or remove the line.",
                ) from error

    def close(self) -> None:
        """Flush to the disk and let others write."""
        self.sync()
        with self._guard:
            if self._handle >= 0:
                os.close(self._handle)
                os.close(self._folder_handle)
                self._handle = -1

    def _path(self, segment: int) -> Path:
        return self.folder / f"events-{segment:08d}.jsonl"

    def _open(self, segment: int) -> int:
        handle = os.open(self._path(segment), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        os.fsync(self._folder_handle)  # the name of a new file is an entry of the folder
        return handle

    def _rotate(self) -> None:
        try:
            following = self._open(self._segment + 1)
        except OSError as error:
            raise SlatewiseError(f"{self.folder}: {error.strerror}. Nothing was recorded.") from error
        os.fsync(self._handle)
        with self._guard:
            os.close(self._handle)
            self._handle, self._segment, self._offset = following, self._segment + 1, 0

    def _cut_torn_line(self) -> int:
        """Truncate the last segment behind its last whole line; gives its length."""
        length = end = os.fstat(self._handle).st_size
        while end > 0:
            start = max(0, end - 65536)
            newline = os.pread(self._handle, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < length:
            os.ftruncate(self._handle, end)
        return end


def lock_folder(folder: Path) -> int:
    """A handle that keeps other processes from locking the same folder until it is closed, or its process ends.

    Raises:
        SlatewiseError: the folder cannot be made, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise SlatewiseError(f"{folder} cannot be opened: {error.strerror}. Name another folder.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise SlatewiseError(f"{folder} cannot be locked: {error.strerror}. Name another folder.") from error
        raise SlatewiseError(
            f"{folder} belongs to a running service. Stop that one, or name another folder (--events, --store)."
        ) from error
    return handle
