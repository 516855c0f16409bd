"""Conversion of times in common formats to microseconds since 1970, UTC."""

from __future__ import annotations

import numpy as np
import polars as pl

from slatewise.data.reading.faults import Fault
from slatewise.errors import input_error

UNITS = {"s": 1_000_000.0, "ms": 1_000.0, "us": 1.0, "ns": 0.001}
"""Unit → microseconds."""
_YEAR_2200 = 7_258_118_400.0
# the years up to 2200 in s, in ms and so on; after March 1973 the bands of two units do not overlap
_BANDS = {
    "s": (0.0, _YEAR_2200),
    "ms": (1e11, _YEAR_2200 * 1e3),
    "us": (1e14, _YEAR_2200 * 1e6),
    "ns": (1e17, _YEAR_2200 * 1e9),
}
_ISO = (
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M%:z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
_ADVICE = "--time-format sets another format: s, ms, us, ns, iso or a pattern such as %d/%m/%Y."


def check_format(time_format: str | None) -> None:
    """Refuse a time format that is neither a unit, nor iso, nor a pattern.

    Raises:
        InputError: the format.
    """
    if time_format is not None and time_format not in (*UNITS, "iso") and "%" not in time_format:
        raise input_error(
            f'--time-format "{time_format}" is not a time format',
            advice="Expected s, ms, us, ns, iso or a pattern such as %d/%m/%Y.",
        )


def to_microseconds(values: pl.Series, time_format: str | None = None) -> tuple[pl.Series, list[Fault]]:
    """Times as int64 microseconds, null where a cell holds none, and faults for the cells that cannot be read.

    Numbers are seconds, milli-, micro- or nanoseconds since 1970 by their size, one unit per column; text is ISO 8601
    (without a zone: UTC).

    Args:
        values: numbers, dates, times, or text.
        time_format: s, ms, us, ns, iso or a strptime pattern; None = detect.
    """
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        times = values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values.dt.cast_time_unit("us")
        return times.dt.timestamp("us"), []
    if values.dtype == pl.String:
        values = values.str.strip_chars().replace("", None)
        if time_format is None or time_format in UNITS:
            whole = values.cast(pl.Int64, strict=False)
            number = whole if whole.null_count() == values.null_count() else values.cast(pl.Float64, strict=False)
            # one number among the first cells decides: a column is numbers or text, and any other cell is an error
            if time_format in UNITS or (values.null_count() < len(values) and number.head(100).is_not_null().any()):
                return _of_numbers(values, number, time_format)
        return _of_text(values, time_format)
    if values.dtype.is_numeric() and (time_format is None or time_format in UNITS):
        return _of_numbers(values, values, time_format)
    if values.dtype.is_integer() and time_format is not None:
        return _of_text(values.cast(pl.String), time_format)
    nothing = pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    return nothing, _faults(values, nothing)


def _of_numbers(values: pl.Series, number: pl.Series, unit: str | None) -> tuple[pl.Series, list[Fault]]:
    floats = number.cast(pl.Float64).to_numpy()
    faults: list[Fault] = []
    if unit is None:
        unit = _unit(floats)
        other = _other_unit(floats, unit)
        faults.append(
            Fault(
                check="times have one unit",
                column="timestamp",
                rows=np.flatnonzero(other),
                what=f'has another unit than the first time of the file, which is read as "{unit}" since 1970',
                advice="Convert all times to one unit. " + _ADVICE,
            )
        )
        floats = np.where(other, np.nan, floats)
    inside = _inside(floats, unit)
    scale = UNITS[unit]
    if number.dtype.is_integer() and scale >= 1:
        # integer arithmetic: floats lose microseconds beyond 2⁵³
        exact = (number.fill_null(0).cast(pl.Int64).to_numpy() * np.where(inside, int(scale), 0)).astype(np.int64)
    elif number.dtype.is_integer():
        exact = number.fill_null(0).cast(pl.Int64).to_numpy() // 1_000
    else:
        exact = np.rint(np.where(inside, floats, 0.0) * scale).astype(np.int64)
    times = pl.Series(values.name, exact, dtype=pl.Int64).set(pl.Series(~inside), None)
    outside = pl.Series(~inside & ~np.isnan(floats)).fill_null(value=False) & number.is_not_null()
    faults.append(
        Fault(
            check="times are between 1970 and 2200",
            column="timestamp",
            rows=outside.arg_true().to_numpy().astype(np.int64),
            what=f'is out of range as "{unit}" since 1970 (expected a time between 1970 and 2200)',
            advice=_ADVICE,
        )
    )
    unreadable = values.is_not_null() & (number.is_null() | number.cast(pl.Float64).is_nan().fill_null(value=False))
    return times, [*faults, _unreadable(unreadable)]


def _unit(floats: np.ndarray) -> str:
    finite = floats[np.isfinite(floats)]
    if not len(finite):
        return "s"
    for unit, (low, high) in _BANDS.items():
        if low <= finite[0] < high:
            return unit
    return "s"


def _other_unit(floats: np.ndarray, unit: str) -> np.ndarray:
    """True for numbers outside this unit's band that are plausible times (after March 1973) in another unit."""
    own_band, other_bands = _BANDS[unit], [own_band for name, own_band in _BANDS.items() if name != unit]
    with np.errstate(invalid="ignore"):
        outside = (floats < own_band[0]) | (floats >= own_band[1])
        other: np.ndarray = outside & np.logical_or.reduce(
            [(floats >= max(low, 1e8)) & (floats < high) for low, high in other_bands]
        )
    return other


def _inside(floats: np.ndarray, unit: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        inside: np.ndarray = (floats >= 0) & (floats * (UNITS[unit] / 1e6) < _YEAR_2200)
    return inside


def _of_text(values: pl.Series, time_format: str | None) -> tuple[pl.Series, list[Fault]]:
    if time_format is not None and time_format != "iso":
        times = _parse(values, time_format)
    else:
        plain = values.str.replace("T", " ", literal=True).str.replace(r"Z$", "+00:00")
        times = pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
        for pattern in _ISO:
            open_cells = times.is_null() & plain.is_not_null()
            if not open_cells.any():
                break
            times = times.zip_with(~open_cells, _parse(plain, pattern))
    times = times.set(~times.is_between(0, int(_YEAR_2200 * 1e6)).fill_null(value=True), None)
    return times, _faults(values, times)


def _parse(values: pl.Series, pattern: str) -> pl.Series:
    try:
        moments = values.str.to_datetime(pattern, strict=False, time_unit="us")
    except pl.exceptions.PolarsError as error:
        raise input_error(
            f'--time-format "{pattern}" cannot be used: {error}', advice="Expected for example %d/%m/%Y."
        ) from error
    return moments.dt.timestamp("us")


def _faults(values: pl.Series, times: pl.Series) -> list[Fault]:
    return [_unreadable(values.is_not_null() & times.is_null())]


def _unreadable(bad: pl.Series) -> Fault:
    return Fault(
        check="timestamp can be read",
        column="timestamp",
        rows=bad.arg_true().to_numpy().astype(np.int64),
        what="is not a time (expected seconds since 1970 or ISO 8601, between 1970 and 2200)",
        advice=_ADVICE,
    )
