"""The items of a catalog beside a log: written in full once for each version, named by a hash of what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool

from slatewise.catalog_file import columns_struct
from slatewise.data.conditions import Conditions, Part
from slatewise.data.decisions_and_outcomes import CatalogRecord
from slatewise.data.item_columns import ItemColumns, join_columns
from slatewise.data.item_filter import FilterError, ItemFilters
from slatewise.data.prepared import Dataset
from slatewise.errors import SlatewiseError, input_error
from slatewise.files import atomic_file
from slatewise.log import FIRST_ITEM, UNKNOWN, Catalog, Interactions


@dataclass(frozen=True, kw_only=True)
class RecordedItems(ItemColumns):
    """The items of a version of a catalog."""

    masked: Bool[np.ndarray, "N"] | None = None
    """True where an item could not be shown; None = all could."""


def catalog_version(names: pa.StringArray, *, columns: pa.Table | None = None) -> str:
    """First 16 digits of the SHA-256 of item names, in the order of their numbers, and of their columns.

    Args:
        names: of the items.
        columns: what filters read of them; None = nothing.
    """
    names = pa.concat_arrays([names])  # whole: without the offset of a slice
    digest = hashlib.sha256()
    # with the lengths, names that run together differently differ
    digest.update(np.asarray(pc.binary_length(names), np.dtype("<i4")).tobytes())
    _, offsets, letters = names.buffers()
    if letters is not None:
        first, last = np.frombuffer(offsets, np.int32, 1)[0], np.frombuffer(offsets, np.int32, len(names) + 1)[-1]
        digest.update(memoryview(letters)[int(first) : int(last)])
    named = {} if columns is None else dict(zip(columns.column_names, columns.columns, strict=True))
    for name, values in named.items():
        digest.update(np.packbits(values.is_valid().to_numpy()).tobytes())
        # without the unknown values, under which a buffer may hold anything
        filled = pa.table({name: values.drop_null()}).combine_chunks()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, filled.schema) as stream:
            stream.write_table(filled)
        digest.update(memoryview(sink.getvalue()))
    return digest.hexdigest()[:16]


def mask_version(base: str, masked: pa.StringArray) -> str:
    """Version of a catalog under a mask; that of the catalog itself where nothing is masked.

    Args:
        base: version of the catalog.
        masked: names of the masked items, in the order of the names.
    """
    return hashlib.sha256(f"{base} {catalog_version(masked)}".encode()).hexdigest()[:16] if len(masked) else base


def write_items(folder: Path, version: str, items: ItemColumns) -> str:
    """Write the items of a version, unless they lie there already; gives the name of the file.

    Raises:
        SlatewiseError: the folder cannot be written, or the disk is full.
    """
    columns: dict[str, pa.Array] = {"item_id": items.names}
    if items.columns is not None:
        columns["columns"] = columns_struct(items.columns)
    return _write_once(folder / f"catalog-{version}.parquet", columns)


def write_mask(folder: Path, version: str, masked: pa.StringArray) -> str:
    """Write the names of the masked items of a version, unless they lie there already; gives the name of the file.

    Raises:
        SlatewiseError: the folder cannot be written, or the disk is full.
    """
    return _write_once(folder / f"mask-{version}.parquet", {"item_id": masked})


def _write_once(file: Path, columns: dict[str, pa.Array]) -> str:
    if not file.is_file():
        try:
            with atomic_file(file) as temporary:
                pq.write_table(pa.table(columns), temporary, write_page_checksum=True)
        except OSError as error:
            raise SlatewiseError(f"{file}: {error.strerror or error}. Make room, or name another folder.") from error
    return file.name


def read_mask(file: Path) -> pa.StringArray:
    """Read the names that `write_mask` wrote.

    Raises:
        InputError: a file that does not hold names, or has changed since it was written.
    """
    return _read_items(file).names


def with_items_of(dataset: Dataset, catalog: Catalog) -> tuple[Interactions, int]:
    """A log in the item numbers of another catalog, and how many of its own items that one does not have.

    Items are matched by name; those without a match become the unknown item.
    """
    if dataset.catalog.vocabulary.names.equals(catalog.vocabulary.names):
        return dataset.interactions, 0
    number = catalog.vocabulary.encode(dataset.catalog.vocabulary.names)
    number = np.concatenate([np.arange(FIRST_ITEM), number]).astype(np.int32)
    items = number[np.asarray(dataset.interactions.item)]
    return replace(dataset.interactions, item=items), int((number[FIRST_ITEM:] == UNKNOWN).sum())


def recorded_items(
    catalogs: Sequence[tuple[Path, CatalogRecord]],
) -> tuple[dict[str, RecordedItems], tuple[str, ...]]:
    """The items of recorded catalogs by version, the latest in force last, and the names of files that are missing.

    Args:
        catalogs: the folder of a log and a record of it, in the order of time.

    Raises:
        InputError: a file that does not hold items, or has changed since it was written.
    """
    items: dict[str, RecordedItems] = {}
    missing: dict[str, None] = {}
    for folder, record in catalogs:
        files = [folder / record.file]
        if record.base is not None:
            files.insert(0, folder / f"catalog-{record.base}.parquet")
        if record.catalog_version in items:
            items[record.catalog_version] = items.pop(record.catalog_version)
        elif absent := [file.name for file in files if not file.is_file()]:
            missing |= dict.fromkeys(absent)
        else:
            items[record.catalog_version] = _recorded_version(files, items.get(record.base or ""))
    return items, tuple(missing)


def _recorded_version(files: Sequence[Path], base: RecordedItems | None) -> RecordedItems:
    """The items of a version from their file, and from that of a mask where there is one.

    Args:
        files: both.
        base: the items without the mask, where they were read before.
    """
    items = base or _read_items(files[0])
    if len(files) == 1:
        return items
    return replace(items, masked=pc.is_in(items.names, value_set=read_mask(files[1])).to_numpy(zero_copy_only=False))


def _read_items(file: Path) -> RecordedItems:
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        return RecordedItems(
            names=table["item_id"].combine_chunks().cast(pa.string()),
            columns=pa.Table.from_struct_array(table["columns"]) if "columns" in table.column_names else None,
        )
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise input_error(f"no items of a catalog: {error}", file=file, advice="Copy the log again, whole.") from error


def catalog_parts(conditions: Conditions, catalogs: Mapping[str, RecordedItems]) -> tuple[Conditions, int]:
    """Conditions with the items that filters and masks left, and of how many decisions nobody can say that any more.

    Their filter does not go with the items of their catalog, or those are not there; they lose their conditions.

    Args:
        conditions: of decisions.
        catalogs: recorded items by version.
    """
    pairs = conditions.events.select("where", "catalog_version").unique(maintain_order=True)
    filters = {version: ItemFilters(items) for version, items in catalogs.items()}
    parts: dict[tuple[str | None, str | None], Part] = {}
    unknown = []
    for where, version in pairs.iter_rows():
        items = catalogs.get(version or "")
        if items is None or (where is None and items.masked is None):
            unknown += [] if where is None else [{"where": where, "catalog_version": version}]
            continue
        try:
            matches = (
                np.ones(len(items.names), np.bool_) if where is None else filters[version].matches(where)[FIRST_ITEM:]
            )
        except FilterError:
            unknown.append({"where": where, "catalog_version": version})
            continue
        allowed = matches if items.masked is None else matches & ~items.masked
        parts[where, version] = Part(names=items.names, allowed=allowed)
    without = pl.DataFrame(unknown, schema={"where": pl.String, "catalog_version": pl.String})
    events = conditions.events.join(
        without, on=["where", "catalog_version"], how="anti", nulls_equal=True, maintain_order="left"
    )
    return replace(conditions, events=events, parts=parts), len(conditions.events) - len(events)


def every_item(catalogs: Iterable[RecordedItems]) -> ItemColumns:
    """The items of some catalogs, each once; of two values in a column the later one counts."""
    joined = ItemColumns(names=pa.array([], pa.string()))
    for items in catalogs:
        new = items.names.filter(pc.invert(pc.is_in(items.names, value_set=joined.names)))
        names = pa.concat_arrays([joined.names, new])
        joined = ItemColumns(names=names, columns=join_columns(names, joined, items)[0])
    return joined
