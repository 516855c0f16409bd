"""Under which conditions the slates of a log were drawn, as columns.

Axes: V events · P items of lists, or parts of the catalog · W chosen events · R rows of lists.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8


def list_rows(
    offsets: Int[np.ndarray, "V1"], index: Int[np.ndarray, "W"]
) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "W1"]]:
    """Where the rows of some lists stand, list after list, and the offsets of these lists."""
    size = (offsets[1:] - offsets[:-1])[index]
    ends = np.cumsum(size)
    rows = np.arange(int(size.sum())) + np.repeat(offsets[index] - (ends - size), size)
    return rows, np.append(0, ends)


@dataclass(frozen=True, kw_only=True)
class ItemLists:
    """A list of items per event: that of event e is ``item[offsets[e] : offsets[e + 1]]``; most may be empty."""

    offsets: Int[np.ndarray, "V1"]
    item: Int[np.ndarray, "P"]

    def of(self, event: int) -> Int[np.ndarray, "_"]:
        """The list of one event."""
        items: Int[np.ndarray, "_"] = np.asarray(self.item[self.offsets[event] : self.offsets[event + 1]])
        return items

    def take(self, events: Int[np.ndarray, "V"]) -> ItemLists:
        """The lists of these events, in their order."""
        rows, offsets = list_rows(self.offsets, events)
        return ItemLists(offsets=offsets, item=np.asarray(self.item)[rows])


@dataclass(frozen=True, kw_only=True)
class CatalogParts:
    """Parts of the catalog that policies could choose from: those which filters and masks left."""

    part: Int[np.ndarray, "V"]
    """Number of the part of each event, from 1; 0 = the whole catalog."""
    bits: UInt8[np.ndarray, "P bytes"]
    """A bit an item number, eight a byte, of part 1, 2, …; numbers past the end are in no part."""

    def of(self, part: int, num_rows: int) -> Bool[np.ndarray, "rows"]:
        """True for the item numbers below `num_rows` that are in a part."""
        inside = np.unpackbits(np.asarray(self.bits[part - 1]))[:num_rows].astype(np.bool_)
        return np.pad(inside, (0, num_rows - len(inside)))

    def take(self, events: Int[np.ndarray, "V"]) -> CatalogParts:
        """The parts of these events, in their order."""
        return CatalogParts(part=np.asarray(self.part)[events], bits=self.bits)


@dataclass(frozen=True, kw_only=True)
class LoggedRequests:
    """Under which conditions each event's slate was drawn, as far as the log says it.

    Seen items are not listed: they are the items that the user used before the event.
    """

    k: Int[np.ndarray, "V"]
    """Positions asked for; 0 = the log does not say under which conditions this event's slate was drawn."""
    top_m: Int[np.ndarray, "V"]
    """Of the exploration; 0 = the best items were shown."""
    keep: Int[np.ndarray, "V"]
    temperature: Float[np.ndarray, "V"]
    exclude_seen: Bool[np.ndarray, "V"]
    """True where items that the user had used before were excluded."""
    catalog: Int[np.ndarray, "V"]
    """Number of the version of the catalog in force; 0 = the log does not say."""
    exclude: ItemLists | None = None
    """Items that the request or a rule excluded; None where no event has any."""
    candidates: ItemLists | None = None
    """Items to choose from, none for the whole catalog."""
    parts: CatalogParts | None = None
    """Parts of the catalog to choose from; None where every event had the whole one."""
    fixed: ItemLists | None = None
    """What the k positions show for certain, 0 = free; none where nothing is fixed."""

    def take(self, events: Int[np.ndarray, "V"]) -> LoggedRequests:
        """The conditions of these events, in their order."""

        def at_events(values: Shaped[np.ndarray, "V"] | ItemLists | CatalogParts | None) -> Any:
            if values is None or isinstance(values, ItemLists | CatalogParts):
                return values and values.take(events)
            return np.asarray(values)[events]

        return LoggedRequests(**{column.name: at_events(getattr(self, column.name)) for column in fields(self)})
