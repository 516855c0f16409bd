"""Files that list users or items: one name a line, or a table with a column of names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slatewise.data.reading.checks import CONTEXT
from slatewise.data.reading.column_aliases import name_columns
from slatewise.data.reading.content import content, read_head, read_text
from slatewise.data.reading.convert import numbers
from slatewise.data.reading.dialect import find_dialect
from slatewise.data.reading.json_lines import read_json
from slatewise.data.reading.name_forms import texts
from slatewise.data.reading.tables import Table, read_delimited, read_parquet
from slatewise.errors import input_error


def read_name_list(file: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Names as text, and context columns as numbers, of a file with at least one of some columns.

    Args:
        file: Parquet, JSON lines, delimited text with a header, or text with one name a line.
        columns: canonical names, such as user_id and item_id; a file of single names holds the first one.

    Raises:
        InputError: no such file, none of the columns, a broken line, an empty name, a number that is none, or no row.
    """
    table = read_request_table(file, columns)
    file_columns = name_columns(table.frame.columns).columns
    if not set(columns) & file_columns.keys():
        listed = ", ".join(table.frame.columns[:12])
        raise input_error(f"no column {' or '.join(columns)}; the file has: {listed}", file=file)
    if table.frame.height == 0:
        raise input_error(f"it lists no {columns[0]}", file=file, advice="Check that it is the right file.")
    result: dict[str, pl.Series] = {}
    for name, of_file in file_columns.items():
        if name in columns:
            result[name] = texts(table.frame[of_file]).str.strip_chars().replace("", None)
        elif name.startswith(CONTEXT):
            result[name] = numbers(table.frame[of_file])
    for name, values in result.items():
        empty = values.is_null().arg_true()
        if len(empty):
            expected = "a number" if name.startswith(CONTEXT) else "a name"
            raise input_error(
                f"the cell is empty or unreadable; expected {expected}",
                file=file,
                row=table.line(int(empty[0])),
                column=name,
                advice=f"{len(empty):,} of {len(values):,} rows are like this. Correct or remove them.",
            )
    return pl.DataFrame(result)


def read_request_table(file: Path, columns: Sequence[str]) -> Table:
    """The rows of such a file.

    Args:
        file: see `read_name_list`.
        columns: canonical names.

    Raises:
        InputError: no such file, or a broken line.
    """
    if not file.is_file():
        raise input_error("no such file", file=file, advice="Check the path.")
    table = _read(file, columns)
    if table.broken:
        raise table.broken_error()
    return table


def _read(file: Path, columns: Sequence[str]) -> Table:
    kind = content(file)
    if kind == "parquet":
        return read_parquet(file)
    if kind == "json":
        return read_json(file)
    dialect = find_dialect(read_head(file), file=file)
    if dialect.header and set(columns) & name_columns(dialect.names).columns.keys():
        return read_delimited(file, dialect)
    text = bytes(read_text(file)).decode(errors="replace")
    names = [line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
    if any(mark in names[0] for mark in ",\t;|"):
        raise input_error(
            f"its first line names no column {' or '.join(columns)}",
            file=file,
            row=1,
            advice="Expected a header, or one name a line.",
        )
    header = name_columns(names[:1]).columns
    if header:
        return Table(file=file, frame=pl.DataFrame({names[0]: pl.Series(names[1:], dtype=pl.String)}), lines=None)
    return Table(file=file, frame=pl.DataFrame({columns[0]: names}), lines=None)
