"""Faults of a log's rows: detected for whole columns at once, reported for one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slatewise.errors import InputError, input_error


@dataclass(frozen=True, kw_only=True, eq=False)
class Fault:
    """A check of one column, and the rows that fail it."""

    check: str
    """What should hold, for example "reward is a finite number"."""
    column: str
    """Canonical name of the column."""
    rows: NDArray[np.int64]
    """0-based, ascending; empty = the check passed."""
    what: str
    """What is wrong and what was expected; printed after the value."""
    advice: str = ""


class RowError(InputError):
    """A row of a frame that cannot be used; the caller that knows the file adds file and line."""

    def __init__(self, *, row: int, column: str, what: str, advice: str) -> None:
        self.row = row
        """0-based."""
        self.column = column
        self.what = what
        self.advice = advice
        super().__init__(str(input_error(f"row {row + 1:,}: {what}", column=column, advice=advice)))


def first(faults: Sequence[Fault]) -> Fault | None:
    """The fault with the smallest row, the first of several; None where every check passed."""
    failing = [fault for fault in faults if len(fault.rows)]
    return min(failing, key=lambda fault: int(fault.rows[0]), default=None)


def row_error(fault: Fault, value: Callable[[str, int], object]) -> RowError:
    """The error about the first row of a fault.

    Args:
        fault: what is wrong.
        value: returns the value at a (canonical column, 0-based row), as the user wrote it.
    """
    row = int(fault.rows[0])
    return RowError(
        row=row, column=fault.column, what=f"{quote(value(fault.column, row))} {fault.what}", advice=fault.advice
    )


def quote(value: object) -> str:
    """A value for a message: quoted where it is text, shortened where it is long."""
    if value is None:
        return "an empty cell"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    printable = "".join(character if character.isprintable() else "·" for character in text)
    return printable if len(printable) <= 80 else f'{printable[:60]}…"'
