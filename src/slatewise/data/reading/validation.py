"""Validation of a log, check by check, with examples; a bad row is reported, never raised."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from slatewise.data import prepared
from slatewise.data.manifest import Manifest, read_manifest
from slatewise.data.preparation import foresee_account
from slatewise.data.reading.account import Account
from slatewise.data.reading.checks import canonical, check_events, check_rows
from slatewise.data.reading.faults import Fault, quote
from slatewise.data.reading.importing import complete, set_missing_aside
from slatewise.data.reading.item_table import item_rows
from slatewise.data.reading.log_checks import EXAMPLES, Check, check_of, log_checks, missing_check, order_check
from slatewise.data.reading.name_forms import texts
from slatewise.data.reading.outcomes import merge
from slatewise.data.reading.prepared_checks import check_prepared
from slatewise.data.reading.raw_log import Log, Options, read_items, read_log
from slatewise.data.reading.recognition import recognise
from slatewise.data.reading.source import Progress, Source
from slatewise.data.reading.tables import Table
from slatewise.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What there is to know of a log before it is imported, or of a prepared data set."""

    checks: Sequence[Check]
    """Including those that passed."""
    account: Account | None = None
    """The one that the import would give; None for a prepared data set, which stores it, and where it is refused."""
    notes: tuple[str, ...] = ()
    """On files and columns, as the import prints them."""


def validate(path: Path, options: Options | None = None, *, progress: Progress | None = None) -> Validation:
    """Check a log, and do all of an import but the writing.

    Args:
        path: a log in any format that `import_path` reads, or a prepared data set.
        options: settings that the log itself does not contain.
        progress: called at every step.
    """
    if prepared.is_prepared(path):
        return Validation(checks=check_prepared(path))
    options = options or Options()
    try:
        source = recognise(path, assigned=options.column_names, header=options.header)
        if source.events is not None:
            return _events(source, options)
        log = read_log(source, options, progress=progress or (lambda what, done, total: None))
    except (InputError, OSError) as error:
        return Validation(checks=[_readable(error)])
    checks = [_readable(None), *_tables(log.tables), *_rows(log, options), *_items(source, log, options)]
    if any(check.stops_import for check in checks):
        return Validation(checks=checks)
    try:
        log, items = complete(log, source, options)
        kind = options.kind or log.kind
        account = foresee_account(log.frame, items=items, kind=kind, clock=options.time, set_aside=log.set_aside)
    except InputError as error:
        return Validation(checks=[*checks, _importable(error)])
    return Validation(checks=[*checks, _importable(None)], account=account, notes=log.report.notes)


def stored_manifest(path: Path) -> Manifest | None:
    """The manifest of a prepared data set; None for a log, or where it cannot be read."""
    if not prepared.is_prepared(path):
        return None
    try:
        manifest = read_manifest(path)
        Account.of(manifest.source)
    except (InputError, msgspec.ValidationError):
        return None
    return manifest


def _readable(error: Exception | None) -> Check:
    return check_of("the log can be read", [str(error)] if error else [], stops=True)


def _importable(error: Exception | None) -> Check:
    return check_of("the log can be imported", [str(error)] if error else [], stops=True)


def _tables(tables: Iterable[Table]) -> list[Check]:
    names = ("every line has as many fields as the first", "the text is UTF-8")
    failures: dict[str, list[str]] = {name: [] for name in names}
    counts: dict[str, int] = {}
    advice: dict[str, str] = {}
    for table in tables:
        for each in table.broken:
            examples = failures.setdefault(each.check, [])
            examples.append(f"{table.file.name}, line {int(each.lines[0]):,}: {each.what}")
            examples += [f"{table.file.name}, line {int(line):,}" for line in each.lines[1:EXAMPLES]]
            counts[each.check] = counts.get(each.check, 0) + len(each.lines)
            advice[each.check] = each.advice
    return [
        check_of(name, examples, count=counts.get(name, 0), advice=advice.get(name, ""), stops=True)
        for name, examples in failures.items()
    ]


