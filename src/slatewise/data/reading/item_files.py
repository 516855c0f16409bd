"""Item tables in common formats, converted to item_id, text, labels, feature_… and column_… columns."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from slatewise.data.reading.column_aliases import is_feature, item_columns, plain, recbole
from slatewise.data.reading.convert import is_filled, numbers
from slatewise.data.reading.faults import quote
from slatewise.data.reading.item_table import COLUMN, FEATURE
from slatewise.data.reading.item_types import typed_columns
from slatewise.data.reading.movielens import FLAG
from slatewise.data.reading.name_forms import form_notes, texts
from slatewise.data.reading.tables import Table
from slatewise.errors import input_error
from slatewise.names import CONTROL, LONGEST_NAME
from slatewise.wording import count_of


def item_frame(table: Table, assigned: Mapping[str, str] | None = None) -> tuple[pl.DataFrame, list[str]]:
    """Items with their text, labels, numeric features and typed columns, and notes on columns and cells.

    Labels come from one column (lists, or text separated by bars; by spaces for the RecBole type token_seq) or from
    columns of 0 and 1. Features are columns of RecBole type float, with "feature" in their name, or named year, price
    and so on, where most filled cells are numbers; the other cells are unknown. Every column that has a type is there
    as column_…, for filters.

    Args:
        table: one item per row, with a column for its name.
        assigned: canonical name → name in the file, where the user specified it.

    Raises:
        InputError: an item without a name, or a repeated one.
    """
    raw = table.frame
    columns = item_columns(raw.columns, assigned)
    id_column = columns["item_id"]
    if id_column in table.nested:
        raise input_error(
            f"it holds {table.nested[id_column].kind} (expected a name)",
            file=table.file,
            row=table.line(int(table.nested[id_column].rows[0])),
            column=id_column,
            advice="Nothing was imported. Write the column as text.",
        )
    items = {"item_id": texts(raw[id_column])}
    check_ids(items["item_id"], table, id_column, what="item")
    used = {id_column}
    if "text" in columns and columns["text"] not in table.nested:
        items["text"] = texts(raw[columns["text"]]).replace("", None)
        used.add(columns["text"])
    flags = [name for name in raw.columns if name.startswith(FLAG)]
    if flags:
        items["labels"] = _flag_labels(raw, flags)
        used |= {*flags}
    elif "labels" in columns:
        items["labels"] = _labels(raw[columns["labels"]], spaced=recbole(columns["labels"])[1] == "token_seq")
        used.add(columns["labels"])
    notes = form_notes({id_column: raw[id_column]}, {id_column: items["item_id"]})
    for name in raw.columns:
        if name not in used and name not in table.nested and is_feature(name):
            values, note = _feature(name, table)
            notes += [note] if note else []
            if values is not None:
                items[f"{FEATURE}{plain(name).removeprefix(FEATURE)}"] = values
                used.add(name)
    labels_column = columns.get("labels") if not flags else None
    typed = typed_columns(table, columns, items.get("labels"), labels_column)
    items |= {f"{COLUMN}{values.name}": values for values in typed}
    for_filters = {values.name for values in typed}
    described = [name for name in raw.columns if name not in used and {name, recbole(name)[0]} & for_filters]
    unused = [name for name in raw.columns if name not in used and name not in described]
    if described:
        notes.append(f"Kept, but read by no method: {count_of(len(described), 'column')}, {_list_of(described)}.")
    if unused:
        notes.append(f"Not used: {count_of(len(unused), 'column')}, {_list_of(unused)}.")
    frame = pl.DataFrame({name: values.alias(name) for name, values in items.items()})
    return frame, [f"{table.file.name}: {note}" for note in notes]


def _list_of(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names[:8]) + (" …" if len(names) > 8 else "")


def _flag_labels(raw: pl.DataFrame, flags: list[str]) -> pl.Series:
    return raw.select(
        pl.concat_list(pl.when(pl.col(name) == "1").then(pl.lit(name.removeprefix(FLAG))) for name in flags)
        .list.drop_nulls()
        .alias("labels")
    )["labels"]


def _feature(name: str, table: Table) -> tuple[pl.Series | None, str]:
    """A column of numbers (None where most cells are not numbers), and a note on cells that are not."""
    values = numbers(table.frame[name])
    filled = is_filled(table.frame[name])
    bad = values.is_null() & filled
    count, num_filled = int(bad.sum()), int(filled.sum())
    if not count:
        return (values if num_filled else None), ""
    row = int(bad.arg_max() or 0)
    cells = f"{count:,} of {num_filled:,} cells are not numbers"
    first = f"the first is {quote(table.frame[name][row])}, line {table.line(row):,}"
    if 2 * count > num_filled:
        return None, f'column "{name}" is not a feature: {cells} ({first}).'
    return values, f'column "{name}": {cells}, their value is unknown ({first}).'


def _labels(values: pl.Series, *, spaced: bool) -> pl.Series:
    if values.dtype == pl.List(pl.String):
        return values
    words = texts(values)
    # "(no genres listed)" and the like are not labels
    words = words.set(words.str.starts_with("(").fill_null(value=False), None)
    if words.str.contains("|", literal=True).any():
        return words.str.split("|")
    return words.str.split(" ") if spaced else words.str.split("\x1f")


def check_ids(ids: pl.Series, table: Table, column: str, *, what: str) -> None:
    """Refuse rows without a usable name of their own.

    Args:
        ids: names.
        table: of the rows.
        column: of the names.
        what: item or user.

    Raises:
        InputError: the first such row.
    """
    empty = (ids.is_null() | (ids == "")).fill_null(value=True)
    repeated = ~ids.is_first_distinct()
    unusable = (ids.str.contains(CONTROL) | (ids.str.len_bytes() > LONGEST_NAME)).fill_null(value=False)
    article = "an" if what == "item" else "a"
    for bad, fault, advice in (
        (
            empty,
            f"{article} {what} without a name (expected text or a whole number)",
            "Fill the cell or remove the row.",
        ),
        (
            unusable,
            f"has a control character or more than {LONGEST_NAME:,} bytes (expected a name on one line)",
            "Correct the name or remove the row.",
        ),
        (repeated, f"is here a second time (expected every {what} once)", f"Keep one row per {what}."),
    ):
        if bad.any():
            row = int(bad.arg_max() or 0)
            name = "" if bad is empty else quote(ids[row]) + " "
            raise input_error(
                name + fault,
                file=table.file,
                row=table.line(row),
                column=column,
                advice=f"Nothing was imported. {advice}",
            )
