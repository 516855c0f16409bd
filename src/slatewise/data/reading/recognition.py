"""Recognition of a log by content: the files with events, the item table, and how to read them.

File names decide only between files of the same content (`u.data` and its splits in a MovieLens folder).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slatewise.data.prepared import is_prepared
from slatewise.data.reading import movielens
from slatewise.data.reading.column_aliases import is_feature, item_columns, name_columns, plain, recbole
from slatewise.data.reading.content import HEAD, content, read_head
from slatewise.data.reading.dialect import find_dialect
from slatewise.data.reading.json_lines import BrokenLineError, decode_object
from slatewise.data.reading.source import JSON_LINES, Role, Source, SourceFile
from slatewise.data.reading.tables import parquet_names
from slatewise.errors import InputError, input_error

ITEMS = "items.parquet"
"""Optional item table in a folder of decisions and outcomes."""
_CATALOG = re.compile(r"catalog-[0-9a-f]+\.parquet")
"""Items of a version of the catalog, which the service writes beside its log."""
_SAMPLE = 10
"""Lines of which one must be a decision, an outcome or a catalog."""
_EVENT = {"timestamp", "event_id", "session_id", "position", "propensity", "logp", "outcome"}


def recognise(path: Path, *, assigned: Mapping[str, str] | None = None, header: Sequence[str] | None = None) -> Source:
    """The log at a path.

    Args:
        path: file or folder.
        assigned: canonical name → name in the file, where the user specified it.
        header: names of the columns of a file without a header.

    Raises:
        InputError: no such path, nothing that can be read, or several logs that do not belong together.
    """
    if not path.exists():
        raise input_error("no such file or folder", file=path, advice="Check the path.")
    if is_prepared(path):
        raise input_error("it is a prepared data set already", file=path, advice="Train on it, or pass the log itself.")
    if path.is_dir():
        return _folder(path, assigned, header)
    if not path.is_file():
        raise input_error("neither a file nor a folder", file=path, advice="Write the log to a file first.")
    if _holds_events(path):
        return Source(format="decisions and outcomes", log=(), events=path)
    part = _source_file(path, assigned, header)
    if part.role == "other" and part.dialect is not None and not part.dialect.header and header is None:
        raise _no_header(path)
    return Source(format=_format(part), log=(replace(part, role="log"),))


def recognise_items(file: Path) -> Source:
    """The item table in a file.

    Raises:
        InputError: it cannot be read, or it is no item table.
    """
    part = _source_file(file, None, None)
    named = item_columns(part.names, None).keys()
    # any column describes the items here, a date or a number of stars, too
    if "item_id" not in named or "user_id" in named or len(part.names) == 1:
        raise input_error(
            f"it is no item table; its columns are {', '.join(part.names[:12])}",
            file=file,
            advice="Expected item_id, columns that describe the items, such as title, genres or price, and no user_id.",
        )
    return Source(format=_format(part), log=(), items=replace(part, role="items"))


def recognise_users(file: Path) -> SourceFile:
    """The table of users in a file.

    Raises:
        InputError: it cannot be read, or it is a log.
    """
    part = _source_file(file, None, None)
    named = name_columns(part.names).columns.keys()
    if "user_id" not in named or "item_id" in named:
        raise input_error(
            f"it is no table of users; its columns are {', '.join(part.names[:12])}",
            file=file,
            advice="Expected user_id, columns that describe the users, such as age or country, and no item_id.",
        )
    return part


def _folder(path: Path, assigned: Mapping[str, str] | None, header: Sequence[str] | None) -> Source:
    try:
        lines = [file for file in (*path.glob("*.jsonl"), *path.glob("*/*.jsonl")) if file.is_file()]
        events = [file for file in sorted(lines) if _holds_events(file)]
        entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
        files = [entry for entry in entries if entry.is_file()]
        folders = [entry for entry in entries if entry.is_dir()]
    except OSError as error:
        raise input_error(f"it cannot be read: {error.strerror}", file=path, advice="Check its permissions.") from error
    if events:
        return _event_folder(path, events, entries)
    parts: list[SourceFile] = []
    refused: dict[Path, InputError] = {}
    for file in files:
        try:
            parts.append(_source_file(file, assigned, header))
        except InputError as error:
            refused[file] = error
    logs = [part for part in parts if part.role == "log"]
    log = _log(path, logs)
    if not log:
        raise _nothing(path, entries, refused)
    log_suffixes = {_suffix(part.file) for part in log}
    for file, refusal in refused.items():
        if _suffix(file) in log_suffixes:
            raise refusal
    items = sorted(
        (part for part in parts if part.role == "items"),
        key=lambda part: ("text" not in name_columns(part.names).columns, -len(part.names), part.file.name),
    )
    movielens.check_folder(path, [part.shape for part in parts], log[0].shape)
    used = {part.file for part in (*log, *items[:1])}
    return Source(
        format=_format(log[0]),
        log=log,
        items=items[0] if items else None,
        passed_over=(
            *(file.name for file in files if file not in used),
            *(f"{folder.name}/" for folder in folders),
        ),
        notes=tuple(
            f"{part.file.name} holds users and items too, but no reward: it was not read."
            for part in logs
            if part not in log and part.shape is None
        ),
    )


def _suffix(file: Path) -> str:
    """The ending of a file's name, of what is packed where it is gzip: ".csv" of log.csv.gz."""
    return Path(file.stem).suffix if file.suffix == ".gz" else file.suffix


