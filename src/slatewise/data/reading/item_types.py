"""Every column of an item table under its name in the file, as numbers, truth values, dates, text or lists of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import polars as pl

from slatewise.data.reading.column_aliases import is_feature, recbole
from slatewise.data.reading.convert import is_filled, numbers
from slatewise.data.reading.movielens import FLAG
from slatewise.data.reading.tables import Table
from slatewise.data.reading.times import to_microseconds

GENRES = "genres"
"""The column that holds the labels of a table with one 0/1 column a label."""


def typed_columns(
    table: Table, columns: Mapping[str, str], labels: pl.Series | None, labels_column: str | None
) -> list[pl.Series]:
    """The columns of an item table but that of the names, each with the type that all of its cells have.

    Text that is a number, true or false, an ISO 8601 date or time in every filled cell has that type; a feature is a
    number where its cell is one. Columns without a filled cell, and those of objects or of lists of other things than
    text, are left out.

    Args:
        table: one item a row.
        columns: canonical name → name in the file: item_id, and text where there is one.
        labels: lists of text, read off `labels_column` or off columns of 0 and 1.
        labels_column: name of the column with labels; None where there is none.
    """
    typed: dict[str, pl.Series] = {}
    for name, values in _columns(table, columns, labels, labels_column):
        heading = recbole(name)[0]
        if len(values) and values.null_count() < len(values):
            typed.setdefault(name if heading in typed else heading, values)
    return [values.alias(name) for name, values in typed.items()]


def _columns(
    table: Table, columns: Mapping[str, str], labels: pl.Series | None, labels_column: str | None
) -> Iterator[tuple[str, pl.Series]]:
    id_column, text_column = columns["item_id"], columns.get("text")
    for name, values in table.frame.to_dict().items():
        if name == id_column or name.startswith(FLAG):
            continue
        if labels is not None and name == labels_column and _is_list(table, name, values):
            yield name, labels
        elif name in table.nested or (
            name != text_column and values.dtype == pl.String and _is_list(table, name, values)
        ):
            if (lists := _lists(table, name, values)) is not None:
                yield name, lists
        elif is_feature(name) and values.dtype == pl.String:
            yield name, _feature(values)
        elif (column := of_one_type(values)) is not None:
            yield name, column
    if labels is not None and labels_column is None:
        yield GENRES, labels


def _is_list(table: Table, name: str, values: pl.Series) -> bool:
    """Whether a column holds several texts a cell, with bars and no spaces between them, or a RecBole type for that."""
    if name in table.nested or recbole(name)[1] == "token_seq":
        return True
    bars = values.str.contains("|", literal=True).any() if values.dtype == pl.String else False
    return bool(bars) and not values.str.contains(r"\|\s|\s\|").any()


def _lists(table: Table, name: str, values: pl.Series) -> pl.Series | None:
    """A column of lists of text; None where it holds anything else."""
    if isinstance(values.dtype, pl.List):
        inner = values.dtype.inner
        is_text = inner == pl.String or isinstance(inner, pl.Categorical | pl.Enum)
        return values.cast(pl.List(pl.String)) if is_text else None
    if name not in table.nested:
        words = values.str.strip_chars().replace("", None)
        return words.str.split(" " if recbole(name)[1] == "token_seq" else "|")
    # JSON lines: lists of text were joined, other cells are null
    is_text = table.nested[name].kind == "a list" and values.dtype == pl.String and table.is_nested(name)
    return values.str.split("|") if is_text else None


def _feature(values: pl.Series) -> pl.Series:
    """Numbers where most filled cells hold one; the other cells are unknown, as the note on the feature says."""
    column = of_one_type(values)
    if column is not None and column.dtype.is_numeric():
        return column
    parsed, filled = numbers(values), is_filled(values)
    most = 2 * int((parsed.is_null() & filled).sum()) <= int(filled.sum())
    return parsed if most or column is None else column


def of_one_type(values: pl.Series) -> pl.Series | None:
    """A column as integers, floats, truth values, dates, times in UTC, text or lists of text; None for other types."""
    dtype = values.dtype
    if dtype == pl.String:
        return _of_text(values)
    if dtype in (pl.Boolean, pl.Date, pl.Float32, pl.Float64) or dtype == pl.List(pl.String):
        return values
    if dtype.is_integer():
        narrow = values.cast(pl.Int64, strict=False)
        return narrow if narrow.null_count() == values.null_count() else values.cast(pl.Float64)
    if dtype.is_decimal():
        return values.cast(pl.Float64)
    if isinstance(dtype, pl.Datetime):
        zoned = values.dt.replace_time_zone("UTC") if dtype.time_zone is None else values.dt.convert_time_zone("UTC")
        return zoned.dt.cast_time_unit("us")
    return values.cast(pl.String) if isinstance(dtype, pl.Categorical | pl.Enum) else None


def _of_text(values: pl.Series) -> pl.Series:
    """Text as the first type that holds every filled cell."""
    words = values.str.strip_chars().replace("", None)
    filled = words.drop_nulls()
    for pattern, convert in _CONVERSIONS.items():
        if len(filled) and filled.str.contains(pattern).all():
            typed = convert(words)
            if typed.null_count() == words.null_count():
                return typed
    return words


def _times(words: pl.Series) -> pl.Series:
    return to_microseconds(words, "iso")[0].cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


_CONVERSIONS: Mapping[str, Callable[[pl.Series], pl.Series]] = {
    # digits after a leading 0 make a code, which is text
    r"^-?(0|[1-9][0-9]{0,17})$": lambda words: words.cast(pl.Int64),
    r"^-?(0|[1-9][0-9]*)?(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$": lambda words: words.cast(pl.Float64, strict=False),
    r"^(?i)(true|false)$": lambda words: words.str.to_lowercase() == "true",
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$": lambda words: words.str.to_date("%Y-%m-%d", strict=False),
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}": _times,
}
