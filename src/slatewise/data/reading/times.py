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
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M%#z",
)
_DATES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Digits of a whole number that is a date (20220421, 20220421153000) → its pattern."""
_DATE = r"^(19[7-9]|20[0-9])[0-9](0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])(([01][0-9]|2[0-3])([0-5][0-9]){1,2})?$"
_SERIALS = (20_000.0, 80_000.0)
"""Days since 1900, as spreadsheets count them, between 1954 and 2119."""
_RESOLUTIONS = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000, 1)
_SAMPLE = 10_000
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

    Numbers are seconds, milli-, micro- or nanoseconds since 1970 by their size, one unit per column, or dates such as
    20220421 where half of the first 100 are; text is ISO 8601 (without a zone: UTC).

    Args:
        values: numbers, dates, times, or text.
        time_format: s, ms, us, ns, iso or a strptime pattern; None = detect.
    """
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        times = values.cast(pl.Datetime("us")) if values.dtype == pl.Date else values.dt.cast_time_unit("us")
        return times.dt.timestamp("us"), []
    if values.dtype == pl.String:
        whole = values.cast(pl.Int64, strict=False) if time_format is None or time_format in UNITS else None
        if whole is None or whole.null_count():
            values = values.str.strip_chars().replace("", None)
        if whole is not None:
            whole = values.cast(pl.Int64, strict=False) if whole.null_count() else whole
            number = whole if whole.null_count() == values.null_count() else values.cast(pl.Float64, strict=False)
            # one number among the first cells decides: a column is numbers or text, and any other cell is an error
            if time_format in UNITS or (values.null_count() < len(values) and number.head(100).is_not_null().any()):
                return _of_numbers(values, number, time_format)
        return _of_text(values, time_format)
    if values.dtype.is_numeric() and (time_format is None or time_format in UNITS):
        number = values.cast(pl.Int64, strict=False) if values.dtype == pl.UInt64 else values
        return _of_numbers(values, number, time_format)
    if values.dtype.is_integer() and time_format is not None:
        return _of_text(values.cast(pl.String), time_format)
    nothing = pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    return nothing, _faults(values, nothing)


def _of_numbers(values: pl.Series, number: pl.Series, unit: str | None) -> tuple[pl.Series, list[Fault]]:
    floats = number.cast(pl.Float64).to_numpy()
    faults: list[Fault] = []
    if unit is None:
        digits = _date_digits(number)
        if digits:
            return _of_dates(values, number, digits)
        faults.append(_serial_dates(floats))
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


def resolution(values: pl.Series, time_format: str | None = None) -> int | None:
    """The longest unit (day, hour, minute, second, …, in microseconds) of which all times are multiples; of a sample.

    Returns:
        None where most cells hold no time.
    """
    sample = values.drop_nulls().head(_SAMPLE)
    times = to_microseconds(sample, time_format)[0].drop_nulls().to_numpy()
    if 2 * len(times) <= len(sample):
        return None
    return next(unit for unit in _RESOLUTIONS if not np.any(times % unit))


def _date_digits(number: pl.Series) -> int:
    """Number of digits where half of the first 100 numbers or more are dates such as 20220421, else 0."""
    sample = number.drop_nulls().head(100).cast(pl.Float64)
    sample = sample.filter(sample.is_finite())
    whole = sample.filter(sample.is_between(1.9e7, 2.1e13) & (sample == sample.floor()))
    texts = whole.cast(pl.Int64).cast(pl.String)
    dates = texts.filter(texts.str.contains(_DATE)).str.len_bytes()
    digits = int(dates[0]) if len(dates) else 0
    return digits if digits and 2 * int((dates == digits).sum()) >= len(sample) else 0


def _of_dates(values: pl.Series, number: pl.Series, digits: int) -> tuple[pl.Series, list[Fault]]:
    whole = number if number.dtype.is_integer() else number.set(~(number == number.floor()), None)
    texts = whole.cast(pl.Int64, strict=False).cast(pl.String)
    texts = texts.set(~texts.str.contains(_DATE), None)
    texts = texts.set(texts.str.len_bytes() != digits, None)
    times = _parse(texts, _DATES[digits]).rename(values.name)
    return times, _faults(values, times)


def _serial_dates(floats: np.ndarray) -> Fault:
    """Days with a fraction, as a spreadsheet stores a date with its time: seconds since 1970 have no such values."""
    with np.errstate(invalid="ignore"):
        all_serial = np.all((floats > _SERIALS[0]) & (floats < _SERIALS[1]) | np.isnan(floats))
    fractions = np.flatnonzero(np.isfinite(floats) & (floats != np.floor(floats)))
    return Fault(
        check="times are not serial dates of a spreadsheet",
        column="timestamp",
        rows=fractions if all_serial else np.zeros(0, np.int64),
        what="is a serial date of a spreadsheet, in days (expected seconds since 1970 or ISO 8601)",
        advice="Format the column as text such as 2020-06-18 12:00, or compute seconds: (days - 25569) * 86400. "
        "If they are seconds: --time-format s.",
    )


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
        plain = values.str.replace(r"(?i)\s?(Z|UTC|GMT)$", "+00:00").str.replace("T", " ", literal=True)
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
