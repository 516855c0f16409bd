"""Records of a text file: their bytes, line numbers and fields, and the lines that are broken.

One pass over the bytes in blocks, with array operations: about .1 s for 10⁶ lines. A fast parser can then do the
parsing, and any fault can be reported with its line number.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

LONGEST = 1 << 20
"""Maximum length of a line, in bytes."""
_BLOCK = 1 << 24
_NEWLINE, _RETURN, _QUOTE = 10, 13, 34


@dataclass(frozen=True, kw_only=True, eq=False)
class BrokenLines:
    """Lines without a usable record, for one reason."""

    check: str
    """What should hold."""
    lines: Int[np.ndarray, "N"]
    """Line numbers, ascending."""
    what: str
    """What is wrong with the first of them, and what was expected."""
    advice: str
    column: int | None = None
    """0-based field of the first of them in which the fault is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lines:
    """The records of a text, as arrays."""

    starts: Int[np.ndarray, "N"]
    """First byte of every record."""
    ends: Int[np.ndarray, "N"]
    """First byte after the line end."""
    numbers: Int[np.ndarray, "N"]
    """Line on which the record begins; 1 = first line of the file."""
    fields: Int[np.ndarray, "N"]
    blank: Bool[np.ndarray, "N"]
    """Whether the line is empty."""
    open_quote: bool
    """The last record ends inside a quoted field."""


def scan(text: bytes | mmap.mmap, *, delimiter: str, quoted: bool, begin: int = 0, line: int = 1) -> Lines:
    """Find the records of a text.

    Args:
        text: bytes of the file.
        delimiter: one ASCII character.
        quoted: a field may stand in double quotes, and then contain delimiters and line ends (RFC 4180).
        begin: first byte to scan.
        line: its line number.
    """
    ends: list[Int[np.ndarray, "N"]] = []
    every: list[Int[np.ndarray, "N"]] = []
    totals: list[Int[np.ndarray, "N"]] = []
    separator = ord(delimiter)
    total, inside = 0, False
    size = len(text)
    for start in range(begin, size, _BLOCK):
        block = np.frombuffer(text[start : start + _BLOCK], np.uint8)
        is_end = block == _NEWLINE
        is_separator = block == separator
        end_positions = np.flatnonzero(is_end)
        every.append(end_positions + start)
        if quoted:
            quotes = block == _QUOTE
            if inside or quotes.any():
                # parity of the quotes so far: True inside a quoted field, whatever block it began in
                within = np.bitwise_xor.accumulate(quotes) ^ inside
                inside = bool(within[-1])
                is_separator &= ~within
                end_positions = end_positions[~within[end_positions]]
        separated = np.flatnonzero(is_separator)
        ends.append(end_positions + start)
        totals.append(np.searchsorted(separated, end_positions) + total)
        total += len(separated)
    last, newlines, separators = (np.concatenate([np.zeros(0, np.int64), *parts]) for parts in (ends, every, totals))
    # line ends inside quotes: line numbers then differ from record numbers
    hidden = len(newlines) > len(last)
    if begin < size and (not len(last) or last[-1] != size - 1):
        # the last line has no line end
        last, separators = np.append(last, size - 1), np.append(separators, total)
    starts = np.concatenate([[begin], last[:-1] + 1]) if len(last) else last
    lengths = last + 1 - starts
    blank = _blank(text, starts, lengths)
    return Lines(
        starts=starts,
        ends=last + 1,
        numbers=line + (np.searchsorted(newlines, starts) if hidden else np.arange(len(starts))),
        fields=np.diff(separators, prepend=0) + 1,
        blank=blank,
        open_quote=inside,
    )


def _blank(
    text: bytes | mmap.mmap, starts: Int[np.ndarray, "N"], lengths: Int[np.ndarray, "N"]
) -> Bool[np.ndarray, "N"]:
    blank: Bool[np.ndarray, "N"] = np.zeros(len(starts), np.bool_)
    for index in np.flatnonzero(lengths <= 2):
        blank[index] = not text[int(starts[index]) : int(starts[index] + lengths[index])].strip(b"\r\n")
    return blank