def _event_folder(path: Path, events: Sequence[Path], entries: Sequence[Path]) -> Source:
    """A folder of decisions and outcomes; any other log in it is refused, anything else is passed over by name."""
    passed_over = []
    for entry in entries:
        if entry.is_dir():
            passed_over += [] if any(entry in file.parents for file in events) else [f"{entry.name}/"]
            continue
        if entry.suffix == ".jsonl" or entry.name == ITEMS or _CATALOG.fullmatch(entry.name):
            continue
        try:
            role = _source_file(entry, None, None).role
        except InputError:
            role = "other"
        if role == "log":
            records = events[0].parent if events[0].parent != path else events[0]
            raise input_error(
                f"two logs of different kinds: {entry.name}, and decisions and outcomes in {records.name}",
                file=path,
                advice=f"Nothing was imported. Pass one of them, {entry} or {records}; or both, as one data set: "
                f"slatewise data import {entry} {records}",
            )
        passed_over.append(entry.name)
    return Source(
        format="decisions and outcomes",
        log=(),
        events=path,
        items=_item_table(path),
        passed_over=tuple(passed_over),
    )


def _item_table(path: Path) -> SourceFile | None:
    """The item table in a folder of decisions and outcomes, if any; the service writes none, a simulation does."""
    file = path / ITEMS
    part = _source_file(file, None, None) if file.is_file() else None
    return part if part is not None and part.role == "items" else None


def _log(path: Path, logs: list[SourceFile]) -> tuple[SourceFile, ...]:
    """The file of events; several where they are pieces of one log."""
    if any(part.shape == "ratings" for part in logs):
        whole = [part for part in logs if part.file.name in movielens.WHOLE]
        logs = whole or logs
        if len(logs) > 1 and not whole:
            raise _several(path, logs)
    priced = [part for part in logs if {"reward", "outcome"} & name_columns(part.names).columns.keys()]
    logs = priced or logs
    # files of JSON lines need not have the same columns
    if len({part.names if part.form != JSON_LINES else JSON_LINES for part in logs}) > 1:
        raise _several(path, logs)
    return tuple(logs)


