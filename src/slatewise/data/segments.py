"""Files of decisions, outcomes and catalogs → columns, a block of lines at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import polars as pl
from jaxtyping import Float, Int

from slatewise.data.conditions import Conditions, concatenate, read_conditions
from slatewise.data.decisions_and_outcomes import (
    UNREADABLE,
    CatalogRecord,
    Decision,
    LineError,
    Outcome,
    Record,
    decode,
    decode_line,
)
from slatewise.data.set_aside import SetAside, UnusableLines
from slatewise.errors import input_error

R = TypeVar("R", Decision, Outcome)
BLOCK = 16 << 20
"""Bytes of a file that are decoded at a time."""
_TEXT = ("event_id", "user_id", "session_id", "policy_version", "item_id", "type", "outcome_id")
_DECISION = ("event_id", "timestamp", "user_id", "session_id", "policy_version")
_OUTCOME = ("event_id", "timestamp", "received", "item_id", "position", "type", "value", "outcome_id", "user_id")


class _Tagged(msgspec.Struct):
    record: str


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The records of a log as columns, in the order of the files."""

    decisions: pl.DataFrame
    """event_id, timestamp, user_id, session_id, policy_version, size (length of the slate), file (its number) and line;
    one row a decision."""
    rows: pl.DataFrame
    """event (number of the decision), position, item_id, logp; one row a shown item."""
    context_width: Int[np.ndarray, " V"]
    """How many numbers of context each decision has."""
    context: Float[np.ndarray, " X"]
    """Those of one decision after the other."""
    outcomes: pl.DataFrame
    """event_id, timestamp, received, item_id, position, type, value, outcome_id, user_id, file, line; one row an
    outcome."""
    conditions: Conditions
    """By the number of the decision."""
    files: tuple[Path, ...]
    """By their number."""
    catalogs: tuple[tuple[Path, CatalogRecord], ...]
    """The folder of the file in which a catalog was recorded, and the record."""
    torn: tuple[Path, ...]
    """Files that end in the middle of a record."""
    set_aside: tuple[SetAside, ...]
    """Lines that hold no usable record."""


def segments(path: Path) -> list[Path]:
    """The files of a log: `path` itself, or every ``*.jsonl`` below it in the order of their names.

    Raises:
        InputError: none there.
    """
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*.jsonl") if file.is_file())
    if not files:
        raise input_error("no log of events here: expected files *.jsonl with decisions and outcomes", file=path)
    return files


def is_events(line: bytes) -> bool:
    """True where a line of JSON says of itself that it is a decision, an outcome or a catalog."""
    try:
        return msgspec.json.decode(line, type=_Tagged).record in ("decision", "outcome", "catalog")
    except UNREADABLE:
        return False


def read_columns(files: Sequence[Path]) -> Columns:
    """Every record of some files.

    Raises:
        InputError: a file that cannot be read, or more lines that are no records than records. A last line without a
            newline that is no record is left out: its writer was stopped.
    """
    decisions: list[pl.DataFrame] = []
    rows: list[pl.DataFrame] = []
    widths: list[Int[np.ndarray, " V"]] = []
    contexts: list[Float[np.ndarray, " X"]] = []
    outcomes: list[pl.DataFrame] = []
    conditions: list[Conditions] = []
    catalogs: list[tuple[Path, CatalogRecord]] = []
    faults, torn = UnusableLines(), list[Path]()
    events = count = 0
    with _no_collection():
        for number, file in enumerate(files):
            for records, lines in _blocks(file, faults, torn):
                count += len(records)
                served, lines_served = _of_kind(Decision, records, lines)
                decisions.append(_decisions(served).with_columns(*_places(number, lines_served)))
                rows.append(_rows(served, events))
                widths.append(np.array([len(record.context or ()) for record in served], np.int64))
                context = chain.from_iterable(record.context or () for record in served)
                contexts.append(np.fromiter(context, np.float32, int(widths[-1].sum())))
                arrived, lines_arrived = _of_kind(Outcome, records, lines)
                outcomes.append(_table(arrived, _OUTCOME).with_columns(*_places(number, lines_arrived)))
                conditions.append(read_conditions(served, events))
                catalogs += [(file.parent, record) for record in records if isinstance(record, CatalogRecord)]
                events += len(served)
    if faults.first is not None and faults.count > count:
        file, line, error = faults.first
        raise input_error(
            f"{error}; {faults.count:,} lines are no records, {count:,} are",
            file=file,
            row=line,
            advice="Nothing was imported. Correct or remove the lines, or check that this is a log of decisions.",
        ) from error
    none: list[Decision] = []
    return Columns(
        decisions=pl.concat([_decisions(none).with_columns(*_places(0, [])), *decisions]),
        rows=pl.concat([_rows(none, 0), *rows]),
        context_width=np.concatenate([np.zeros(0, np.int64), *widths]),
        context=np.concatenate([np.zeros(0, np.float32), *contexts]),
        outcomes=pl.concat([_table([], _OUTCOME).with_columns(*_places(0, [])), *outcomes]),
        conditions=concatenate(conditions),
        files=tuple(files),
        catalogs=tuple(catalogs),
        torn=tuple(torn),
        set_aside=faults.by_reason(),
    )


