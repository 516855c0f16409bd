"""The durable log of what was served and what came of it: JSON lines in segments that `slatewise data import` reads.

A record is written whole, by one `write`, before anybody hears of it; so a process that dies leaves at most one torn
line at the end of its last segment, and nobody was told of that one. Opening the log again cuts it off.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from slatewise.data.decisions_and_outcomes import LineError, check_intact, encode_line
from slatewise.errors import SlatewiseError, input_error
from slatewise.serve.events.segment import Segment

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
        self._folder_handle = lock_folder(folder)
        try:
            segments = self.segments()
            self._number = segments[-1] if segments else 1
            self._segment = self._open(self._number)
        except OSError as error:
            os.close(self._folder_handle)
            raise SlatewiseError(f"{folder}: {error.strerror}. Name another folder with --events.") from error

    @property
    def position(self) -> Position:
        """The place after the last record."""
        return Position(self._number, self._segment.size)

    def fault(self) -> str:
        """Why records cannot be appended at the moment, with the file; "" where they can."""
        fault = self._segment.fault()
        return fault and f"{self._segment.path}: {fault}"

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records, all or none; when it returns they outlive this process.

        Raises:
            UncertainError: writing failed in the middle, and so did taking it back.
            SlatewiseError: the disk is full or gone, or has not taken earlier records; nothing was written.
        """
        if not records:
            return
        if self._segment.size >= self._segment_bytes:
            self._rotate()
        self._segment.append(b"".join(map(encode_line, records)))

    def sync(self) -> None:
        """Wait until the disk has everything; may be called from another thread than `append`.

        Raises:
            SlatewiseError: it does not; nothing is appended until a later call succeeds.
        """
        self._segment.sync()

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
        """Every record, oldest first, without its checksum.

        Raises:
            InputError: a line that is no JSON object, or has changed since it was written.
        """
        for position, line in self.lines():
            try:
                check_intact(line)
                record = msgspec.json.decode(line, type=dict[str, Any])
            except (LineError, msgspec.MsgspecError) as error:
                file, number = self.line_before(position)
                raise input_error(
                    f"no record: {error}",
                    file=file,
                    row=number,
                    advice="Something else wrote to this file: correct or remove the line.",
                ) from error
            record.pop("crc32", None)
            yield record

    def close(self) -> None:
        """Flush to the disk and let others write.

        Raises:
            SlatewiseError: the disk did not take everything.
        """
        try:
            self._segment.close()
        finally:
            if self._folder_handle >= 0:
                os.close(self._folder_handle)
                self._folder_handle = -1

    def _path(self, segment: int) -> Path:
        return self.folder / f"events-{segment:08d}.jsonl"

    def _open(self, number: int) -> Segment:
        segment = Segment(self._path(number), fsync=self._fsync)
        os.fsync(self._folder_handle)  # the name of a new file is an entry of the folder
        return segment

    def _rotate(self) -> None:
        """Go on in the next segment; the disk has all of the last one."""
        self._segment.sync()
        try:
            following = self._open(self._number + 1)
        except OSError as error:
            raise SlatewiseError(f"{self.folder}: {error.strerror}. Nothing was recorded.") from error
        self._segment.close()
        self._segment, self._number = following, self._number + 1


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
