"""One file as a table of raw columns, with the line of every row and the lines that are broken."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from jaxtyping import Int

from slatewise.data.reading import lines as exact
from slatewise.data.reading.content import PARQUET, read_text
from slatewise.data.reading.dialect import UNIT_SEPARATOR, Dialect
from slatewise.data.reading.faults import quote
from slatewise.data.reading.lines import BrokenLines
from slatewise.errors import InputError, input_error


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The readable rows of a file."""

    file: Path
    frame: pl.DataFrame
    """Columns under their names in the file; text where the file is text."""
    lines: Int[np.ndarray, "R"] | None
    """Line of every row; None where rows have no lines (Parquet)."""
    broken: tuple[BrokenLines, ...] = ()
    """Lines that are not in the frame."""

    def line(self, row: int) -> int:
        """Line of a row (0-based); its 1-based number where rows have no lines."""
        return row + 1 if self.lines is None else int(self.lines[row])

    def broken_error(self, advice: str = "") -> InputError:
        """The error about the first broken line."""
        first = min(self.broken, key=lambda each: int(each.lines[0]))
        names = self.frame.columns
        column = names[first.column] if first.column is not None and first.column < len(names) else None
        return input_error(
            first.what,
            file=self.file,
            row=int(first.lines[0]),
            column=column,
            advice=" ".join(part for part in (advice, first.advice) if part),
        )


def read_delimited(file: Path, dialect: Dialect, *, encoding: str = "utf-8") -> Table:
    """Read delimited text; lines with a wrong number of fields, NULs or invalid UTF-8 are left out and reported.

    Args:
        file: path.
        dialect: its format.
        encoding: utf-8, or latin-1 for old files.

    Raises:
        InputError: the file cannot be read, or its quotes and line ends disagree about the records.
    """
    source: bytes | Any = read_text(file)
    plain_file = encoding == "utf-8" and len(dialect.delimiter) == 1 and not dialect.bom
    text = source
    if not plain_file:
        text = bytes(source).removeprefix(codecs.BOM_UTF8)
        if encoding != "utf-8":
            text = text.decode(encoding).encode()
        if len(dialect.delimiter) > 1:
            text = text.replace(dialect.delimiter.encode(), UNIT_SEPARATOR.encode())
    delimiter = dialect.delimiter if len(dialect.delimiter) == 1 else UNIT_SEPARATOR
    records = exact.scan(text, delimiter=delimiter, quoted=dialect.quoted)
    used = np.flatnonzero(~records.blank)
    skip = int(used[0]) + 1 if dialect.header and len(used) else 0
    broken = exact.find_broken(text, records, num_fields=len(dialect.names))
    body = np.arange(skip, len(records.starts))
    bad = np.concatenate([each.lines for each in broken]) if broken else np.zeros(0, np.int64)
    keep = body[~records.blank[body] & ~np.isin(records.numbers[body], bad)]
    if len(keep) and keep[-1] - keep[0] + 1 == len(keep):
        # the common case: one slice of the mapped file, without its header
        text = text[int(records.starts[keep[0]]) : int(records.ends[keep[-1]])]
    else:
        text = b"".join(text[int(records.starts[index]) : int(records.ends[index])] for index in keep)
    frame = _parse(text, delimiter, dialect, file)
    if len(frame) != len(keep):
        raise input_error(
            f"{len(keep):,} records by their line ends, but {len(frame):,} by their quotes",
            file=file,
            advice='Quotes inside a value must be doubled (""), and the value quoted as a whole.',
        )
    frame.columns = list(dialect.names)
    return Table(file=file, frame=frame, lines=records.numbers[keep], broken=tuple(broken))


