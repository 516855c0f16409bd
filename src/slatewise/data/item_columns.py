"""Columns of items: what two catalogs say of the same items, as one table."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from slatewise.log import Catalog


@dataclass(frozen=True, kw_only=True)
class ItemColumns:
    """Names of items, and what is said of them."""

    names: pa.StringArray
    columns: pa.Table | None = None
    """One row an item; None where nothing is known."""

    @classmethod
    def of(cls, catalog: Catalog) -> ItemColumns:
        """Those of a catalog."""
        return cls(names=catalog.vocabulary.names, columns=catalog.columns)


@dataclass(frozen=True, kw_only=True)
class ColumnChanges:
    """What the later of two catalogs changed in the columns of the earlier."""

    items: int = 0
    """Items of both with a value that the later one replaced."""
    as_text: tuple[str, ...] = ()
    """Columns that are text because the two catalogs hold different types."""

    def sentences(self) -> list[str]:
        """The changes in words; none for none."""
        changed = f"{self.items:,} known items have other values in their columns: the later ones count."
        retyped = [f'column "{name}" of the items is text now: the two hold different types.' for name in self.as_text]
        return [changed, *retyped] if self.items else retyped


def join_columns(
    names: pa.StringArray, earlier: ItemColumns, later: ItemColumns
) -> tuple[pa.Table | None, ColumnChanges]:
    """The columns of two catalogs as one table, and what changed; None where neither has any.

    Of two values of an item the later one counts; an unknown one replaces nothing.

    Args:
        names: of the items of both.
        earlier: of some items.
        later: of the same ones or others.
    """
    if earlier.columns is None and later.columns is None:
        return None, ColumnChanges()
    old_columns, new_columns = _rows(names, earlier), _rows(names, later)
    changed = pl.zeros(len(names), dtype=pl.Boolean, eager=True)
    joined, as_text = dict(old_columns), []
    for name, new in new_columns.items():
        if name not in old_columns:
            joined[name] = new
            continue
        old, values, is_text = _in_one_type(old_columns[name], new)
        if is_text:
            as_text.append(name)
        filled = values.is_not_null()
        changed |= filled & old.is_not_null() & old.ne_missing(values)
        joined[name] = values.zip_with(filled, old)
    return arrow_table(joined), ColumnChanges(items=int(changed.sum()), as_text=tuple(as_text))


def arrow_table(columns: dict[str, pl.Series]) -> pa.Table | None:
    """Columns as an Arrow table of plain types; None where there are none."""
    if not columns:
        return None
    table = pl.DataFrame(list(columns.values()), schema=list(columns)).to_arrow(compat_level=pl.CompatLevel.oldest())
    small = {pa.large_string(): pa.string(), pa.large_list(pa.large_string()): pa.list_(pa.string())}
    return table.cast(pa.schema([(field.name, small.get(field.type, field.type)) for field in table.schema]))


def _rows(names: pa.StringArray, items: ItemColumns) -> dict[str, pl.Series]:
    """The columns for some names; unknown values for those that are not among the items."""
    if items.columns is None:
        return {}
    index = pl.Series(values=pl.from_arrow(pc.index_in(names, value_set=items.names)))
    return pl.DataFrame(items.columns).select(pl.all().gather(index)).to_dict()


def _in_one_type(first: pl.Series, second: pl.Series) -> tuple[pl.Series, pl.Series, bool]:
    """Two columns as values of one type; True where only text holds both."""
    if first.dtype == second.dtype:
        return first, second, False
    if first.dtype.is_numeric() and second.dtype.is_numeric():
        return first.cast(pl.Float64), second.cast(pl.Float64), False
    if {type(first.dtype), type(second.dtype)} == {pl.Date, pl.Datetime}:
        moment = pl.Datetime("us", "UTC")
        return first.cast(moment), second.cast(moment), False
    return _text(first), _text(second), True


def _text(values: pl.Series) -> pl.Series:
    return values.list.join("|") if isinstance(values.dtype, pl.List) else values.cast(pl.String)
