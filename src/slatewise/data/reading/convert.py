"""Conversion of raw columns (mostly text) to canonical types, with every cell that cannot be converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from slatewise.data.reading.checks import CONTEXT
from slatewise.data.reading.faults import Fault
from slatewise.data.reading.name_forms import texts
from slatewise.data.reading.times import to_microseconds

_TRUE = ("1", "1.0", "true", "t", "yes", "y")
_FALSE = ("0", "0.0", "false", "f", "no", "n")


def convert(
    raw: pl.DataFrame, columns: Mapping[str, str], *, time_format: str | None = None
) -> tuple[pl.DataFrame, list[Fault]]:
    """The canonical columns of a raw frame; a cell that cannot be converted is null and named in a fault.

    Args:
        raw: columns of a file; text where the file is text.
        columns: canonical name → name in `raw`.
        time_format: see `slatewise.data.reading.times.to_microseconds`.
    """
    converted: list[pl.Series] = []
    faults: list[Fault] = []
    for canonical, name in columns.items():
        values = raw[name]
        if canonical in ("timestamp", "used_time"):
            result, time_faults = to_microseconds(values, time_format)
            faults += [replace(fault, column=canonical) for fault in time_faults]
        else:
            result = _cast(values, canonical)
            fewer = result.null_count() > values.null_count()
            # comparing the counts first spares the common case a pass over the cells
            unreadable = result.is_null() & is_filled(values) if fewer else pl.Series([], dtype=pl.Boolean)
            faults.append(_fault(canonical, unreadable))
        converted.append(result.alias(canonical))
    return pl.DataFrame(converted), faults


def _cast(values: pl.Series, canonical: str) -> pl.Series:
    if canonical in ("reward", "use_reward", "cost", "propensity", "logp") or canonical.startswith(CONTEXT):
        return numbers(values)
    if canonical == "position":
        floats = numbers(values)
        return floats.set(~(floats == floats.floor()) | (floats.abs() >= 2**53), None).cast(pl.Int64)
    return _booleans(values) if canonical == "used" else texts(values)


def numbers(values: pl.Series) -> pl.Series:
    """Numbers as float64, null where a cell is not a number; "true" and "false" count as 1 and 0."""
    if values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Decimal):
        return values.cast(pl.Float64)
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
    result = values.cast(pl.Float64, strict=False)
    if result.null_count() == values.null_count():
        return result
    stripped = values.str.strip_chars()
    result = stripped.cast(pl.Float64, strict=False)
    truth = stripped.str.to_lowercase().replace_strict(
        {"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64
    )
    return result.fill_null(truth)


def _booleans(values: pl.Series) -> pl.Series:
    if values.dtype == pl.Boolean:
        return values
    if values.dtype != pl.String and not values.dtype.is_numeric():
        return pl.Series(values.name, [None] * len(values), dtype=pl.Boolean)
    words = values.cast(pl.String).str.strip_chars().str.to_lowercase()
    truth = dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)
    return words.replace_strict(truth, default=None, return_dtype=pl.Boolean)


def is_filled(values: pl.Series) -> pl.Series:
    """True where a cell holds anything but spaces."""
    if values.dtype == pl.String:
        return (values.str.strip_chars() != "").fill_null(value=False)
    return values.is_not_null()


def _fault(canonical: str, unreadable: pl.Series) -> Fault:
    rows = unreadable.arg_true().to_numpy().astype("int64")
    if canonical == "position":
        expected, advice = "is not a position (expected a whole number ≥ 0)", "Correct the cell or remove the row."
    elif canonical == "used":
        expected, advice = "is neither true nor false (expected 1, 0, true or false)", "Correct the cell."
    elif canonical in ("user_id", "item_id", "event_id", "session_id", "policy_id", "outcome"):
        expected, advice = "is not a name (expected text or a whole number)", "Write the column as text."
    else:
        expected = "is not a number (expected a number such as 1 or 0.5, with a decimal point)"
        advice = "Correct the cell or remove the row."
    return Fault(check=f"{canonical} can be read", column=canonical, rows=rows, what=expected, advice=advice)
