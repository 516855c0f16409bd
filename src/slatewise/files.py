"""Atomic writing of files and folders: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slatewise.errors import SlatewiseError

_HERE = -100
"""AT_FDCWD of Linux: paths start from the current folder."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux's renameat2(2)."""
_CANNOT_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it becomes `path`, on an error it is removed.

    Raises:
        SlatewiseError: the folder cannot be written.
    """
    temporary = _beside(path)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it replaces `path`, on an error it is removed.

    A reader sees the old folder or the new one: the two exchange their names at one moment (`exchange`). Where the
    system cannot do that, the old folder is renamed first, and for a moment neither has the name; what a kill in that
    moment left is put back by the next call. Leftovers of a killed run (`.NAME.*.partial`) are removed first.
    """
    temporary = _beside(path)
    name = glob.escape(path.name)
    for old in path.parent.glob(f".{name}.*.old"):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, path)
    for leftover in path.parent.glob(f".{name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in (*temporary.rglob("*"), temporary):
            _flush(file)
        if path.exists():
            _replace_folder(temporary, path)
        else:
            os.rename(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Put a folder in the place of another, which is removed or left under the name of the new one."""
    try:
        exchange(new, path)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        old = new.with_suffix(".old")
        os.rename(path, old)
        try:
            os.rename(new, path)
        except OSError:
            os.rename(old, path)
            raise
        shutil.rmtree(old)


def exchange(first: Path, second: Path) -> None:
    """Give two files or folders each other's name, at one moment.

    Raises:
        OSError: ENOSYS, EINVAL or EOPNOTSUPP where the system or the file system cannot do that.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError) as error:
        raise OSError(errno.ENOSYS, "the system cannot exchange two names") from error
    if renameat2(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(first), None, str(second))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlatewiseError(f"{path.parent} cannot be created: {error.strerror}. Use another folder.") from error
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    os.unlink(name)
    return Path(name)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
