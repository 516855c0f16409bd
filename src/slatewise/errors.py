"""Errors that a user can act on: what is wrong, where, what was expected, what to do."""

from __future__ import annotations

from pathlib import Path


class Notice(UserWarning):
    """Something to know that stops nothing; commands print it as a note."""


class SlatewiseError(Exception):
    """An error whose message says what to do next. Exit code 1 on the command line."""


class InputError(SlatewiseError):
    """A file, value or argument that cannot be used. Exit code 2 on the command line."""


def input_error(
    what: str, *, file: str | Path | None = None, row: int | None = None, column: str | None = None, advice: str = ""
) -> InputError:
    """An InputError that names the place first and the way out last.

    Args:
        what: what stands there and what was expected.
        file: path of the file.
        row: line of the file as an editor counts it (1 = first line); for Parquet the 1-based row.
        column: name of the column.
        advice: what to do next.
    """
    place = [str(file)] if file is not None else []
    if row is not None:
        place.append(f"line {row:,}")
    if column is not None:
        place.append(f'column "{column}"')
    head = ", ".join(place)
    return InputError(" ".join(part for part in (f"{head}: {what}." if head else f"{what}.", advice) if part))
