"""The catalog from an item table: text, group and numeric features of every item of the vocabulary."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Float

from slatewise.data.item_columns import arrow_table
from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary

FEATURE = "feature_"
COLUMN = "column_"
LABEL_LIMIT = 128
"""Up to this many distinct labels become one feature each; with more, labels define only the group."""


def catalog(names: pa.StringArray, items: pl.DataFrame | None) -> Catalog:
    """The catalog of a vocabulary.

    Args:
        names: names of the items in the order of their numbers.
        items: item_id and, where available, text, group (text), labels (list of text: the first is the group where
            there is no group column; each becomes a 0/1 feature), feature_… and column_… columns. Items missing from it
            have no text, features 0 and unknown values in their columns.

    Raises:
        InputError: two rows for one item, or a row without item_id.
    """
    table = _one_row_each(items) if items is not None else pl.DataFrame({"item_id": []}, schema={"item_id": pl.String})
    vocabulary = pl.DataFrame({"item_id": pl.Series(values=pl.from_arrow(names), dtype=pl.String)})
    table = vocabulary.join(table, on="item_id", how="left", maintain_order="left")
    labels = table["labels"] if "labels" in table.columns else None
    text = table["text"].fill_null("").to_list() if "text" in table.columns else [""] * len(table)
    if "group" in table.columns:
        group = table["group"].fill_null("")
    elif labels is not None:
        group = labels.list.first().fill_null("")
    else:
        group = pl.Series(values=[""] * len(table), dtype=pl.String)
    group_names = ("", *sorted(name for name in group.unique().to_list() if name))
    number = {name: index for index, name in enumerate(group_names)}
    columns = [_standardise(table[name]) for name in table.columns if name.startswith(FEATURE)]
    if labels is not None:
        columns += _indicators(labels)
    features = np.zeros((len(table) + FIRST_ITEM, len(columns)), np.float32)
    for index, column in enumerate(columns):
        features[FIRST_ITEM:, index] = column
    return Catalog(
        vocabulary=Vocabulary(names=names),
        text=("",) * FIRST_ITEM + tuple(text),
        group=np.array([0] * FIRST_ITEM + [number[name] for name in group.to_list()], np.int64),
        group_names=group_names,
        features=features,
        columns=arrow_table(
            {name.removeprefix(COLUMN): table[name] for name in table.columns if name.startswith(COLUMN)}
        ),
    )


def _one_row_each(items: pl.DataFrame) -> pl.DataFrame:
    table = items.with_columns(pl.col("item_id").cast(pl.String))
    empty = table["item_id"].is_null() | (table["item_id"] == "")
    if empty.any():
        raise input_error(f"row {int(empty.arg_max() or 0) + 1:,} of the items has no item_id", column="item_id")
    repeated = table["item_id"].is_duplicated()
    if repeated.any():
        name = table["item_id"].filter(repeated)[0]
        raise input_error(f'the items name "{name}" twice', column="item_id", advice="Keep one row per item.")
    return table


def _standardise(column: pl.Series) -> Float[np.ndarray, "N"]:
    """Scale to mean 0 and standard deviation 1 over the known values; unknown values become the mean, 0."""
    values = column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy().astype(np.float64)
    is_known = np.isfinite(values)
    if not is_known.any():
        return np.zeros(len(values))
    deviation = float(values[is_known].std())
    centred = np.where(is_known, values - values[is_known].mean(), 0.0)
    return centred / deviation if deviation > 0 else np.zeros(len(values))


def _indicators(labels: pl.Series) -> list[Float[np.ndarray, "N"]]:
    names = sorted(label for label in labels.explode().unique().drop_nulls().to_list() if label)
    if not 1 < len(names) <= LABEL_LIMIT:
        return []
    return [_standardise(labels.list.contains(label).fill_null(value=False).cast(pl.Float64)) for label in names]