def _of_kind(kind: type[R], records: Sequence[Record], lines: Sequence[int]) -> tuple[list[R], list[int]]:
    """The records of one kind, and their lines."""
    of_kind = [(record, line) for record, line in zip(records, lines, strict=True) if isinstance(record, kind)]
    return [record for record, _ in of_kind], [line for _, line in of_kind]


def _places(file: int, lines: Sequence[int]) -> tuple[pl.Series, pl.Series]:
    """Columns that say where records stand."""
    return pl.Series("file", [file] * len(lines), dtype=pl.Int64), pl.Series("line", lines, dtype=pl.Int64)


def _blocks(file: Path, faults: UnusableLines, torn: list[Path]) -> Iterator[tuple[list[Record], Sequence[int]]]:
    """Records, and the line of each."""
    line = 1
    rest = b""
    try:
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                whole, newline, rest_of_block = block.rpartition(b"\n")
                if not newline:
                    rest += block
                    continue
                lines = rest + whole + newline
                rest = rest_of_block
                yield _decode_lines(lines, file, line, faults)
                line += lines.count(b"\n")
    except OSError as error:
        raise input_error(f"it cannot be read: {error.strerror}", file=file) from error
    if rest.strip():
        try:
            last = decode_line(rest)
        except LineError:
            torn.append(file)
        else:
            yield [last], [line]


def _decode_lines(lines: bytes, file: Path, first: int, faults: UnusableLines) -> tuple[list[Record], Sequence[int]]:
    try:
        records = decode(lines)
    except (LineError, *UNREADABLE):
        # once more, line by line, to set aside what cannot be used
        records, numbers = [], []
        for number, line in enumerate(lines.split(b"\n"), start=first):
            if line.strip():
                try:
                    records.append(decode_line(line))
                    numbers.append(number)
                except LineError as error:
                    faults.add(error, file, number)
        return records, numbers
    if len(records) == lines.count(b"\n"):
        return records, range(first, first + len(records))
    return records, [number for number, line in enumerate(lines.split(b"\n"), start=first) if line.strip()]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Decoding makes millions of objects and no cycles: walking over them again and again takes most of the time."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _table(records: Sequence[Record], names: Sequence[str]) -> pl.DataFrame:
    columns = {}
    for name in names:
        dtype = pl.String if name in _TEXT else pl.Float64 if name == "value" else pl.Int64
        columns[name] = pl.Series(list(map(attrgetter(name), records)), dtype=dtype)
    return pl.DataFrame(columns)


def _decisions(records: Sequence[Decision]) -> pl.DataFrame:
    sizes = pl.Series("size", [len(record.slate) for record in records], pl.Int64)
    return _table(records, _DECISION).with_columns(sizes)


def _rows(records: Sequence[Decision], first: int) -> pl.DataFrame:
    sizes = np.fromiter((len(record.slate) for record in records), np.int64, len(records))
    has_logp = np.fromiter((record.logp is not None for record in records), np.bool_, len(records))
    total = int(sizes.sum())
    starts = np.cumsum(sizes) - sizes
    logp = np.zeros(total)
    shown = np.repeat(has_logp, sizes)
    served = (record.logp for record in records if record.logp is not None)
    logp[shown] = np.fromiter(chain.from_iterable(served), np.float64, int(shown.sum()))
    return pl.DataFrame(
        {
            "event": np.repeat(np.arange(first, first + len(records)), sizes),
            "position": np.arange(total) - np.repeat(starts, sizes),
            "item_id": pl.Series(list(chain.from_iterable(record.slate for record in records)), dtype=pl.String),
            "logp": pl.Series(logp),
            "known": shown,
        }
    ).select("event", "position", "item_id", pl.when("known").then("logp").alias("logp"))
