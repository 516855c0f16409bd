"""Item tables in common formats, converted to item_id, text, labels and feature_… columns."""

from __future__ import annotations

import polars as pl

from slatewise.data.reading.columns import name_columns, plain, recbole
from slatewise.data.reading.convert import numbers, texts
from slatewise.data.reading.faults import quote
from slatewise.data.reading.item_table import FEATURE
from slatewise.data.reading.movielens import FLAG
from slatewise.data.reading.tables import Table
from slatewise.errors import input_error

_NUMERIC = ("year", "release_year", "price", "duration", "runtime", "length", "popularity")


def item_frame(table: Table) -> pl.DataFrame:
    """Items with their text, labels and numeric features; other columns are dropped.

    Labels come from one column (separated by bars; by spaces for the RecBole type token_seq) or from columns of 0 and
    1. Features are columns of RecBole type float, with "feature" in their name, or named year, price and so on, if
    every filled cell is a number.

    Args:
        table: one item per row, with a column for its name.

    Raises:
        InputError: an item without a name, or a repeated one.
    """
    raw = table.frame
    columns = name_columns(raw.columns).columns
    ids = texts(raw[columns["item_id"]])
    _check(ids, table, columns["item_id"])
    items = {"item_id": ids}
    if "text" in columns:
        items["text"] = texts(raw[columns["text"]]).str.strip_chars().replace("", None)
    flags = [name for name in raw.columns if name.startswith(FLAG)]
    if flags:
        marked = raw.select(
            pl.concat_list(pl.when(pl.col(name) == "1").then(pl.lit(name.removeprefix(FLAG))) for name in flags)
            .list.drop_nulls()
            .alias("labels")
        )
        items["labels"] = marked["labels"]
    elif "labels" in columns:
        items["labels"] = _labels(raw[columns["labels"]], spaced=recbole(columns["labels"])[1] == "token_seq")
    for name in raw.columns:
        alias = plain(name)
        if name in columns.values():
            continue
        if recbole(name)[1] == "float" or "feature" in alias or alias in _NUMERIC:
            values = numbers(raw[name])
            filled = raw[name].is_not_null()
            if filled.any() and not (values.is_null() & filled).any():
                items[f"{FEATURE}{alias.removeprefix(FEATURE)}"] = values
    return pl.DataFrame({name: values.alias(name) for name, values in items.items()})


def _labels(values: pl.Series, *, spaced: bool) -> pl.Series:
    words = texts(values)
    # "(no genres listed)" and the like are not labels
    words = words.set(words.str.starts_with("(").fill_null(value=False), None)
    if words.str.contains("|", literal=True).any():
        return words.str.split("|")
    return words.str.split(" ") if spaced else words.str.split("\x1f")


def _check(ids: pl.Series, table: Table, column: str) -> None:
    empty = (ids.is_null() | (ids == "")).fill_null(value=True)
    repeated = ~ids.is_first_distinct()
    for bad, what, advice in (
        (empty, "an item without a name (expected text or a whole number)", "Fill the cell or remove the row."),
        (repeated, "is here a second time (expected every item once)", "Keep one row per item."),
    ):
        if bad.any():
            row = int(bad.arg_max() or 0)
            name = quote(ids[row]) + " " if bad is repeated else ""
            raise input_error(
                name + what,
                file=table.file,
                row=table.line(row),
                column=column,
                advice=f"Nothing was imported. {advice}",
            )
