"""JSON lines as a table of text, with the line of every row, the broken lines and the nested cells."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from slatewise.data.reading.content import read_text
from slatewise.data.reading.faults import quote
from slatewise.data.reading.lines import LONGEST, BrokenLines
from slatewise.data.reading.tables import NestedCells, Table

LABELS = "|"
"""Joins a list of texts, as item tables separate labels."""
_NOT_A_NUMBER = re.compile(rb"\b(NaN|Infinity)\b")
_decode = msgspec.json.Decoder().decode


class BrokenLineError(Exception):
    """A line that is not a JSON object."""

    def __init__(self, check: str, what: str) -> None:
        self.check, self.what = check, what
        super().__init__(what)


def read_json(file: Path) -> Table:
    """Read the objects of JSON lines as columns of text; lines that are not objects are left out and reported.

    Raises:
        InputError: the file cannot be read.
    """
    text = bytes(read_text(file)).removeprefix(codecs.BOM_UTF8)
    columns: dict[str, list[str | None]] = {}
    nested: dict[str, list[tuple[int, str]]] = {}
    numbers: list[int] = []
    faults: dict[str, list[tuple[int, str]]] = {}
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            value = decode_object(line)
        except BrokenLineError as error:
            faults.setdefault(error.check, []).append((number, error.what))
            continue
        row = {name: _text(cell) for name, cell in value.items()}
        for name, kind in _nested_cells(value):
            nested.setdefault(name, []).append((len(numbers), kind))
        for name in [name for name in row if name not in columns]:
            columns[name] = [None] * len(numbers)
        for name, values in columns.items():
            values.append(row.get(name))
        numbers.append(number)
    return Table(
        file=file,
        frame=pl.DataFrame({name: pl.Series(values, dtype=pl.String) for name, values in columns.items()}),
        lines=np.array(numbers, np.int64),
        broken=tuple(
            BrokenLines(
                check=check,
                lines=np.array([line for line, _ in failures], np.int64),
                what=failures[0][1],
                advice="Correct or remove the line.",
            )
            for check, failures in faults.items()
        ),
        nested={
            name: NestedCells(rows=np.array([row for row, _ in cells], np.int64), kind=cells[0][1])
            for name, cells in nested.items()
        },
    )


def decode_object(line: bytes) -> dict[str, Any]:
    """The object of a line; NaN and Infinity, which JSON does not have but Python writes, are numbers.

    Raises:
        BrokenLineError: what is wrong with the line.
    """
    if len(line) > LONGEST:
        raise BrokenLineError(
            f"no line is longer than {LONGEST:,} bytes",
            f"the line has {len(line):,} bytes; expected at most {LONGEST:,}",
        )
    if b"\0" in line:
        raise BrokenLineError("there are no NUL bytes", "a NUL byte (expected text)")
    try:
        value = _decode(line)
    except UnicodeDecodeError as error:
        raise BrokenLineError("the text is UTF-8", f"byte 0x{line[error.start]:02X} is not valid UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        value = _decode_with_nan(line)
        if value is None:
            cut = "cut short" if "truncated" in str(error) else "not valid JSON"
            what = f"{cut}: {error} (expected one JSON object per line)"
            raise BrokenLineError("every line is JSON", what) from None
    if not isinstance(value, dict):
        what = f"{quote(str(value))} is not an object (expected one JSON object per line)"
        raise BrokenLineError("every line is a JSON object", what)
    return value


def _decode_with_nan(line: bytes) -> Any:
    """The value of a line whose only fault is NaN or Infinity; None for any other line."""
    if not _NOT_A_NUMBER.search(line):
        return None
    try:
        value = json.loads(line)
        # Python's reader takes halves of characters that no text can hold
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return value


def _text(cell: Any) -> str | None:
    if isinstance(cell, list):
        return LABELS.join(cell) if _are_texts(cell) else None
    if isinstance(cell, dict):
        return None
    return cell if isinstance(cell, str | None) else str(cell).lower()


def _nested_cells(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, cell in row.items():
        if isinstance(cell, dict):
            yield name, "an object"
        elif isinstance(cell, list):
            yield name, "a list"


def _are_texts(cells: list[Any]) -> bool:
    return bool(cells) and all(isinstance(cell, str) for cell in cells)
