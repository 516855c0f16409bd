"""One open file of the event log: whole batches of lines or nothing, and no success that the disk does not share.

After a failed fsync the operating system may hold the pages for clean: the next fsync succeeds, and the disk never has
them. So a failure stays: nothing is appended until the lines that the disk may lack were written once more, from
memory, and synced.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from slatewise.errors import SlatewiseError


class UncertainError(SlatewiseError):
    """Neither was a record written for certain, nor could it be taken back."""


class Segment:
    """A file that grows at its end; `sync` may be called from another thread than the rest."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        """Open or make the file, cut off a torn last line, and bring what it has to the disk.

        Args:
            path: its folder exists.
            fsync: True waits for the disk at every append.

        Raises:
            OSError: the file cannot be opened, written or synced.
        """
        self.path = path
        self._fsync = fsync
        self._guard = threading.Lock()
        self._syncing = threading.Lock()
        self._pending = bytearray()
        """The last bytes of the file, which the disk may lack."""
        self._failure = ""
        """Why the disk may lack the pending bytes."""
        self._refusal = ""
        """Why the last append wrote nothing."""
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self.size = self._cut_torn_line()
            """Bytes of whole lines."""
            os.fsync(self._handle)
        except OSError:
            os.close(self._handle)
            raise

    def append(self, lines: bytes) -> None:
        """Write lines, all or none; when it returns they outlive this process.

        Raises:
            UncertainError: writing failed in the middle, and so did taking it back.
            SlatewiseError: the disk is full or gone, or has not taken earlier lines; nothing was written.
        """
        with self._guard:
            if self._failure:
                raise SlatewiseError(
                    f"{self.path}: the disk did not take earlier records ({self._failure}). Nothing was recorded; they "
                    "are written again until the disk has them."
                )
            try:
                written = 0
                while written < len(lines):
                    written += os.write(self._handle, lines[written:])
                if self._fsync:
                    os.fsync(self._handle)
            except OSError as error:
                self._take_back(error)
            self.size += len(lines)
            self._refusal = ""
            if not self._fsync:
                self._pending += lines

    def fault(self) -> str:
        """Why lines cannot be appended at the moment; "" where they can, as far as can be known without a try."""
        with self._guard:
            if self._failure or self._handle < 0:
                return self._failure and f"the disk did not take earlier records ({self._failure})"
            try:
                if not os.path.samestat(os.fstat(self._handle), os.stat(self.path)):
                    return "another file has its name"
                system = os.fstatvfs(self._handle)
                if system.f_blocks and not system.f_bavail:
                    return os.strerror(errno.ENOSPC)
                if self._refusal:
                    os.fsync(self._handle)
                    self._refusal = ""
            except OSError as error:
                return error.strerror or str(error)
            return ""

    def sync(self) -> None:
        """Wait until the disk has everything.

        Raises:
            SlatewiseError: it does not; nothing is appended until a later call succeeds.
        """
        with self._syncing:
            with self._guard:
                if self._handle < 0 or not (self._pending or self._failure):
                    return
                handle, count = os.dup(self._handle), len(self._pending)
                lost = bytes(self._pending) if self._failure else None
            try:
                if lost is not None:
                    self._write_again(lost)
                os.fsync(handle)
            except OSError as error:
                self._failure = error.strerror or str(error)
                raise SlatewiseError(f"{self.path}: {self._failure}. Make room, or check the disk.") from error
            finally:
                os.close(handle)
            with self._guard:
                del self._pending[:count]
                self._failure = ""

    def close(self) -> None:
        """Sync and close; a second call does nothing."""
        try:
            self.sync()
        finally:
            with self._guard:
                if self._handle >= 0:
                    os.close(self._handle)
                    self._handle = -1

    def _take_back(self, error: OSError) -> None:
        """Remove a batch that was not written whole: its sender hears that nothing was recorded."""
        self._refusal = error.strerror or str(error)
        try:
            os.ftruncate(self._handle, self.size)
        except OSError as failure:
            self._failure = failure.strerror or str(failure)
            raise UncertainError(
                f"{self.path}: {error.strerror}; what was written of it could not be removed ({self._failure})."
            ) from error
        raise SlatewiseError(f"{self.path}: {error.strerror}. Nothing was recorded.") from error

    def _write_again(self, lines: bytes) -> None:
        """Write the last lines once more where they stand, so that their pages are written to the disk again."""
        # a handle of its own: one that appends writes at the end, whatever place it is given
        handle = os.open(self.path, os.O_WRONLY)
        try:
            os.ftruncate(handle, self.size)
            written = 0
            while written < len(lines):
                written += os.pwrite(handle, lines[written:], self.size - len(lines) + written)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _cut_torn_line(self) -> int:
        """Truncate the file behind its last whole line; gives its length."""
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
