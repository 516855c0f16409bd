"""Import of a log in any supported format into a prepared data set; faults are named by file and line."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import polars as pl

from slatewise.data import prepared
from slatewise.data.manifest import Provenance
from slatewise.data.preparation import prepare
from slatewise.data.prepared import Dataset, Kind
from slatewise.data.reading.checks import canonical, check_rows
from slatewise.data.reading.core import k_core
from slatewise.data.reading.faults import RowError, first, row_error
from slatewise.data.reading.item_table import item_rows
from slatewise.data.reading.name_forms import looks_missing
from slatewise.data.reading.outcomes import merge
from slatewise.data.reading.raw_log import Log, Options, Report, read_items, read_log
from slatewise.data.reading.recognition import ITEMS, recognise
from slatewise.data.reading.source import NOTHING, Progress, Source
from slatewise.errors import SlatewiseError, input_error
from slatewise.wording import agree, count_of


def import_path(path: Path, out: Path, options: Options | None = None, *, progress: Progress | None = None) -> Dataset:
    """Read a log, check every row, and write it as a prepared data set.

    Args:
        path: CSV or other delimited text (also gzip), Parquet, JSON lines, or a folder of them; RecBole atomic files;
            a MovieLens folder; a folder of decisions and outcomes.
        out: folder to create; an older prepared data set there is replaced, anything else is refused.
        options: settings that the log itself does not contain.
        progress: called at every step.

    Raises:
        InputError: what is wrong, with file, line and column; `out` is unchanged.
        SlatewiseError: the disk cannot be written or read (full, no permission); `out` is unchanged.
    """
    try:
        return _import(path, out, options or Options(), progress or (lambda what, done, total: None))
    except OSError as error:
        path_of_error = error.filename or out
        raise SlatewiseError(
            f"{path_of_error}: {error.strerror}. {NOTHING} Check the path and its permissions."
        ) from error


def _import(path: Path, out: Path, options: Options, progress: Progress) -> Dataset:
    prepared.check_output(out, source=path)
    source = recognise(path, assigned=options.column_names, header=options.header)
    name = default_name(path, options)
    if source.events is not None:
        if options.core is not None or options.set_aside_missing:
            raise input_error(
                "--core and --set-aside-missing are for tables, and these are decisions and outcomes",
                file=path,
                advice=f"{NOTHING} Leave them out.",
            )
        return _import_events(source, out, name, options, progress)
    log = read_log(source, options, progress=progress)
    for table in log.tables:
        if table.broken:
            raise table.broken_error(NOTHING)
    fault = first(log.faults)
    if fault is not None:
        raise log.error(row_error(fault, log.value))
    log, items = complete(log, source, options)
    if options.core is not None:
        log, items = _core(log, items, options.core, kind=options.kind or log.kind)
    progress("sorting and writing", len(source.log), len(source.log) + 1)
    try:
        return prepare(
            log.frame,
            out=out,
            name=name,
            items=items,
            kind=options.kind or log.kind,
            provenance=Provenance(
                source=_source_record(log.report, options), clock=options.time, simulated=options.simulated
            ),
            set_aside=log.set_aside,
        )
    except RowError as problem:
        raise log.error(log.restate(problem)) from None


def complete(log: Log, source: Source, options: Options) -> tuple[Log, pl.DataFrame | None]:
    """A log without faults of cells as it is imported: outcomes merged, rows set aside; and its item table.

    Raises:
        InputError: no row is left, or an item table that cannot be used.
    """
    log = _merge_outcomes(log)
    if options.set_aside_missing:
        log = set_missing_aside(log)
    items, item_notes = read_items(source, options.column_names)
    return log.noting(*item_notes), items


def default_name(path: Path, options: Options) -> str:
    """The name of the data set: the given one, else that of the file or folder without its extension."""
    return options.name or path.resolve().name.partition(".")[0] or "log"


def _merge_outcomes(log: Log) -> Log:
    frame, origin = merge(log.frame)
    if origin is None:
        return replace(log, frame=frame)
    reason = "further outcomes of a shown item, whose rewards were added"
    return replace(log, frame=frame, origin=origin, set_aside={reason: log.frame.height - frame.height})


def set_missing_aside(log: Log) -> Log:
    """The log without rows whose user or item looks like a missing value; they are counted.

    Raises:
        InputError: no row is left.
    """
    missing = (looks_missing(log.frame["user_id"]) | looks_missing(log.frame["item_id"])).to_numpy()
    if missing.all():
        file, line = log.place(0)
        raise input_error(
            "every row has a user or an item whose name looks like a missing value",
            file=file,
            row=line,
            advice=f"{NOTHING} Check the columns of users and items: --column user_id=NAME --column item_id=NAME.",
        )
    reason = "their user or item looks like a missing value"
    return replace(log.only(~missing), set_aside={**log.set_aside, reason: int(missing.sum())})


def _core(log: Log, items: pl.DataFrame | None, k: int, *, kind: Kind | None) -> tuple[Log, pl.DataFrame | None]:
    """The k-core of a log of uses, and its rows of the item table.

    Raises:
        InputError: a log of slates, or an empty core.
    """
    file = log.tables[0].file
    if kind == "impressions":
        raise input_error(
            f"--core {k:,} for a log of slates: without some of their items, slates are not what was shown",
            file=file,
            advice=f"{NOTHING} Leave --core out; for a log in which every row is a use, say --kind uses.",
        )
    fault = first(check_rows(canonical(log.frame)))
    if fault is not None:
        raise log.error(log.restate(row_error(fault, log.value)))
    core = k_core(log.frame["user_id"], log.frame["item_id"], k)
    if not core.keep.any():
        raise input_error(
            f"no users and items have {count_of(k, 'event')} each: the {k:,}-core is empty",
            file=file,
            advice=f"{NOTHING} Give --core a smaller number.",
        )
    log = replace(log.only(core.keep), set_aside={**log.set_aside, **core.set_aside})
    note = (
        f"--core {k:,} set {count_of(core.users, 'user')} and {count_of(core.items, 'item')} aside, in "
        f"{count_of(core.rounds, 'round')}."
    )
    log = log.noting(note)
    if items is not None:
        kept_items = items.filter(items["item_id"].is_in(log.frame["item_id"].unique().implode()))
        outside = items.height - kept_items.height
        log = log.noting(
            f"{count_of(outside, 'item')} of the item table {agree(outside, 'is', 'are')} not in the core."
        )
        items = kept_items
    return log, items


def _import_events(source: Source, out: Path, name: str, options: Options, progress: Progress) -> Dataset:
    assert source.events is not None
    path, (items, item_notes) = source.events, read_items(source)
    # imported here because most logs do not need the module that joins decisions and outcomes
    from slatewise.data.event_log import load_events

    progress("reading decisions and outcomes", 0, 2)
    events = load_events(path, rewards=options.outcomes or None)
    if events.frame.height == 0:
        raise input_error("there is no decision or outcome", file=path, advice="Serve slates first.")
    progress("sorting and writing", 1, 2)
    is_recorded = items is None and len(events.items.names) > 0
    if is_recorded:
        items = item_rows(events.items)
        advice = "." if options.has_titles else "; --items RUN brings their titles."
        item_notes = [f"The catalogs that were served have {count_of(len(items), 'item')}{advice}"]
    report = Report(
        format="decisions and outcomes",
        files=tuple(file.name for file in ([path] if path.is_file() else sorted(path.rglob("*.jsonl")))),
        items=ITEMS if source.items is not None else "",
        passed_over=source.passed_over,
        columns={column: column for column in events.frame.columns},
        ignored=(),
        notes=(*events.tally.sentences(), *item_notes),
    )
    try:
        return prepare(
            events.frame,
            out=out,
            name=name,
            items=items,
            is_recorded=is_recorded,
            conditions=events.conditions,
            kind=options.kind,
            provenance=Provenance(source=_source_record(report, options), simulated=options.simulated),
        )
    except RowError as problem:
        raise input_error(
            problem.what, file=path, column=problem.column, advice=f"{NOTHING} {problem.advice}"
        ) from None


def _source_record(report: Report, options: Options) -> dict[str, object]:
    """What the manifest says of the source: a later log is read the same way."""
    return {**asdict(report), "outcomes": dict(options.outcomes), "kind": options.kind}


__all__ = ["Options", "Report", "Progress", "default_name", "import_path"]
