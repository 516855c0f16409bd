"""Tables of users in common formats: numbers and categories by the name of the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Float

from slatewise.data.reading.column_aliases import name_columns, plain
from slatewise.data.reading.convert import is_filled, numbers
from slatewise.data.reading.faults import quote
from slatewise.data.reading.item_files import check_ids
from slatewise.data.reading.item_table import LABEL_LIMIT
from slatewise.data.reading.name_forms import form_notes, texts
from slatewise.data.reading.recognition import recognise_users
from slatewise.data.reading.source import NOTHING
from slatewise.data.reading.tables import Table
from slatewise.errors import input_error
from slatewise.features import FeatureScale, standardise
from slatewise.log import Vocabulary
from slatewise.user_file import IN, UserTable


@dataclass(frozen=True, kw_only=True)
class UserColumns:
    """A table of users as it was read."""

    file: Path
    names: pa.StringArray
    columns: Mapping[str, pl.Series]
    """Float64 for a column of numbers, String for one of categories; null where a cell says nothing."""
    notes: tuple[str, ...]
    """On cells and columns that are not used."""


def read_user_columns(file: Path) -> UserColumns:
    """Read a table of users.

    A column in which most filled cells are numbers is one of numbers; other text is one of categories, if it has at
    most LABEL_LIMIT different ones.

    Raises:
        InputError: no such file, no column of users, a user without a name, or a repeated one.
    """
    if not file.is_file():
        raise input_error("no such file", file=file, advice="Check the path.")
    table = recognise_users(file).read()
    if table.broken:
        raise table.broken_error(NOTHING)
    id_column = name_columns(table.frame.columns).columns["user_id"]
    check_ids(texts(table.frame[id_column]), table, id_column, what="user")
    return columns_of(table, id_column)


def columns_of(table: Table, id_column: str) -> UserColumns:
    """The columns of a table that describe users; of several rows of a user, the first counts.

    Args:
        table: one user per row.
        id_column: where their names stand.
    """
    ids = texts(table.frame[id_column])
    notes = form_notes({id_column: table.frame[id_column]}, {id_column: ids})
    is_first = ids.is_first_distinct()
    features: dict[str, pl.Series] = {}
    for name in table.frame.columns:
        if name == id_column:
            continue
        values, note = _column(name, table)
        notes += [note] if note else []
        if values is not None:
            features[plain(name)] = values.filter(is_first)
    return UserColumns(
        file=table.file,
        names=ids.filter(is_first).to_arrow().cast(pa.string()),
        columns=features,
        notes=tuple(f"{table.file.name}: {note}" for note in notes),
    )


def fit_users(users: UserColumns) -> UserTable:
    """The features of a table, standardised over its users; a column of categories gives one each.

    Raises:
        InputError: no column that can be a feature.
    """
    features: list[Float[np.ndarray, " N"]] = []
    scales: list[FeatureScale] = []
    for name, values in users.columns.items():
        for feature, raw in _raw_features(name, values, None):
            standardised, scale = standardise(raw, name=feature)
            features.append(standardised)
            scales.append(scale)
    if not features:
        raise input_error(
            "no column describes the users: expected numbers, or at most "
            f"{LABEL_LIMIT} categories ({' '.join(users.notes)})",
            file=users.file,
            advice="Nothing was imported. Add such columns, or leave --users out.",
        )
    return _table(users.names, features, scales)


def encode_users(users: UserColumns, scales: Sequence[FeatureScale]) -> tuple[UserTable, tuple[str, ...]]:
    """The features of a table on given scales, and what could not be encoded.

    Args:
        users: the table.
        scales: of the features.
    """
    categories_of: dict[str, list[str]] = {}
    for scale in scales:
        column, is_category, category = scale.name.partition(IN)
        categories_of.setdefault(column, []).extend([category] if is_category else [])
    notes = list(users.notes)
    raw: dict[str, Float[np.ndarray, " N"]] = {}
    for name, values in users.columns.items():
        if name not in categories_of:
            notes.append(f'{users.file.name}: column "{name}" is no feature of the users here: not used.')
            continue
        categories = categories_of[name]
        if not categories and values.dtype == pl.String:
            notes.append(f'{users.file.name}: column "{name}" holds no numbers; expected numbers: not used.')
            continue
        words = values.cast(pl.String) if categories else values
        if categories:
            new = words.is_not_null() & ~words.is_in(categories)
            if new.any():
                first = quote(words.filter(new)[0])
                notes.append(
                    f'{users.file.name}: {int(new.sum()):,} cells of column "{name}" hold a value that is new, '
                    f"the first is {first}: they count as none of the known ones."
                )
        raw |= dict(_raw_features(name, words, categories or None))
    features = []
    for scale in scales:
        cells = raw.get(scale.name)
        if cells is None or scale.deviation == 0:
            features.append(np.zeros(len(users.names)))
        else:
            features.append(np.nan_to_num((cells - scale.mean) / scale.deviation))
    return _table(users.names, features, scales), tuple(notes)


def _table(
    names: pa.StringArray, features: Sequence[Float[np.ndarray, " N"]], scales: Sequence[FeatureScale]
) -> UserTable:
    values = np.stack(features, axis=1).astype(np.float32)
    return UserTable(users=Vocabulary(names=names, first=0, unknown=-1), values=values, scales=tuple(scales))


def _raw_features(
    name: str, values: pl.Series, categories: Sequence[str] | None
) -> list[tuple[str, Float[np.ndarray, " N"]]]:
    """Columns of numbers by name, NaN where a cell says nothing: the column itself, or 0 and 1 for each category.

    Args:
        name: of the column.
        values: of it.
        categories: the ones to encode; None = those that it holds.
    """
    if values.dtype != pl.String:
        return [(name, values.fill_null(float("nan")).to_numpy().astype(np.float64))]
    chosen = sorted(values.drop_nulls().unique().to_list()) if categories is None else categories
    is_empty = values.is_null().to_numpy()
    return [
        (f"{name}{IN}{category}", np.where(is_empty, np.nan, (values == category).fill_null(value=False).to_numpy()))
        for category in chosen
    ]


def _column(name: str, table: Table) -> tuple[pl.Series | None, str]:
    """A column as numbers or categories (None where it is neither), and a note on what is not used."""
    if name in table.nested:
        return None, f'column "{name}" holds {table.nested[name].kind}: not used.'
    raw = table.frame[name]
    as_numbers, filled = numbers(raw), is_filled(raw)
    num_filled, bad = int(filled.sum()), int((as_numbers.is_null() & filled).sum())
    if not num_filled:
        return None, f'column "{name}" is empty: not used.'
    if 2 * bad <= num_filled:
        row = int((as_numbers.is_null() & filled).arg_max() or 0)
        cells = f'column "{name}": {bad:,} of {num_filled:,} cells are not numbers, their value is unknown'
        return as_numbers, f"{cells} (the first is {quote(raw[row])}, line {table.line(row):,})." if bad else ""
    words = texts(raw).str.strip_chars().replace("", None)
    count = words.drop_nulls().n_unique()
    if count > LABEL_LIMIT:
        return None, f'column "{name}" has {count:,} different values, more than {LABEL_LIMIT}: not used.'
    return words, ""