def _rows(log: Log, options: Options) -> list[Check]:
    """Checks of cells, then of rows, then of the whole log; each only of the rows that passed the previous ones."""
    checks = [_of_fault(fault, log) for fault in log.faults]
    log = _without(log, log.faults)
    if log.frame.height == 0:
        return [*checks, check_of("there are rows that can be used", ["none"], stops=True)]
    frame, merged = merge(log.frame)
    origin = log.origin if merged is None or log.origin is None else log.origin[merged]
    log = replace(log, frame=canonical(frame), origin=origin)
    try:
        log = set_missing_aside(log) if options.set_aside_missing else log
    except InputError as error:
        return [*checks, check_of("there are rows that can be used", [str(error)], stops=True)]
    faults = check_rows(log.frame)
    checks += [_of_fault(fault, log) for fault in faults]
    log = _without(log, faults)
    if log.frame.height == 0:
        return [*checks, check_of("there are rows that can be used", ["none"], stops=True)]
    checks += [_of_fault(fault, log) for fault in check_events(log.frame)]

    def place(row: int) -> str:
        return _place(log, row)

    priced = "reward" in log.columns
    checks += [missing_check(log.frame, place), order_check(log.frame, place)]
    return [*checks, *log_checks(log.frame, place, priced=priced, clock=options.time)]


def _items(source: Source, log: Log, options: Options) -> list[Check]:
    """Checks of the item table, and of the log against it."""
    if source.items is None:
        return []
    try:
        table, _ = read_items(source, options.column_names)
    except InputError as error:
        return [check_of("the item table can be read", [str(error)], stops=True)]
    table_names = pl.Series(table["item_id"].to_list() if table is not None else [], dtype=pl.String)
    used = texts(log.raw[log.columns["item_id"]])
    absent = used.filter(~used.is_in(table_names.implode()) & used.is_not_null()).unique(maintain_order=True).to_list()
    matches = bool(used.is_in(table_names.implode()).any())
    return [
        check_of("the item table can be read", []),
        check_of(
            "every item of the log is in the item table",
            [f"item {quote(name)}" for name in absent],
            advice="They are kept, without text and features." if matches else "No name of the log is in it.",
        ),
    ]


def _events(source: Source, options: Options) -> Validation:
    from slatewise.data.event_log import load_events

    assert source.events is not None
    try:
        events = load_events(source.events, rewards=options.outcomes or None)
    except InputError as error:
        check = check_of("every line is a decision, an outcome or a catalog", [str(error)], stops=True)
        return Validation(checks=[_readable(None), check])
    tally = events.tally
    checks = [
        _readable(None),
        check_of(
            "every line is a decision, an outcome or a catalog",
            [str(reason) for reason in tally.set_aside],
            count=sum(reason.count for reason in tally.set_aside),
            advice="The import sets them aside.",
        ),
        check_of("every record counts once and has its decision", replace(tally, set_aside=()).sentences()),
    ]
    if events.frame.height == 0:
        checks.append(check_of("there are rows that can be used", ["none"], stops=True))
        return Validation(checks=checks)
    frame = canonical(events.frame)

    def place(row: int) -> str:
        return f'event "{frame["event_id"][row]}"'

    for fault in (*check_rows(frame), *check_events(frame)):
        examples = [f"{place(int(row))}: {frame[fault.column][int(row)]} {fault.what}" for row in fault.rows[:EXAMPLES]]
        checks.append(check_of(fault.check, examples, count=len(fault.rows), advice=fault.advice, stops=True))
    checks += [missing_check(frame, place), *log_checks(frame, place, priced=True)]
    if any(check.stops_import for check in checks):
        return Validation(checks=checks)
    items, notes = read_items(source)
    if items is None and len(events.items.names):
        items = item_rows(events.items)
    return Validation(checks=checks, account=foresee_account(frame, items=items), notes=tuple(notes))


def _without(log: Log, faults: Sequence[Fault]) -> Log:
    """The log without the rows of the faults."""
    keep = np.ones(log.frame.height, np.bool_)
    for fault in faults:
        keep[fault.rows] = False
    return log.only(keep)


def _of_fault(fault: Fault, log: Log) -> Check:
    examples = []
    for row in fault.rows[:EXAMPLES]:
        where = int(row) if log.origin is None else int(log.origin[row])
        examples.append(f"{_place(log, int(row))}: {quote(log.value(fault.column, where))} {fault.what}")
    return check_of(fault.check, examples, count=len(fault.rows), advice=fault.advice, stops=True)


def _place(log: Log, row: int) -> str:
    file, line = log.place(row if log.origin is None else int(log.origin[row]))
    return f"{file.name}, line {line:,}"
