"""The events of a source in canonical columns, with the origin of every row; import and validation start from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from jaxtyping import Bool, Int

from slatewise.data.prepared import Dataset, Kind
from slatewise.data.reading.checks import canonical, check_events, check_rows
from slatewise.data.reading.column_aliases import CLICKS, LOG, plain
from slatewise.data.reading.convert import convert
from slatewise.data.reading.faults import Fault, RowError, first, row_error
from slatewise.data.reading.item_files import item_frame
from slatewise.data.reading.name_forms import NAMES, form_notes
from slatewise.data.reading.outcomes import weigh
from slatewise.data.reading.selection import select
from slatewise.data.reading.source import NOTHING, Progress, Source
from slatewise.data.reading.tables import Table
from slatewise.data.reading.times import check_format
from slatewise.errors import InputError, input_error


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings that the log itself does not contain."""

    name: str | None = None
    """Short name, for reports; None = name of the file or folder."""
    kind: Kind | None = None
    """impressions or uses; None = detect."""
    time_format: str | None = None
    """s, ms, us, ns, iso or a strptime pattern; None = detect."""
    time: bool = True
    """False: there are no times; rows are one second apart, in the order of the file."""
    outcomes: Mapping[str, float] = field(default_factory=dict)
    """Type of outcome → reward."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Canonical column → name in the file."""
    preferred_columns: Mapping[str, str] = field(default_factory=dict)
    """The same for files that have a column of this name; in others columns are recognised as if it were not given."""
    header: tuple[str, ...] | None = None
    """Names of the columns of a file without a header."""
    simulated: bool = False
    """Whether the events come from a simulation."""
    core: int | None = None
    """Keep users and items with at least so many events each; None = keep all."""
    set_aside_missing: bool = False
    """Leave out rows whose user or item looks like a missing value."""
    has_titles: bool = False
    """Whether titles of the items come from somewhere else: --items, or the data set that the log is added to."""

    def __post_init__(self) -> None:
        check_format(self.time_format)
        if self.core is not None and self.core < 1:
            raise input_error(f"--core {self.core}", advice="Expected 1 or more.")
        for outcome, reward in self.outcomes.items():
            if not math.isfinite(reward):
                raise input_error(
                    f"--outcome {outcome}={reward} is not a finite number", advice="Expected for example click=1."
                )
        for canonical_name in self.columns:
            if canonical_name not in LOG and not canonical_name.startswith("context_"):
                raise input_error(
                    f'--column {canonical_name}=…: "{canonical_name}" is not a column of a log',
                    advice=f"Expected one of {', '.join(LOG)}, context_….",
                )

    @property
    def column_names(self) -> dict[str, str]:
        """Canonical column → name in the file, preferred or required."""
        return {**self.preferred_columns, **self.columns}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was recognised in a log; stored as `Dataset.manifest.source`."""

    format: str
    """In words."""
    files: tuple[str, ...]
    """Names of the files with events."""
    items: str
    """Name of the file with items; "" for none."""
    passed_over: tuple[str, ...]
    """Names of files in the folder that were not used."""
    columns: dict[str, str]
    """Canonical column → column of the file."""
    ignored: tuple[str, ...]
    """Columns of the file that were not used."""
    notes: tuple[str, ...]
    """What was decided or left out, one sentence each."""

    @classmethod
    def of(cls, data: Dataset) -> Report:
        """The report of an imported data set.

        Raises:
            ValueError: the data set was not imported.
        """
        return msgspec.convert(data.manifest.source, cls)


@dataclass(frozen=True, kw_only=True, eq=False)
class Log:
    """The rows of a log in canonical columns, and their origin."""

    frame: pl.DataFrame
    faults: tuple[Fault, ...]
    """Cells that could not be converted; null in the frame."""
    tables: tuple[Table, ...]
    raw: pl.DataFrame
    columns: Mapping[str, str]
    """Canonical column → column of the files."""
    kind: Kind | None
    report: Report
    origin: Int[np.ndarray, "R"] | None = None
    """Row of the files that each row of the frame comes from; None = the same row."""
    set_aside: Mapping[str, int] = field(default_factory=dict)
    """Reason → rows of the files that are not in the frame."""

    def only(self, keep: Bool[np.ndarray, "R"]) -> Log:
        """The log with some of its rows."""
        origin = np.arange(self.frame.height) if self.origin is None else self.origin
        return replace(self, frame=self.frame.filter(pl.Series(keep)), origin=origin[keep])

    def noting(self, *notes: str) -> Log:
        """The log with further notes."""
        return replace(self, report=replace(self.report, notes=(*self.report.notes, *notes)))

    def place(self, row: int) -> tuple[Path, int]:
        """File and line of a row of the files (0-based).

        Raises:
            IndexError: beyond the last row.
        """
        for table in self.tables:
            if row < table.frame.height:
                return table.file, table.line(row)
            row -= table.frame.height
        raise IndexError(f"row {row} beyond the last one")

    def value(self, column: str, row: int) -> object:
        """The value of the file in a canonical column."""
        name = self.columns.get(column)
        return self.raw[name][row] if name is not None else self.frame[column][row]

    def error(self, problem: RowError) -> InputError:
        """The error about a row, with file and line."""
        file, line = self.place(problem.row)
        column = self.columns.get(problem.column, problem.column)
        return input_error(
            problem.what, file=file, row=line, column=column, advice=f"{NOTHING} {problem.advice}".strip()
        )

    def restate(self, problem: RowError) -> RowError:
        """Restate an error about a row of the frame as one about the row of the files, with the file's value."""
        frame = canonical(self.frame)
        fault = first(check_rows(frame)) or first(check_events(frame))
        if fault is None:
            return problem
        return row_error(fault if self.origin is None else replace(fault, rows=self.origin[fault.rows]), self.value)


