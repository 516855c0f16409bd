"""The items that a service shows, and those among them that are masked: not shown until they are lifted."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool
from torch import Tensor

from slatewise.data.catalogs import catalog_version, mask_version, read_mask, write_items, write_mask
from slatewise.data.decisions_and_outcomes import CatalogRecord
from slatewise.data.item_columns import ItemColumns
from slatewise.errors import input_error
from slatewise.log import FIRST_ITEM, UNKNOWN, Catalog


class ServedItems:
    """A catalog under a mask. Masks are names: one that the catalog does not have is kept for a later catalog."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        """Nothing is masked.

        Args:
            catalog: of the policy.
            folder: of the log, where the items of every version lie.
        """
        self._catalog = catalog
        self._folder = folder
        self.items = ItemColumns.of(catalog)
        self.base = catalog_version(self.items.names, columns=self.items.columns)
        """Version without a mask."""
        self.version = self.base
        """Version in force: it changes with the mask, and is the same again for the same mask."""
        self.masked: frozenset[str] = frozenset()
        """Names of the masked items."""
        self.allowed: Bool[Tensor, " rows"] | None = None
        """False for the numbers of masked items; None where none is masked."""

    def put_mask(self, masked: Collection[str]) -> None:
        """Mask these items, and no others."""
        self.masked = frozenset(masked)
        self.version = mask_version(self.base, pa.array(sorted(self.masked), pa.string()))
        number = self.numbers(self.masked)
        self.allowed = None
        if len(number):
            self.allowed = torch.ones(self._catalog.num_rows, dtype=torch.bool)
            self.allowed[torch.from_numpy(number)] = False

    def numbers(self, names: Collection[str]) -> np.ndarray:
        """Numbers of the items that the catalog has of some names."""
        number = self._catalog.vocabulary.encode(pa.array(sorted(names), pa.string()))
        return number[number >= FIRST_ITEM]

    def is_masked(self, number: int) -> bool:
        """Whether an item must not be shown."""
        return self.allowed is not None and number != UNKNOWN and not bool(self.allowed[number])

    def unknown(self) -> list[str]:
        """Masked names that the catalog does not have."""
        return [name for name in sorted(self.masked) if self._catalog.vocabulary.number(name) == UNKNOWN]

    def record(self, *, timestamp: int, policy_version: str) -> CatalogRecord:
        """What the log says of the items and the mask in force; both are written beside it.

        Raises:
            SlatewiseError: the folder cannot be written.
        """
        file = write_items(self._folder, self.base, self.items)
        is_masked = self.version != self.base
        if is_masked:
            file = write_mask(self._folder, self.version, pa.array(sorted(self.masked), pa.string()))
        return CatalogRecord(
            timestamp=timestamp,
            catalog_version=self.version,
            policy_version=policy_version,
            items=len(self.items.names),
            masked=len(self.numbers(self.masked)),
            base=self.base if is_masked else None,
            file=file,
        )


def recorded_mask(record: CatalogRecord | None, folder: Path) -> frozenset[str]:
    """Names of the items that are masked under a record of the log.

    Args:
        record: the last one of a catalog; None = there is none.
        folder: of the log.

    Raises:
        InputError: the file with the names is missing or damaged.
    """
    if record is None or record.base is None:
        return frozenset()
    file = folder / record.file
    if not file.is_file():
        raise input_error(
            "the names of the masked items are missing, and nothing may be shown without them",
            file=file,
            advice="Copy the file back beside the event log.",
        )
    return frozenset(read_mask(file).to_pylist())