def find_broken(text: bytes | mmap.mmap, lines: Lines, *, num_fields: int | None) -> list[BrokenLines]:
    """Records that must not be passed to a parser.

    Args:
        text: bytes of the file.
        lines: its records.
        num_fields: fields that every record must have; None = any number.
    """
    faults: list[BrokenLines] = []
    if lines.open_quote:
        faults.append(
            BrokenLines(
                check="quotes are closed",
                lines=lines.numbers[-1:],
                what="a quote opens here and is never closed",
                advice='Close it, or double quotes that belong to the text ("").',
            )
        )
    if num_fields is not None:
        faults += _wrong_field_counts(lines, num_fields)
    faults += _too_long(lines)
    faults += _unreadable(text, lines)
    return faults


def _wrong_field_counts(lines: Lines, expected: int) -> list[BrokenLines]:
    ragged = np.flatnonzero((lines.fields != expected) & ~lines.blank)
    if lines.open_quote:
        ragged = ragged[ragged < len(lines.fields) - 1]
    if not len(ragged):
        return []
    record = int(ragged[0])
    count = int(lines.fields[record])
    next_line = int(lines.numbers[record + 1]) if record + 1 < len(lines.numbers) else int(lines.numbers[record]) + 1
    spans = next_line - int(lines.numbers[record])
    many = f" (the record spans {spans:,} lines: a quote may not be closed)" if spans > 1 else ""
    return [
        BrokenLines(
            check="every line has as many fields as the first",
            lines=lines.numbers[ragged],
            what=f"{count:,} field{'s' * (count != 1)}; expected {expected:,} as in the first line{many}",
            advice="A value that contains the delimiter needs quotes.",
            column=min(count, expected - 1),
        )
    ]


def _too_long(lines: Lines) -> list[BrokenLines]:
    sizes = lines.ends - lines.starts
    long = np.flatnonzero(sizes > LONGEST)
    if lines.open_quote:
        long = long[long < len(sizes) - 1]
    if not len(long):
        return []
    return [
        BrokenLines(
            check=f"no line is longer than {LONGEST:,} bytes",
            lines=lines.numbers[long],
            what=f"the line has {int(sizes[long[0]]):,} bytes; expected at most {LONGEST:,}",
            advice="Line ends may be missing: split or remove the line.",
        )
    ]


def _unreadable(text: bytes | mmap.mmap, lines: Lines) -> list[BrokenLines]:
    """NUL bytes, and bytes that are not valid UTF-8."""
    nul: list[int] = []
    wrong: list[int] = []
    what = ""
    record = 0
    while record < len(lines.starts):
        begin = int(lines.starts[record])
        # the records of one block: whole ones, so that no character is cut
        following = max(int(np.searchsorted(lines.ends, begin + _BLOCK)), record + 1)
        piece = text[begin : int(lines.ends[following - 1])]
        if b"\0" in piece or not _is_utf8(piece):
            for index in range(record, following):
                line = text[int(lines.starts[index]) : int(lines.ends[index])]
                if b"\0" in line:
                    nul.append(index)
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    if not wrong:
                        what = f"byte 0x{line[error.start]:02X} at position {error.start + 1:,} is not valid UTF-8"
                    wrong.append(index)
        record = following
    faults = []
    if nul:
        faults.append(
            BrokenLines(
                check="there are no NUL bytes",
                lines=lines.numbers[nul],
                what="a NUL byte (expected text)",
                advice="The file is damaged there: copy it again, or remove the line.",
            )
        )
    if wrong:
        faults.append(
            BrokenLines(
                check="the text is UTF-8",
                lines=lines.numbers[wrong],
                what=f"{what}: the file has another encoding or mixes several",
                advice="Convert it to UTF-8: iconv -f LATIN1 -t UTF-8 FILE > NEW",
            )
        )
    return faults


def _is_utf8(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True