def read_log(source: Source, options: Options, *, progress: Progress) -> Log:
    """Read the events of a source into canonical columns.

    Args:
        source: the files.
        options: settings that the log itself does not contain.
        progress: called at every step.

    Raises:
        InputError: a missing column, no rows, or outcomes without rewards; not for a bad row.
    """
    head = source.log[0]
    selection = select(
        source,
        options.columns,
        preferred=options.preferred_columns,
        clock=options.time,
        time_format=options.time_format,
        progress=progress,
    )
    tables, columns = selection.tables, selection.columns
    raw = _concatenate(tables, columns.values(), head.file)
    if raw.height == 0 and not any(table.broken for table in tables):
        raise input_error(
            "there is a header, but no rows", file=head.file, advice="Check that the file was written to its end."
        )
    progress("checking every row", len(source.log), len(source.log) + 1)
    notes = [*source.notes, *selection.notes]
    frame, faults = convert(raw, columns, time_format=options.time_format)
    named = {columns[name]: name for name in NAMES if name in columns}
    notes += form_notes({column: raw[column] for column in named}, {column: frame[c] for column, c in named.items()})
    if not options.time:
        frame = frame.with_columns(timestamp=pl.int_range(pl.len(), dtype=pl.Int64) * 1_000_000)
        notes.append("There are no times: rows are one second apart, in the order of the file.")
    frame, weight_faults, weight_notes = weigh(frame, options.outcomes, names=columns, file=head.file)
    notes += weight_notes
    if "propensity" in frame.columns and "logp" in frame.columns:
        frame = frame.drop("propensity")
        notes.append('column "propensity" was not used: there is a column with its logarithm.')
    if "position" in frame.columns and "event_id" not in frame.columns:
        notes.append("Positions were dropped: without an event_id every row is a slate of one item.")
    report = Report(
        format=source.format,
        files=tuple(part.file.name for part in source.log),
        items=source.items.file.name if source.items else "",
        passed_over=source.passed_over,
        columns=columns,
        ignored=tuple(name for name in selection.names if name not in columns.values()),
        notes=tuple(notes),
    )
    return Log(
        frame=frame,
        faults=(*faults, *weight_faults),
        tables=tables,
        raw=raw,
        columns=columns,
        kind=_kind(frame, columns),
        report=report,
    )


def _concatenate(tables: Sequence[Table], names: Iterable[str], file: Path) -> pl.DataFrame:
    columns = list(dict.fromkeys(names))
    frames = []
    for table in tables:
        absent = [name for name in columns if name not in table.frame.columns]
        # one file of JSON lines may lack a column that another has
        empty = [pl.lit(None, dtype=pl.String).alias(name) for name in absent]
        frames.append(table.frame.with_columns(empty).select(columns))
    try:
        return pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]
    except pl.exceptions.PolarsError as error:
        raise input_error(
            f"the files hold one column in different types: {str(error).splitlines()[0]}",
            file=file.parent,
            advice="Import them one by one, or write the columns with the same type.",
        ) from error


def _kind(frame: pl.DataFrame, columns: Mapping[str, str]) -> Kind | None:
    """Impressions where the log records what was shown: by its columns, or by rewards that are clicks (0 or 1)."""
    if {"event_id", "position", "propensity", "logp", "used"} & set(frame.columns):
        return "impressions"
    if "reward" in columns and plain(columns["reward"]) in CLICKS and frame["reward"].is_in([0.0, 1.0]).all():
        return "impressions"
    return "impressions" if "outcome" in columns and (frame["reward"] == 0).any() else "uses"


def read_items(source: Source, assigned: Mapping[str, str] | None = None) -> tuple[pl.DataFrame | None, list[str]]:
    """The item table of a source (None where it has none), and notes on it.

    Args:
        source: the files.
        assigned: canonical name → name in the file, where the user specified it.

    Raises:
        InputError: what is wrong with it.
    """
    if source.items is None:
        return None, []
    table = source.items.read()
    if table.broken:
        raise table.broken_error(NOTHING)
    return item_frame(table, assigned)
