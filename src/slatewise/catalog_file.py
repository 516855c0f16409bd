"""The catalog of items as a file: items.parquet of a prepared data set or an artifact."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from slatewise.features import FeatureScale, ItemContent
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Write the items as Parquet, one row per real item in the order of their numbers."""
    columns: dict[str, Any] = {
        "item_id": catalog.vocabulary.names,
        "text": pa.array(list(catalog.text[FIRST_ITEM:]), pa.string()),
        "group": pa.array([catalog.group_names[g] for g in catalog.group[FIRST_ITEM:]], pa.string()),
    }
    if catalog.features.shape[1]:
        columns["features"] = _lists(catalog.features)
    if catalog.content is not None:
        columns["content"] = _lists(catalog.content.values)
        columns["has_events"] = pa.array(catalog.content.has_events[FIRST_ITEM:])
    if catalog.columns is not None:
        columns["columns"] = columns_struct(catalog.columns)
    # a group's number is its position, and a group may have no item: the column alone holds neither
    names = {"group_names": json.dumps(catalog.group_names)}
    if catalog.feature_scales:
        names["feature_scales"] = json.dumps([asdict(scale) for scale in catalog.feature_scales])
    pq.write_table(pa.table(columns).replace_schema_metadata(names), path)


def columns_struct(columns: pa.Table) -> pa.StructArray:
    """Columns of items as one column of a file, where no name of theirs is that of another."""
    return pa.StructArray.from_arrays(
        [pa.concat_arrays(column.chunks) if column.num_chunks else column.combine_chunks() for column in columns],
        fields=list(columns.schema),
    )


def read_catalog(path: Path) -> Catalog:
    """Read the items that `write_catalog` wrote."""
    table = pq.read_table(path)
    names = table["item_id"].combine_chunks()
    groups = table["group"].combine_chunks().dictionary_encode()
    labels = groups.dictionary.to_pylist()
    stored_names = (table.schema.metadata or {}).get(b"group_names")
    group_names = tuple(json.loads(stored_names)) if stored_names else ("", *sorted(label for label in labels if label))
    number = {name: index for index, name in enumerate(group_names)}
    codes = np.array([number[label] for label in labels], dtype=np.int64)
    group = np.concatenate([np.zeros(FIRST_ITEM, np.int64), codes[groups.indices.to_numpy()]])
    scales = json.loads((table.schema.metadata or {}).get(b"feature_scales", b"[]"))
    content = None
    if "content" in table.column_names:
        has_events = np.concatenate([np.zeros(FIRST_ITEM, np.bool_), table["has_events"].to_numpy()])
        content = ItemContent(values=_rows(table, "content"), has_events=has_events, fitted={})
    return Catalog(
        vocabulary=Vocabulary(names=names),
        text=("",) * FIRST_ITEM + tuple(text or "" for text in table["text"].to_pylist()),
        group=group,
        group_names=group_names,
        features=_rows(table, "features"),
        feature_scales=tuple(FeatureScale(**scale) for scale in scales),
        content=content,
        columns=pa.Table.from_struct_array(table["columns"]) if "columns" in table.column_names else None,
    )


def _lists(values: Float[np.ndarray, "rows F"]) -> pa.FixedSizeListArray:
    """The rows of the real items as a column of lists."""
    real = np.ascontiguousarray(values[FIRST_ITEM:], dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(real.ravel()), real.shape[1])


def _rows(table: pa.Table, name: str) -> Float[np.ndarray, "rows F"]:
    """A column of lists as rows, with the reserved ones; of width 0 where there is no such column."""
    if name not in table.column_names:
        return np.zeros((len(table) + FIRST_ITEM, 0), np.float32)
    column = table[name].combine_chunks()
    real = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
    return np.concatenate([np.zeros((FIRST_ITEM, real.shape[1]), np.float32), real])
