"""The catalog of items as a file: items.parquet of a prepared data set or an artifact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slatewise.log import FIRST_ITEM, Catalog, Vocabulary


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Write the items as Parquet, one row per real item in the order of their numbers."""
    columns: dict[str, Any] = {
        "item_id": catalog.vocabulary.names,
        "text": pa.array(list(catalog.text[FIRST_ITEM:]), pa.string()),
        "group": pa.array([catalog.group_names[g] for g in catalog.group[FIRST_ITEM:]], pa.string()),
    }
    features = np.ascontiguousarray(catalog.features[FIRST_ITEM:], dtype=np.float32)
    if features.shape[1]:
        columns["features"] = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    if catalog.columns is not None:
        fields = catalog.columns.combine_chunks()
        arrays = [column.chunk(0) if column.num_chunks else column.combine_chunks() for column in fields.columns]
        columns["columns"] = pa.StructArray.from_arrays(arrays, fields=list(fields.schema))
    # a group's number is its position, and a group may have no item: the column alone holds neither
    names = {"group_names": json.dumps(catalog.group_names)}
    pq.write_table(pa.table(columns).replace_schema_metadata(names), path)


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
    if "features" in table.column_names:
        column = table["features"].combine_chunks()
        features = column.flatten().to_numpy().reshape(len(table), column.type.list_size)
    else:
        features = np.zeros((len(table), 0), np.float32)
    reserved = np.zeros((FIRST_ITEM, features.shape[1]), np.float32)
    return Catalog(
        vocabulary=Vocabulary(names=names),
        text=("",) * FIRST_ITEM + tuple(text or "" for text in table["text"].to_pylist()),
        group=group,
        group_names=group_names,
        features=np.concatenate([reserved, features]),
        columns=pa.Table.from_struct_array(table["columns"]) if "columns" in table.column_names else None,
    )
