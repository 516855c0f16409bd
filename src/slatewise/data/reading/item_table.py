"""The catalog from an item table: text, group and numeric features of every item of the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Float

from slatewise.data.item_columns import ItemColumns, arrow_table
from slatewise.errors import input_error
from slatewise.features import FeatureScale, standardise
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
    columns = {name.removeprefix(FEATURE): table[name] for name in table.columns if name.startswith(FEATURE)}
    columns |= {} if labels is None else indicators(labels)
    features, scales = feature_columns(columns, len(table))
    return Catalog(
        vocabulary=Vocabulary(names=names),
        text=("",) * FIRST_ITEM + tuple(text),
        group=np.array([0] * FIRST_ITEM + [number[name] for name in group.to_list()], np.int64),
        group_names=group_names,
        columns=arrow_table(
            {name.removeprefix(COLUMN): table[name] for name in table.columns if name.startswith(COLUMN)}
        ),
        features=np.concatenate([np.zeros((FIRST_ITEM, len(columns)), np.float32), features]),
        feature_scales=scales,
    )


def feature_columns(
    columns: Mapping[str, pl.Series], num_rows: int
) -> tuple[Float[np.ndarray, "N E"], tuple[FeatureScale, ...]]:
    """Columns as standardised features, and how each was standardised; what is not a number is unknown.

    Args:
        columns: by name.
        num_rows: N.
    """
    features, scales = np.zeros((num_rows, len(columns)), np.float32), []
    for index, (name, column) in enumerate(columns.items()):
        values = column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy().astype(np.float64)
        features[:, index], scale = standardise(values, name=name)
        scales.append(scale)
    return features, tuple(scales)


def item_rows(items: ItemColumns) -> pl.DataFrame:
    """Items with their columns as rows of an item table."""
    names = pl.Series("item_id", pl.from_arrow(items.names), dtype=pl.String)
    columns = {} if items.columns is None else pl.DataFrame(items.columns).to_dict()
    return pl.DataFrame([names, *(values.alias(f"{COLUMN}{name}") for name, values in columns.items())])


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


def indicators(labels: pl.Series) -> dict[str, pl.Series]:
    """One column of 0 and 1 for each label of a column of lists, by name; none where there are one, or too many."""
    names = sorted(label for label in labels.explode().unique().drop_nulls().to_list() if label)
    if not 1 < len(names) <= LABEL_LIMIT:
        return {}
    return {f"label:{name}": labels.list.contains(name).fill_null(value=False).cast(pl.Float64) for name in names}
