"""The items of a catalog beside a log: written in full once for each version, named by a hash of what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool

from slatewise.data.decisions_and_outcomes import CatalogRecord
from slatewise.data.prepared import Dataset
from slatewise.errors import SlatewiseError, input_error
from slatewise.files import atomic_file
from slatewise.log import FIRST_ITEM, UNKNOWN, Catalog, Interactions


def catalog_version(names: pa.StringArray, *, masked: Bool[np.ndarray, "N"] | None = None) -> str:
    """First 16 digits of the SHA-256 of item names, in the order of their numbers, and of the mask.

    Args:
        names: of the items.
        masked: True where an item may not be shown; None = all may.
    """
    names = pa.concat_arrays([names])  # whole: without the offset of a slice
    digest = hashlib.sha256()
    # with the lengths, names that run together differently differ
    digest.update(np.asarray(pc.binary_length(names), np.dtype("<i4")).tobytes())
    _, offsets, letters = names.buffers()
    if letters is not None:
        first, last = np.frombuffer(offsets, np.int32, 1)[0], np.frombuffer(offsets, np.int32, len(names) + 1)[-1]
        digest.update(memoryview(letters)[int(first) : int(last)])
    if masked is not None and masked.any():
        digest.update(np.packbits(masked).tobytes())
    return digest.hexdigest()[:16]


def write_items(
    folder: Path, version: str, names: pa.StringArray, *, masked: Bool[np.ndarray, "N"] | None = None
) -> str:
    """Write the items of a version, unless they lie there already; gives the name of the file.

    Raises:
        SlatewiseError: the folder cannot be written, or the disk is full.
    """
    file = folder / f"catalog-{version}.parquet"
    if not file.is_file():
        columns: dict[str, pa.Array] = {"item_id": names}
        if masked is not None and masked.any():
            columns["masked"] = pa.array(masked)
        try:
            with atomic_file(file) as temporary:
                pq.write_table(pa.table(columns), temporary, write_page_checksum=True)
        except OSError as error:
            raise SlatewiseError(f"{file}: {error.strerror or error}. Make room, or name another folder.") from error
    return file.name


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


def recorded_items(catalogs: Sequence[tuple[Path, CatalogRecord]]) -> tuple[list[pa.StringArray], tuple[str, ...]]:
    """Names of the items of recorded catalogs, and the names of files that are missing.

    Args:
        catalogs: the folder of a log and a record of it.

    Raises:
        InputError: a file that does not hold items, or has changed since it was written.
    """
    names: list[pa.StringArray] = []
    missing: list[str] = []
    for file in dict.fromkeys(folder / record.file for folder, record in catalogs):
        if not file.is_file():
            missing.append(file.name)
            continue
        try:
            table = pq.read_table(file, columns=["item_id"], page_checksum_verification=True)
            names.append(table["item_id"].combine_chunks().cast(pa.string()))
        except (pa.ArrowException, OSError) as error:
            raise input_error(
                f"no items of a catalog: {error}", file=file, advice="Copy the log again, whole."
            ) from error
    return names, tuple(missing)
