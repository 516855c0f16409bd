"""Recognition of a log by content: the files with events, the item table, and how to read them.

File names decide only between files of the same content (`u.data` and its splits in a MovieLens folder).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from slatewise.data.prepared import is_prepared
from slatewise.data.reading import movielens
from slatewise.data.reading.columns import name_columns, plain, recbole
from slatewise.data.reading.content import content, read_head
from slatewise.data.reading.dialect import find_dialect
from slatewise.data.reading.source import Role, Source, SourceFile
from slatewise.data.reading.tables import parquet_names
from slatewise.errors import InputError, input_error

JSON_LINES = "JSON lines"
ITEMS = "items.parquet"
"""Optional item table in a folder of decisions and outcomes."""
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


def _folder(path: Path, assigned: Mapping[str, str] | None, header: Sequence[str] | None) -> Source:
    try:
        lines = (*path.glob("*.jsonl"), *path.glob("*/*.jsonl"))
        if any(_holds_events(file) for file in sorted(lines) if file.is_file()):
            return Source(format="decisions and outcomes", log=(), events=path, items=_item_table(path))
        files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    except OSError as error:
        raise input_error(f"it cannot be read: {error.strerror}", file=path, advice="Check its permissions.") from error
    parts: list[SourceFile] = []
    refused: dict[Path, InputError] = {}
    for file in files:
        try:
            parts.append(_source_file(file, assigned, header))
        except InputError as error:
            refused[file] = error
    log = _log(path, [part for part in parts if part.role == "log"])
    if not log:
        raise _nothing(path, files, refused)
    log_suffixes = {part.file.suffix for part in log}
    for file, refusal in refused.items():
        if file.suffix in log_suffixes:
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
        passed_over=tuple(file.name for file in files if file not in used),
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
        names = _json_names(head)
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
    if "item_id" in columns:
        if "user_id" in columns or columns & _EVENT:
            return "log"
        described = columns & {"text", "labels"} or any("feature" in plain(name) for name in names)
        return "items" if described else "other"
    return "users" if "user_id" in columns and not columns & _EVENT else "other"


def _json_names(head: bytes) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for line in head.split(b"\n")[:100]:
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(value, dict):
            names |= dict.fromkeys(value)
    return tuple(names)


def _holds_events(file: Path) -> bool:
    """True for decisions and outcomes."""
    # imported here because most logs do not need the module that joins decisions and outcomes
    from slatewise.data.wire import is_events

    try:
        head = read_head(file)
    except InputError:
        return False
    return head.startswith(b"{") and is_events(head.partition(b"\n")[0])


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


def _nothing(path: Path, files: Sequence[Path], refused: Mapping[Path, InputError]) -> InputError:
    if len(files) == 1 and refused:
        return next(iter(refused.values()))
    listed = ", ".join(file.name for file in files[:8]) + (", …" if len(files) > 8 else "")
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
        advice="Pass one of the files.",
    )
