"""Which columns of a log are read: by their names, their types and, of several clocks, by the finest one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slatewise.data.reading.checks import CONTEXT
from slatewise.data.reading.column_aliases import LOG, missing, name_columns
from slatewise.data.reading.source import NOTHING, Progress, Source
from slatewise.data.reading.tables import Table, parquet_nested
from slatewise.data.reading.times import resolution

_ERRORS_IF_NESTED = ("user_id", "item_id", "timestamp", "reward", "outcome")
"""Without them the log would be another one; other columns are passed over where they hold lists or objects."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """The tables of a log, and the columns to read."""

    tables: tuple[Table, ...]
    """Their rows with lists or objects in a used column are broken lines."""
    names: tuple[str, ...]
    """Of every column."""
    columns: dict[str, str]
    """Canonical column → name in the files."""
    notes: tuple[str, ...]
    """On columns that could have been used and were not."""


def select(
    source: Source,
    required: Mapping[str, str],
    *,
    preferred: Mapping[str, str],
    clock: bool,
    time_format: str | None,
    progress: Progress,
) -> Selection:
    """Read the tables of a source and choose their columns.

    Args:
        source: the files.
        required: canonical name → name in the file, where the user specified it.
        preferred: the same, where the file has a column of that name.
        clock: False where a column of times is not wanted.
        time_format: see `slatewise.data.reading.times.to_microseconds`.
        progress: called at every step.

    Raises:
        InputError: a missing column.
    """
    head = source.log[0]
    tables: list[Table] = []
    names = head.names
    if head.is_json:
        # a line names only the columns it has: all columns are known only at the end
        tables = _read(source, None, progress)
        names = tuple(dict.fromkeys((*names, *(name for table in tables for name in table.frame.columns))))
        nested = {name for name in names if _is_nested(tables, name)}
    else:
        nested = parquet_nested(head.file) if head.form == "Parquet" else set()
    assigned = {**{canonical: name for canonical, name in preferred.items() if name in names}, **required}
    columns, doubles, notes = _match(names, nested, assigned)
    notes += _other_names(columns, preferred, required)
    clocks = [columns["timestamp"]] if clock and "timestamp" in columns else []
    clocks += [name for name, canonical in doubles.items() if canonical == "timestamp" and clocks]
    if not clock:
        columns.pop("timestamp", None)
    for canonical in (*assigned, "user_id", "item_id", *(["timestamp"] if clock else [])):
        if assigned.get(canonical, columns.get(canonical)) not in names:
            for table in tables:
                if table.broken:
                    raise table.broken_error(NOTHING)
            raise missing(canonical, names, file=head.file, row=None if head.dialect is None else 1)
    tables = tables or _read(source, {*columns.values(), *clocks}, progress)
    if len(clocks) > 1:
        columns["timestamp"] = _finest(tables[0], clocks, time_format)
        notes += [
            f'column "{name}" was not used: "{columns["timestamp"]}" is the finer clock (--column timestamp=NAME).'
            for name in clocks
            if name != columns["timestamp"]
        ]
    return Selection(
        tables=tuple(table.without_nested(columns.values()) for table in tables),
        names=names,
        columns=columns,
        notes=tuple(notes),
    )


def _match(
    names: Sequence[str], nested: set[str], assigned: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Canonical name → column, column → canonical name that another column has, and notes."""
    named = name_columns([name for name in names if name not in nested or name in assigned.values()], assigned)
    columns, notes = dict(named.columns), []
    for canonical, name in name_columns(names, assigned).columns.items():
        if canonical in columns or name not in nested:
            continue
        if canonical in _ERRORS_IF_NESTED:
            columns[canonical] = name
        else:
            notes.append(f'column "{name}" was not used: it holds lists or objects.')
    columns = {name: column for name, column in columns.items() if name in LOG or name.startswith(CONTEXT)}
    notes += [
        f'column "{name}" was not used: another one is used as {canonical}.'
        for name, canonical in named.doubles.items()
        if canonical != "timestamp"
    ]
    return columns, named.doubles, notes


def _other_names(columns: Mapping[str, str], preferred: Mapping[str, str], required: Mapping[str, str]) -> list[str]:
    """Notes on columns that are read from another one than the preferred, because the file lacks that."""
    return [
        f'There is no column "{name}": {canonical} is read from "{columns[canonical]}".'
        for canonical, name in preferred.items()
        if canonical not in required and columns.get(canonical, name) != name
    ]


def _finest(table: Table, clocks: Sequence[str], time_format: str | None) -> str:
    """The clock with the shortest unit; of equal ones the first, and the first if none can be read."""
    units = {
        name: resolution(table.frame[name], time_format)
        for name in clocks
        if name in table.frame.columns and name not in table.nested
    }
    readable = {name: unit for name, unit in units.items() if unit is not None}
    return min(readable, key=lambda name: readable[name], default=clocks[0])


def _is_nested(tables: Sequence[Table], name: str) -> bool:
    """Whether a column holds nothing but lists or objects."""
    having = [table for table in tables if name in table.frame.columns and table.frame[name].len()]
    return bool(having) and all(table.is_nested(name) for table in having)


def _read(source: Source, columns: set[str] | None, progress: Progress) -> list[Table]:
    tables = []
    for index, part in enumerate(source.log):
        progress(f"reading {part.file.name}", index, len(source.log) + 1)
        tables.append(part.read(columns))
    return tables