def _source_file(file: Path, assigned: Mapping[str, str] | None, header: Sequence[str] | None) -> SourceFile:
    kind = content(file)
    if kind == "parquet":
        names = tuple(parquet_names(file))
        return SourceFile(file=file, role=_role(names, assigned), form="Parquet", names=names)
    head = read_head(file)
    if kind == "json":
        names = _json_names(head, file)
        return SourceFile(file=file, role=_role(names, assigned), form=JSON_LINES, names=names)
    dialect = find_dialect(head, file=file, assigned=assigned, header=header)
    shape = movielens.shape(head, dialect) if not dialect.header and header is None else None
    if shape is not None:
        dialect = replace(dialect, names=movielens.names(shape, len(dialect.names), file.parent), quoted=False)
    return SourceFile(
        file=file,
        role=movielens.ROLES[shape] if shape else _role(dialect.names, assigned),
        form=dialect.words,
        names=dialect.names,
        dialect=dialect,
        encoding=movielens.encoding(file) if shape in ("items", "flagged items", "users") else "utf-8",
        shape=shape,
    )


def _role(names: Sequence[str], assigned: Mapping[str, str] | None) -> Role:
    columns = name_columns(names, assigned).columns.keys()
    has_events = bool(columns & _EVENT)
    if {"user_id", "item_id"} <= columns:
        return "log"
    described = item_columns(names, assigned).keys()
    # an item may have a date of its own
    is_described = described & {"text", "labels"} or (any(is_feature(name) for name in names) and not has_events)
    if "item_id" in described and "user_id" not in described and is_described:
        return "items"
    if "item_id" in columns and has_events:
        return "log"
    return "users" if "user_id" in columns and not has_events else "other"


def _json_names(head: bytes, file: Path) -> tuple[str, ...]:
    """Names of the first lines.

    Raises:
        InputError: none of the lines can be read.
    """
    names: dict[str, None] = {}
    refusal = None
    lines = head.rstrip().split(b"\n")[:100]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            names |= dict.fromkeys(decode_object(line))
        except BrokenLineError as error:
            # the last line may be cut
            if refusal is None and (number < len(lines) or len(head) < HEAD):
                refusal = input_error(error.what, file=file, row=number, advice="Correct or remove the line.")
    if refusal is not None and not names:
        raise refusal
    return tuple(names)


def _holds_events(file: Path) -> bool:
    """True for decisions and outcomes."""
    # imported here because most logs do not need the module that joins decisions and outcomes
    from slatewise.data.segments import is_events

    try:
        head = read_head(file)
    except InputError:
        return False
    # the first of its lines may be damaged
    return any(is_events(line) for line in head.split(b"\n", _SAMPLE)[:_SAMPLE] if line.startswith(b"{"))


def _format(part: SourceFile) -> str:
    if part.shape is not None or {"user_id", "movie_id"} <= {plain(name) for name in part.names}:
        return "MovieLens"
    return "RecBole atomic files" if any(recbole(name)[1] for name in part.names) else part.form


def _no_header(path: Path) -> InputError:
    return input_error(
        "the first line has no known column name with any delimiter (expected for example "
        '"user_id,item_id,rating,timestamp")',
        file=path,
        row=1,
        column="user_id",
        advice="Nothing was imported. Name the columns of a file without a header: "
        "--header user_id,item_id,reward,timestamp.",
    )


def _nothing(path: Path, entries: Sequence[Path], refused: Mapping[Path, InputError]) -> InputError:
    if len(entries) == 1 and refused:
        return next(iter(refused.values()))
    listed = ", ".join(entry.name + "/" * entry.is_dir() for entry in entries[:8]) + ", …" * (len(entries) > 8)
    reasons = "".join(f". {error}" for error in list(refused.values())[:3]).rstrip(".")
    return input_error(
        f"no log in this folder ({listed or 'it is empty'}); expected a file with columns for users and items{reasons}",
        file=path,
        advice="Pass the file itself, or name the columns: --column user_id=NAME --column item_id=NAME.",
    )


def _several(path: Path, logs: Sequence[SourceFile]) -> InputError:
    return input_error(
        f"several logs that are not pieces of one: {', '.join(part.file.name for part in logs[:8])}",
        file=path,
        advice="Pass one of the files; or several of them, one after the other, as one data set.",
    )
