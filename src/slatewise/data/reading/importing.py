"""A log in any of the forms people keep it in → a prepared data set; what cannot be used is named by file and line."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from slatewise.data import prepared
from slatewise.data.preparation import prepare
from slatewise.data.prepared import Dataset
from slatewise.data.reading.faults import RowError, first, row_error
from slatewise.data.reading.outcomes import merge
from slatewise.data.reading.raw_log import NOTHING, Log, Options, Report, Tell, read_items, read_log
from slatewise.data.reading.recognition import ITEMS, recognise
from slatewise.data.reading.source import Source
from slatewise.errors import SlatewiseError, located


def import_path(path: Path, out: Path, options: Options | None = None, *, progress: Tell | None = None) -> Dataset:
    """Read a log, check every row, and write it as a prepared data set.

    Args:
        path: CSV or other delimited text (also gzip), Parquet, JSON lines, or a folder of them; RecBole atomic files;
            a MovieLens folder; a folder of decisions and outcomes.
        out: folder to make; an older prepared data set there is replaced, anything else is refused.
        options: what the log does not say of itself.
        progress: told of the steps.

    Raises:
        InputError: what is wrong, with file, line and column; `out` is as it was.
        SlatewiseError: the disk cannot be written or read (full, no permission); `out` is as it was.
    """
    try:
        return _imported(path, out, options or Options(), progress or (lambda what, done, total: None))
    except OSError as error:
        place = error.filename or out
        raise SlatewiseError(f"{place}: {error.strerror}. {NOTHING} Check the place and its permissions.") from error


def _imported(path: Path, out: Path, options: Options, tell: Tell) -> Dataset:
    prepared.check_output(out, source=path)
    source = recognise(path, assigned=options.columns, header=options.header)
    name = default_name(path, options)
    if source.events is not None:
        return _import_events(source, out, name, options, tell)
    log = read_log(source, options, tell=tell)
    for table in log.tables:
        if table.broken:
            raise table.broken_error(NOTHING)
    fault = first(log.faults)
    if fault is not None:
        raise log.error(row_error(fault, log.value))
    log = _merged(log)
    items = read_items(source)
    tell("sorting and writing", len(source.log), len(source.log) + 1)
    try:
        return prepare(
            log.frame,
            out=out,
            name=name,
            items=items,
            kind=options.kind or log.kind,
            source=asdict(log.report),
            clock=options.time,
            simulated=options.simulated,
        )
    except RowError as problem:
        raise log.error(log.again(problem)) from None


def default_name(path: Path, options: Options) -> str:
    """The name of the data set: the one given, else that of the file or folder without its ending."""
    return options.name or path.resolve().name.partition(".")[0] or "log"


def _merged(log: Log) -> Log:
    frame, origin = merge(log.frame)
    if origin is None:
        return replace(log, frame=frame)
    gone = log.frame.height - frame.height
    note = f"{gone:,} rows told further outcomes of a shown item; its rewards were added."
    report = replace(log.report, notes=(*log.report.notes, note))
    return replace(log, frame=frame, origin=origin, report=report)


def _import_events(source: Source, out: Path, name: str, options: Options, tell: Tell) -> Dataset:
    assert source.events is not None
    path, items = source.events, read_items(source)
    # the module that joins decisions and outcomes is loaded only for them
    from slatewise.data.wire import load_events

    tell("reading decisions and outcomes", 0, 2)
    events = load_events(path, rewards=options.outcomes or None)
    if events.frame.height == 0:
        raise located("no decision and no outcome", file=path, advice="Serve something first.")
    tell("sorting and writing", 1, 2)
    report = Report(
        format="decisions and outcomes",
        files=tuple(file.name for file in ([path] if path.is_file() else sorted(path.rglob("*.jsonl")))),
        items="" if items is None else ITEMS,
        passed_over=(),
        columns={column: column for column in events.frame.columns},
        ignored=(),
        notes=tuple(events.tally.sentences()),
    )
    try:
        return prepare(
            events.frame,
            out=out,
            name=name,
            items=items,
            kind=options.kind,
            source=asdict(report),
            simulated=options.simulated,
        )
    except RowError as problem:
        raise located(problem.what, file=path, column=problem.column, advice=f"{NOTHING} {problem.advice}") from None


__all__ = ["Options", "Report", "Tell", "default_name", "import_path"]
