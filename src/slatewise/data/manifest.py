"""manifest.json of a prepared data set: what it holds, where that comes from, and the SHA-256 of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from slatewise.errors import input_error
from slatewise.files import sha256
from slatewise.log import Interactions
from slatewise.wording import count_of

FORMAT = 2
WHAT = "slatewise prepared data"
MANIFEST = "manifest.json"
Kind = Literal["impressions", "uses"]
"""impressions: shown slates, used or not; uses: only used items (ratings, plays), one row per event."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a log comes from, and under which terms."""

    source: Mapping[str, object] = field(default_factory=dict)
    """What the reader of the log reports, as JSON."""
    clock: bool = True
    """False where times are only the order of the rows."""
    simulated: bool = False
    """Whether the events come from a simulation."""
    licence: str = ""
    """Terms of use."""
    citation: str = ""
    """What its publishers ask to be cited."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How much a data set holds."""

    users: int
    items: int
    events: int
    rows: int
    policies: int
    known_propensities: int
    """Rows with a propensity."""
    sessions: int
    """Sessions that the log names."""

    def in_words(self) -> str:
        """Rows, events, users and items."""
        return (
            f"{count_of(self.rows, 'row')} in {count_of(self.events, 'event')} of {count_of(self.users, 'user')}, "
            f"{count_of(self.items, 'item')}"
        )


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """Times of the events."""

    first: str
    """ISO 8601, UTC; "" where there is no event."""
    last: str
    clock: bool
    """False where times are only the order of the rows."""


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file of a data set."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What manifest.json says of a prepared data set."""

    name: str
    """Short name, for reports."""
    kind: Kind
    simulated: bool
    counts: Counts
    slate_size: int
    time: TimeRange
    context: tuple[str, ...]
    """Names of the context columns."""
    source: Mapping[str, object]
    licence: str
    citation: str
    versions: Mapping[str, str]
    """Of slatewise, when it was written."""
    files: Mapping[str, FileRecord]
    fingerprint: str
    """SHA-256 over the content of every file: equal data, equal fingerprint."""


def describe(
    folder: Path,
    *,
    name: str,
    kind: Kind,
    interactions: Interactions,
    num_items: int,
    num_policies: int,
    context: tuple[str, ...],
    provenance: Provenance,
) -> Manifest:
    """The manifest of a folder that holds every other file already.

    Args:
        folder: the files.
        name: short name, for reports.
        kind: impressions or uses.
        interactions: the log in the files.
        num_items: items of the catalog.
        num_policies: logging policies that the log names.
        context: names of the context columns.
        provenance: where the log comes from.
    """
    files = {file.name: FileRecord(bytes=file.stat().st_size, sha256=sha256(file)) for file in sorted(folder.iterdir())}
    lines = "".join(f"{file} {record.sha256}\n" for file, record in files.items())
    time = interactions.time
    return Manifest(
        name=name,
        kind=kind,
        simulated=provenance.simulated,
        counts=Counts(
            users=interactions.num_users,
            items=num_items,
            events=interactions.num_events,
            rows=interactions.num_rows,
            policies=num_policies,
            known_propensities=int(np.count_nonzero(interactions.logp_known)),
            sessions=int(np.count_nonzero(interactions.session_end)),
        ),
        slate_size=interactions.slate_size,
        time=TimeRange(
            first=iso(int(time.min())) if len(time) else "",
            last=iso(int(time.max())) if len(time) else "",
            clock=provenance.clock,
        ),
        context=context,
        source=provenance.source,
        licence=provenance.licence,
        citation=provenance.citation,
        versions={"slatewise": metadata.version("slatewise")},
        files=files,
        fingerprint=hashlib.sha256(lines.encode()).hexdigest(),
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    table = {"what": WHAT, "format": FORMAT, **asdict(manifest)}
    (folder / MANIFEST).write_text(json.dumps(table, indent=2, ensure_ascii=False), encoding="utf-8")


def read_manifest(path: Path) -> Manifest:
    """The manifest of a prepared data set.

    Raises:
        InputError: no manifest, not one of ours, or of a format that this version cannot load.
    """
    file, table = path / MANIFEST, _read_table(path)
    advice = f"Make it again: `{remake_command(table.get('source'), path)}`."
    if table.get("format") != FORMAT:
        difference = f"format {table.get('format')!r}; this version reads format {FORMAT}"
        raise input_error(difference, file=file, advice=advice)
    try:
        return msgspec.convert(table, Manifest)
    except msgspec.ValidationError as error:
        raise input_error(str(error), file=file, advice=advice) from error


def read_source(path: Path) -> Mapping[str, object]:
    """What the manifest says of the source; it may be of a format that this version cannot load.

    Raises:
        InputError: no manifest, or not one of ours.
    """
    source = _read_table(path).get("source")
    return source if isinstance(source, dict) else {}


def is_prepared(path: Path) -> bool:
    """True where a prepared data set is, complete or not."""
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("what") == WHAT


def locate(path: Path, run: Path) -> Path:
    """Where the data set lies that a run names: as seen from the working directory, else from the run's folder.

    From the run: below its folder or the nearest folder above it, so that a project is found from anywhere.

    Args:
        path: as the run names it.
        run: the run folder, or its artifact.

    Raises:
        InputError: it is in none of these places.
    """
    if is_prepared(path):
        return path
    folder = run.resolve()
    for base in (folder, *folder.parents):
        if is_prepared(base / path):
            return base / path
    places = f"neither at {path.absolute()} nor at {folder / path}, nor below a folder above the run"
    raise input_error(
        f'[data] path = "{path}" is not the folder of a prepared data set'
        + ("" if path.is_absolute() else f": it is {places}"),
        file=run,
        advice="Start from the folder that the path begins in, or name the data set with --data DIR.",
    )


def iso(microseconds: int) -> str:
    """A time as ISO 8601 in UTC, to the second."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="seconds")


def _read_table(path: Path) -> dict[str, Any]:
    file = path / MANIFEST
    if not file.is_file():
        advice = f"`slatewise data import {path} --out DIR` makes one." if path.exists() else "Check the path."
        raise input_error("there is no prepared data set: manifest.json is missing", file=path, advice=advice)
    advice = "Create it again with `slatewise data import`."
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise input_error(f"not valid JSON: {error}", file=file, advice=advice) from error
    if not isinstance(table, dict) or table.get("what") != WHAT:
        raise input_error("not the manifest of a prepared data set", file=file, advice=advice)
    return table


def remake_command(source: object, path: Path) -> str:
    """What makes a data set again."""
    record: dict[str, Any] = source if isinstance(source, dict) else {}
    if "dataset" in record:
        return f"slatewise data fetch {record['dataset']} --out {path}"
    files = record.get("files") or ["LOG"]
    return f"slatewise data import {files[0] if len(files) == 1 else 'LOG'} --out {path}"