def _parse(text: bytes, delimiter: str, dialect: Dialect, file: Path) -> pl.DataFrame:
    schema = {f"column {index}": pl.String for index in range(len(dialect.names))}
    if not text.strip(b"\r\n"):
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_csv(
            text,
            has_header=False,
            separator=delimiter,
            quote_char='"' if dialect.quoted else None,
            schema=schema,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        raise input_error(f"cannot be read: {str(error).splitlines()[0]}", file=file) from error


def read_parquet(file: Path, columns: Collection[str] | None = None) -> Table:
    """Read columns of a Parquet file.

    Raises:
        InputError: damaged or cut short.
    """
    try:
        with file.open("rb") as stream:
            stream.seek(max(file.stat().st_size - len(PARQUET), 0))
            whole = stream.read() == PARQUET
        if not whole:
            raise input_error(
                "the Parquet file is cut short: its last bytes are missing",
                file=file,
                advice="Copy or download it again, whole.",
            )
        names = None if columns is None else [name for name in parquet_names(file) if name in columns]
        return Table(file=file, frame=pl.read_parquet(file, columns=names, use_pyarrow=False), lines=None)
    except OSError as error:
        raise input_error(f"cannot be read: {error.strerror}", file=file, advice="Check its permissions.") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise input_error(
            f"damaged Parquet: {str(error).splitlines()[0]}", file=file, advice="Copy or download it again, whole."
        ) from error


def parquet_names(file: Path) -> list[str]:
    """Names of the columns of a Parquet file.

    Raises:
        InputError: damaged or cut short.
    """
    try:
        return list(pl.read_parquet_schema(file))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise input_error(
            f"damaged or cut short Parquet: {str(error).splitlines()[0]}",
            file=file,
            advice="Copy or download it again, whole.",
        ) from error


def read_json(file: Path) -> Table:
    """Read the objects of JSON lines as columns of text; lines that are not flat objects are left out and reported.

    Raises:
        InputError: the file cannot be read.
    """
    text = bytes(read_text(file)).removeprefix(codecs.BOM_UTF8)
    decode = msgspec.json.Decoder().decode
    columns: dict[str, list[str | None]] = {}
    numbers: list[int] = []
    faults: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _object(line, decode)
        except _BrokenLineError as error:
            faults.setdefault(error.check, []).append((number, error.what))
            continue
        for name in [name for name in row if name not in columns]:
            columns[name] = [None] * len(numbers)
        for name, values in columns.items():
            values.append(row.get(name))
        numbers.append(number)
    broken = [
        BrokenLines(
            check=check,
            lines=np.array([line for line, _ in failures], np.int64),
            what=failures[0][1],
            advice="Correct or remove the line.",
        )
        for check, failures in faults.items()
    ]
    frame = pl.DataFrame({name: pl.Series(values, dtype=pl.String) for name, values in columns.items()})
    return Table(file=file, frame=frame, lines=np.array(numbers, np.int64), broken=tuple(broken))


class _BrokenLineError(Exception):
    def __init__(self, check: str, what: str) -> None:
        self.check, self.what = check, what


def _object(line: bytes, decode: Any) -> dict[str, str | None]:
    """The values of a line of JSON as text."""
    if len(line) > exact.LONGEST:
        raise _BrokenLineError(
            f"no line is longer than {exact.LONGEST:,} bytes",
            f"the line has {len(line):,} bytes; expected at most {exact.LONGEST:,}",
        )
    if b"\0" in line:
        raise _BrokenLineError("there are no NUL bytes", "a NUL byte (expected text)")
    try:
        value = decode(line)
    except UnicodeDecodeError as error:
        raise _BrokenLineError("the text is UTF-8", f"byte 0x{line[error.start]:02X} is not valid UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        cut = "cut short" if "truncated" in str(error) else "not valid JSON"
        raise _BrokenLineError("every line is JSON", f"{cut}: {error} (expected one JSON object per line)") from None
    if not isinstance(value, dict):
        what = f"{quote(str(value))} is not an object (expected one JSON object per line)"
        raise _BrokenLineError("every line is a JSON object", what)
    row: dict[str, str | None] = {}
    for name, cell in value.items():
        if isinstance(cell, list | dict):
            kind = "a list" if isinstance(cell, list) else "an object"
            what = f'"{name}" holds {kind} (expected text, a number, true, false or null)'
            raise _BrokenLineError("values are flat", what)
        row[name] = cell if isinstance(cell, str | None) else str(cell).lower()
    return row
