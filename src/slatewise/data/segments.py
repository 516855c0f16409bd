"""Files of decisions, outcomes and catalogs → columns, a block of lines at a time."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from jaxtyping import Float

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
    """event_id, timestamp, user_id, session_id, policy_version, size (length of the slate); one row a decision."""
    rows: pl.DataFrame
    """event (number of the decision), position, item_id, logp; one row a shown item."""
    context: Float[np.ndarray, "V X"]
    """Zeros where a decision has none."""
    outcomes: pl.DataFrame
    """event_id, timestamp, received, item_id, position, type, value, outcome_id, user_id; one row an outcome."""
    conditions: Conditions
    """By the number of the decision."""
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
        InputError: a file that cannot be read, more lines that are no records than records, or contexts of different
            widths. A last line without a newline that is no record is left out: its writer was stopped.
    """
    decisions: list[pl.DataFrame] = []
    rows: list[pl.DataFrame] = []
    contexts: list[Float[np.ndarray, "V X"]] = []
    outcomes: list[pl.DataFrame] = []
    conditions: list[Conditions] = []
    catalogs: list[tuple[Path, CatalogRecord]] = []
    faults, torn = UnusableLines(), list[Path]()
    events = count = 0
    width = 0
    with _no_collection():
        for file in files:
            for records in _blocks(file, faults, torn):
                count += len(records)
                served = [record for record in records if isinstance(record, Decision)]
                decisions.append(_decisions(served))
                rows.append(_rows(served, events))
                context = _context(served, width, file)
                width = max(width, context.shape[1])
                contexts.append(context)
                outcomes.append(_table([record for record in records if isinstance(record, Outcome)], _OUTCOME))
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
        decisions=pl.concat([_decisions(none), *decisions]),
        rows=pl.concat([_rows(none, 0), *rows]),
        context=np.concatenate([np.zeros((0, width), np.float32), *(_widen(context, width) for context in contexts)]),
        outcomes=pl.concat([_table([], _OUTCOME), *outcomes]),
        conditions=concatenate(conditions),
        catalogs=tuple(catalogs),
        torn=tuple(torn),
        set_aside=faults.by_reason(),
    )


def _blocks(file: Path, faults: UnusableLines, torn: list[Path]) -> Iterator[list[Record]]:
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
            yield [last]


def _decode_lines(lines: bytes, file: Path, first: int, faults: UnusableLines) -> list[Record]:
    try:
        return decode(lines)
    except (LineError, *UNREADABLE):
        # once more, line by line, to set aside what cannot be used
        records = []
        for number, line in enumerate(lines.split(b"\n"), start=first):
            if line.strip():
                try:
                    records.append(decode_line(line))
                except LineError as error:
                    faults.add(error, file, number)
        return records


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


def _context(records: Sequence[Decision], width: int, file: Path) -> Float[np.ndarray, "V X"]:
    widths = {len(record.context) for record in records if record.context} | ({width} if width else set())
    if len(widths) > 1:
        raise input_error(
            f"decisions with {' and '.join(map(str, sorted(widths)))} numbers of context; expected as many in all",
            file=file,
            advice="Nothing was imported. Import logs of different contexts one by one.",
        )
    width = max(widths, default=0)
    empty = [0.0] * width
    flat = chain.from_iterable(record.context or empty for record in records)
    return np.fromiter(flat, np.float32, width * len(records)).reshape(len(records), width)


def _widen(context: Float[np.ndarray, "V X"], width: int) -> Float[np.ndarray, "V W"]:
    return context if context.shape[1] == width else np.zeros((len(context), width), np.float32)
