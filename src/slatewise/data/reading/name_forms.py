"""Names of users, items and events in one form, whatever the format of the file: "1", 1, 1.0 and " 1" are one name."""

from __future__ import annotations

from decimal import Decimal

import polars as pl

from slatewise.wording import count_of

MISSING_LIKE = ("", "nan", "none", "null", "na", "n/a", "<na>", "\\n", "nat", "nil", "undefined")
"""What programs write in place of a missing value, in lower case."""
NAMES = ("user_id", "item_id", "event_id", "session_id", "policy_id")
"""Canonical columns that hold names."""
_WHOLE = r"^-?[0-9]+\.0*$"
_SCIENTIFIC = r"^-?[0-9](\.[0-9]+)?[eE]\+[0-9]{1,3}$"
"""As R, pandas and spreadsheets write large whole numbers; the sign tells it from a code such as 12e5."""
_ANOTHER_FORM = rf"^\s|\s$|{_WHOLE}|{_SCIENTIFIC}"
_EXACT = 2**53
"""Whole numbers of a float64 up to here are exact."""


def texts(values: pl.Series) -> pl.Series:
    """Names as text: without surrounding spaces, whole numbers without a fraction; null where a cell has no name."""
    dtype = values.dtype
    if dtype.is_float():
        whole = values.set(~((values == values.floor()) & values.is_finite()), None)
        return whole.cast(pl.Int64, strict=False).cast(pl.String)
    if dtype.is_decimal():
        words = _one_form(values.cast(pl.String))
        return words.set(words.str.contains(".", literal=True).fill_null(value=False), None)
    if dtype == pl.Binary:
        # Hive and Impala write text as bytes
        values = pl.Series(values.name, [_decode(cell) for cell in values], dtype=pl.String)
    if dtype.is_integer() or dtype in (pl.String, pl.Categorical, pl.Enum, pl.Binary):
        return _one_form(values.cast(pl.String))
    return pl.Series(values.name, [None] * len(values), dtype=pl.String)


def form_notes(columns: dict[str, pl.Series], names: dict[str, pl.Series]) -> list[str]:
    """Notes on names that stand in another form in the file.

    Args:
        columns: column of the file → its values there.
        names: the same columns as `texts` gives them.
    """
    notes = []
    for column, values in columns.items():
        name = names[column]
        if values.dtype.is_float():
            inexact = int((values.abs() > _EXACT).sum())
            if inexact:
                notes.append(
                    f'column "{column}": {count_of(inexact, "float")} beyond 2^53 as names, with inexact last '
                    "digits; write the column as text or whole numbers."
                )
        if values.dtype != pl.String or name is values:
            continue
        other = (values != name).fill_null(value=False)
        count = int(other.sum())
        if count:
            row = int(other.arg_max() or 0)
            notes.append(
                f'column "{column}": {count_of(count, "name")} read in one form, "{values[row]}" as "{name[row]}".'
            )
            inexact = int(values.filter(other).str.contains(_SCIENTIFIC).sum())
            if inexact:
                notes.append(
                    f'column "{column}": {count_of(inexact, "name")} in scientific notation, which may have lost '
                    "digits; write the column as text."
                )
    return notes


def _decode(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def _one_form(values: pl.Series) -> pl.Series:
    if not values.str.contains(_ANOTHER_FORM).any():
        return values
    stripped = values.str.strip_chars()
    whole = stripped.str.contains(_WHOLE).fill_null(value=False)
    if whole.any():
        stripped = stripped.zip_with(~whole, stripped.str.replace(r"\.0*$", "").replace("-0", "0"))
    scientific = stripped.str.contains(_SCIENTIFIC).fill_null(value=False)
    if scientific.any():
        distinct = stripped.filter(scientific).unique().to_list()
        stripped = stripped.replace({text: _plain_digits(text) for text in distinct})
    return stripped


def _plain_digits(text: str) -> str:
    number = Decimal(text)
    return str(int(number)) if number == number.to_integral_value() else text


def looks_missing(names: pl.Series) -> pl.Series:
    """True where a name looks like a missing value, or is missing."""
    return names.is_null() | names.str.strip_chars().str.to_lowercase().is_in(MISSING_LIKE).fill_null(value=True)
