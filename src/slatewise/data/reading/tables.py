"""One file as a table of raw columns, with the line of every row and the lines that are broken."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int

from slatewise.data.reading import lines as exact
from slatewise.data.reading.content import PARQUET, read_text
from slatewise.data.reading.dialect import UNIT_SEPARATOR, Dialect
from slatewise.data.reading.lines import BrokenLines
from slatewise.errors import InputError, input_error


@dataclass(frozen=True, kw_only=True, eq=False)
class NestedCells:
    """Cells of a column that hold a list or an object."""

    rows: Int[np.ndarray, "N"]
    """0-based, ascending."""
    kind: str
    """Of the first of them: "a list" or "an object"."""


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
    nested: Mapping[str, NestedCells] = field(default_factory=dict)
    """Column → its cells that hold a list or an object."""

    def line(self, row: int) -> int:
        """Line of a row (0-based); its 1-based number where rows have no lines."""
        return row + 1 if self.lines is None else int(self.lines[row])

    def is_nested(self, column: str) -> bool:
        """Whether every filled cell of a column holds a list or an object."""
        if column not in self.nested:
            return False
        filled = self.frame[column].is_not_null().to_numpy().copy()
        filled[self.nested[column].rows] = True
        return int(filled.sum()) == len(self.nested[column].rows)

    def without_nested(self, columns: Collection[str]) -> Table:
        """The table without the rows that hold a list or an object in one of these columns; they are broken lines."""
        keep = np.ones(self.frame.height, np.bool_)
        broken = list(self.broken)
        for name in columns:
            cells = self.nested.get(name)
            if cells is not None:
                keep[cells.rows] = False
                broken.append(
                    BrokenLines(
                        check="values are flat",
                        lines=np.array([self.line(row) for row in cells.rows.tolist()], np.int64),
                        what=f'"{name}" holds {cells.kind} (expected text, a number, true, false or null)',
                        advice="Write the value into a column of its own, and say which: --column COLUMN=NAME. "
                        "Correct or remove the line.",
                        column=self.frame.columns.index(name),
                    )
                )
        if keep.all():
            return self
        lines = None if self.lines is None else self.lines[keep]
        return replace(self, frame=self.frame.filter(pl.Series(keep)), lines=lines, broken=tuple(broken), nested={})

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
        frame = pl.read_parquet(file, columns=names, use_pyarrow=False)
        return Table(file=file, frame=frame, lines=None, nested=_nested_columns(frame))
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
    return list(_columns(file))


def _nested_columns(frame: pl.DataFrame) -> dict[str, NestedCells]:
    return {
        name: NestedCells(
            rows=frame[name].is_not_null().arg_true().to_numpy().astype(np.int64),
            kind="an object" if isinstance(dtype, pl.Struct) else "a list",
        )
        for name, dtype in frame.schema.items()
        if dtype.is_nested()
    }


def parquet_nested(file: Path) -> set[str]:
    """Names of the columns of a Parquet file that hold lists or objects.

    Raises:
        InputError: damaged or cut short.
    """
    return {name for name, is_nested in _columns(file).items() if is_nested}


def _columns(file: Path) -> dict[str, bool]:
    """Whether each column holds lists or objects."""
    try:
        return {name: dtype.is_nested() for name, dtype in pl.read_parquet_schema(file).items()}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise input_error(
            f"damaged or cut short Parquet: {str(error).splitlines()[0]}",
            file=file,
            advice="Copy or download it again, whole.",
        ) from error
