"""The kind of content of a file, from its first bytes: Parquet, JSON lines, delimited text, or unsupported."""

from __future__ import annotations

import codecs
import gzip
import mmap
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Literal

from slatewise.data.reading.lines import LONGEST
from slatewise.errors import input_error

HEAD = 1 << 16
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
Content = Literal["parquet", "json", "text"]
_ARCHIVES = {
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "Unzip it, or save the sheet as CSV."),
    b"BZh": ("compressed with bzip2", "Unpack it: bunzip2 -k FILE."),
    b"\xfd7zXZ": ("compressed with xz", "Unpack it: xz -dk FILE."),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "Unpack it: zstd -d FILE."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it."),
    b"Rar!": ("a rar archive", "Unpack it."),
}
_WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = bytes(set(range(32)) - {9, 10, 12, 13, 27}) + b"\x7f"


def content(file: Path) -> Content:
    """The kind of content of a file.

    Raises:
        InputError: empty, binary, an archive, UTF-16, a web page, or unreadable; with advice.
    """
    head = read_head(file)
    if head.startswith(PARQUET):
        return "parquet"
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if not start:
        raise input_error("the file is empty", file=file, advice="Check that it was copied or downloaded whole.")
    _refuse(head, start, file)
    if start.startswith(b"["):
        raise input_error(
            "a JSON array (expected one JSON object per line)",
            file=file,
            row=1,
            advice="Convert it to lines: jq -c '.[]' FILE > FILE.jsonl",
        )
    if re.match(rb"\{\s*\n", start):
        raise input_error(
            "a JSON object over several lines (expected one object per line)",
            file=file,
            row=1,
            advice="Convert it to lines: jq -c . FILE > FILE.jsonl",
        )
    if b"\n" not in head and len(head) > LONGEST:
        raise input_error(
            f"its first line has more than {LONGEST:,} bytes",
            file=file,
            row=1,
            advice="Keep the columns that are needed, or split the line where line ends are missing.",
        )
    if b"\n" not in head and b"\r" in start:
        raise input_error(
            "its lines end with a carriage return alone",
            file=file,
            row=1,
            advice="Convert the line ends: tr '\\r' '\\n' < FILE > NEW",
        )
    return "json" if start.startswith(b"{") else "text"


def read_head(file: Path) -> bytes:
    """The first bytes of a file, decompressed where it is gzip; more than HEAD where its first line is longer.

    Raises:
        InputError: the file cannot be read.
    """
    with _input_errors(file), file.open("rb") as stream:
        if stream.read(2) == GZIP:
            with gzip.open(file) as packed:
                return _first_bytes(packed)
        stream.seek(0)
        return _first_bytes(stream)


def _first_bytes(stream: BufferedIOBase) -> bytes:
    head = stream.read(HEAD)
    if len(head) == HEAD and b"\n" not in head:
        head += stream.read(LONGEST)
    return head


def read_text(file: Path) -> bytes | mmap.mmap:
    """All bytes of a text file: decompressed where it is gzip, else memory-mapped.

    Raises:
        InputError: the file cannot be read, or its gzip data is damaged or cut short.
    """
    with _input_errors(file), file.open("rb") as stream:
        if stream.read(2) == GZIP:
            return gzip.decompress(file.read_bytes())
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


@contextmanager
def _input_errors(file: Path) -> Iterator[None]:
    """Turn errors of reading a file into input errors."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise input_error(
            f"the gzip data is damaged or cut short: {error}", file=file, advice="Copy or download it again, whole."
        ) from error
    except OSError as error:
        raise input_error(f"cannot be read: {error.strerror}", file=file, advice="Check its permissions.") from error


def _refuse(head: bytes, start: bytes, file: Path) -> None:
    for magic, (kind, advice) in _ARCHIVES.items():
        if head.startswith(magic):
            raise input_error(f"the file is {kind}", file=file, advice=advice)
    nul = head.count(0)
    if head.startswith(_WIDE) or (nul and _alternates(head)):
        raise input_error(
            "the file is in UTF-16 or UTF-32 (expected UTF-8)",
            file=file,
            row=1,
            advice="Convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW",
        )
    # a stray NUL is a fault of one line; this share of control characters means binary
    if len(head.translate(None, _CONTROL)) < 0.95 * len(head):
        raise input_error(
            "the file is binary (expected text, Parquet or JSON lines)",
            file=file,
            advice="Export the log as CSV, TSV, JSON lines or Parquet.",
        )
    if start[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise input_error(
            "the file is a web page or XML", file=file, row=1, advice="The download failed: fetch it again."
        )
    if start.startswith(b"version https://git-lfs"):
        raise input_error("the file is a Git LFS pointer, not the data", file=file, row=1, advice="Run: git lfs pull")


def _alternates(head: bytes) -> bool:
    """True for two-byte characters of mostly ASCII text: every other byte is 0, and the others are printable."""
    for zeros, letters in ((head[1::2], head[0::2]), (head[0::2], head[1::2])):
        if zeros.count(0) > 0.8 * len(zeros) and len(letters.translate(None, _CONTROL)) > 0.9 * len(letters):
            return True
    return False
