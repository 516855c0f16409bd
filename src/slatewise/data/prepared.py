"""The prepared data set on disk: columns as memory-mapped .npy files, names as Parquet, and a manifest.

    manifest.json        counts, kind, time range, source, terms, SHA-256 of each file, and a fingerprint
    items.parquet        the catalog, one row per item in the order of the item numbers
    users.parquet        names of the users, numbers from 0
    user_features.parquet  features of users by name, where a table of users was imported
    policies.parquet     names of the logging policies; number 0 is "" (not in the log)
    user_offsets.npy …   one file per column of `Interactions`

No file can run code: none is a pickle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from slatewise.catalog_file import read_catalog, write_catalog
from slatewise.data.conditions import NO_CATALOG
from slatewise.data.manifest import (
    MANIFEST,
    Kind,
    Manifest,
    Provenance,
    describe,
    is_prepared,
    locate,
    read_manifest,
    remake_command,
    write_manifest,
)
from slatewise.data.request_columns import REQUEST_COLUMNS, request_columns, request_files, requests_of, wrong_lengths
from slatewise.errors import InputError, input_error
from slatewise.files import atomic_folder, sha256
from slatewise.log import Catalog, Interactions, Vocabulary
from slatewise.user_file import UserTable, read_users, write_users

COLUMNS: dict[str, type[np.generic]] = {
    "user_offsets": np.int64,
    "event_offsets": np.int64,
    "event_id": np.int64,
    "policy_id": np.int32,
    "time": np.int64,
    "session_end": np.bool_,
    "context": np.float32,
    "item": np.int32,
    "reward": np.float32,
    "cost": np.float32,
    "logp": np.float32,
    "logp_known": np.bool_,
    "used": np.bool_,
    "used_time": np.int64,
    "use_reward": np.float32,
}
_OF_ROWS = ("item", "reward", "cost", "logp", "logp_known", "used", "used_time", "use_reward")
USER_FEATURES = "user_features.parquet"
_ADVICE = "Create it again with `slatewise data import`."


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A prepared data set; its columns are memory-mapped and cannot be written to."""

    path: Path
    name: str
    interactions: Interactions
    catalog: Catalog
    users: Vocabulary
    """User numbers start at 0; −1 stands for a user that the log does not know."""
    policies: Vocabulary
    """Policy numbers; 0 is "", where the log does not say which policy served."""
    catalogs: Vocabulary
    """Numbers of catalog versions; 0 is "", where the log does not say which was in force."""
    manifest: Manifest
    user_table: UserTable | None = None
    """Features of users, those of other logs too; None where no table of users was imported."""

    @property
    def simulated(self) -> bool:
        """Whether the events come from a simulation."""
        return self.manifest.simulated

    @property
    def clock(self) -> bool:
        """False where times are only the order of the rows."""
        return self.manifest.time.clock

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the content of every file: equal data, equal fingerprint."""
        return self.manifest.fingerprint

    @property
    def kind(self) -> Kind:
        """Whether the log holds impressions or only uses."""
        return self.manifest.kind


def check_output(out: Path, *, source: Path | None = None) -> None:
    """Refuse an output folder whose content would be lost: only a prepared data set or nothing is replaced.

    Args:
        out: the folder that will be created or replaced.
        source: what is being read; it must not lie in `out`.

    Raises:
        InputError: `out` is a file, a folder of something else, or holds the source.
    """
    if source is not None and source.resolve().is_relative_to(out.resolve()):
        raise input_error("the output would replace the input", file=out, advice="Name another folder: --out DIR.")
    if Path.cwd().is_relative_to(out.resolve()):
        raise input_error(
            "the output is the current folder or contains it", file=out, advice="Name a new one: --out DIR."
        )
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise input_error("the output is not a folder", file=out, advice="Name another folder: --out DIR.")
    if out.is_dir() and any(out.iterdir()) and not is_prepared(out):
        raise input_error(
            "the folder is not a prepared data set, and would be replaced",
            file=out,
            advice="Nothing was written. Name a new folder: --out DIR.",
        )


def write(
    path: Path,
    *,
    name: str,
    interactions: Interactions,
    catalog: Catalog,
    users: Vocabulary,
    policies: Vocabulary,
    catalogs: Vocabulary = NO_CATALOG,
    kind: Kind,
    context: tuple[str, ...] = (),
    provenance: Provenance,
    user_table: UserTable | None = None,
) -> Dataset:
    """Write a data set atomically and open it memory-mapped.

    Args:
        path: folder to create; an older prepared data set there is replaced.
        name: short name, for reports.
        interactions: the log.
        catalog: the items; their numbers are those in the log.
        users: names of the users, ``first`` = 0.
        policies: names of the policies, ``first`` = 0, the first name "".
        catalogs: names of the catalog versions, ``first`` = 0, the first name "".
        kind: impressions or uses.
        context: names of the context columns.
        provenance: where the log comes from.
        user_table: features of users; None = nothing is known of them.

    Raises:
        InputError: `path` holds something else (see check_output).
    """
    check_output(path)
    with atomic_folder(path) as folder:
        for column, dtype in COLUMNS.items():
            np.save(folder / f"{column}.npy", np.asarray(getattr(interactions, column), dtype), allow_pickle=False)
        if interactions.requests is not None:
            for column, values in request_columns(interactions.requests).items():
                np.save(folder / f"{column}.npy", values, allow_pickle=False)
            pq.write_table(pa.table({"catalog_version": catalogs.names}), folder / "catalogs.parquet")
        write_catalog(folder / "items.parquet", catalog)
        pq.write_table(pa.table({"user_id": users.names}), folder / "users.parquet")
        pq.write_table(pa.table({"policy_id": policies.names}), folder / "policies.parquet")
        if user_table is not None:
            write_users(folder / USER_FEATURES, user_table)
        manifest = describe(
            folder,
            name=name,
            kind=kind,
            interactions=interactions,
            num_items=catalog.num_items,
            num_policies=len(policies) - 1,
            context=context,
            provenance=provenance,
        )
        write_manifest(folder, manifest)
    return load(path, verify=False)


def add_users(path: Path, table: UserTable, *, notes: tuple[str, ...]) -> Dataset:
    """Put features of users into a data set, in place.

    Args:
        path: its folder.
        table: the features; takes the place of others.
        notes: of the import, added to those of the data set.
    """
    dataset = load(path, verify=False)
    manifest, source = dataset.manifest, dataset.manifest.source
    earlier = source.get("notes")
    (path / MANIFEST).unlink()
    write_users(path / USER_FEATURES, table)
    described = describe(
        path,
        name=dataset.name,
        kind=dataset.kind,
        interactions=dataset.interactions,
        num_items=dataset.catalog.num_items,
        num_policies=len(dataset.policies) - 1,
        context=manifest.context,
        provenance=Provenance(
            source={**source, "notes": [*(earlier if isinstance(earlier, list) else []), *notes]},
            clock=manifest.time.clock,
            simulated=manifest.simulated,
            licence=manifest.licence,
            citation=manifest.citation,
        ),
    )
    write_manifest(path, described)
    return load(path, verify=False)


def move(path: Path, out: Path) -> Dataset:
    """Put a prepared data set in the place of another folder, at one moment.

    Raises:
        InputError: `out` holds something else (see check_output).
    """
    check_output(out)
    with atomic_folder(out) as folder:
        for file in path.iterdir():
            os.replace(file, folder / file.name)
    return load(out, verify=False)


def load(path: Path, *, verify: bool = True) -> Dataset:
    """Open a prepared data set; names are read at once, columns only when they are accessed.

    Args:
        path: its folder.
        verify: read every file once and compare its SHA-256 with the manifest's, about half a second a GB.

    Raises:
        InputError: there is no prepared data set, another format, or a file that is missing or has changed.
    """
    manifest = read_manifest(path)
    _check_file_list(path, manifest)
    for file, record in manifest.files.items():
        if not (path / file).is_file():
            raise input_error("the file is missing", file=path / file, advice=_ADVICE)
        size = (path / file).stat().st_size
        if size != record.bytes:
            raise input_error(f"it has {size:,} bytes; expected {record.bytes:,}", file=path / file, advice=_ADVICE)
    changed = changed_files(path) if verify else []
    if changed:
        others = f", and so have {', '.join(changed[1:])}" if len(changed) > 1 else ""
        raise input_error(
            f"its bytes have changed since it was written: its SHA-256 is not the one in manifest.json{others}",
            file=path / changed[0],
            advice=f"Make it again: `{remake_command(manifest.source, path)}`.",
        )
    columns = {column: _column(path, column, dtype) for column, dtype in COLUMNS.items()}
    conditions = {
        column: _column(path, column, dtype)
        for column, dtype in REQUEST_COLUMNS.items()
        if f"{column}.npy" in manifest.files
    }
    try:
        catalog = read_catalog(path / "items.parquet")
    except (pa.ArrowException, OSError, KeyError) as error:
        raise input_error(f"no catalog: {error}", file=path / "items.parquet", advice=_ADVICE) from error
    users = Vocabulary(names=_names(path / "users.parquet"), first=0, unknown=-1)
    policies = Vocabulary(names=_names(path / "policies.parquet"), first=0, unknown=0)
    catalogs = NO_CATALOG
    if conditions:
        catalogs = Vocabulary(names=_names(path / "catalogs.parquet"), first=0, unknown=0)
    user_table = read_users(path / USER_FEATURES) if USER_FEATURES in manifest.files else None
    _check_lengths(path, columns, len(users))
    _check_requests(path, conditions, len(columns["time"]))
    return Dataset(
        path=path,
        name=manifest.name,
        interactions=Interactions(
            **columns,
            requests=requests_of(conditions) if conditions else None,
            user_features=None if user_table is None else user_table.of(users.names),
        ),
        catalog=catalog,
        users=users,
        policies=policies,
        catalogs=catalogs,
        manifest=manifest,
        user_table=user_table,
    )


def changed_files(path: Path) -> list[str]:
    """Names of files whose SHA-256 is not the one in the manifest; reads all of the data.

    Raises:
        InputError: no prepared data set there.
    """
    manifest = read_manifest(path)
    _check_file_list(path, manifest)
    return [
        file
        for file, record in manifest.files.items()
        if not (path / file).is_file() or sha256(path / file) != record.sha256
    ]


def _check_file_list(path: Path, manifest: Manifest) -> None:
    needed = {*(f"{column}.npy" for column in COLUMNS), "items.parquet", "users.parquet", "policies.parquet"}
    if set(manifest.files) - request_files(manifest.files) - {USER_FEATURES} != needed:
        raise input_error(
            f"its list of files is not the expected one: {', '.join(sorted(needed))}", file=path / MANIFEST
        )


def _column(path: Path, name: str, dtype: type[np.generic]) -> np.ndarray:
    file = path / f"{name}.npy"
    try:
        # a column of width 0 has no bytes to map
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except ValueError:
        try:
            array = np.load(file, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise input_error(f"no column of numbers: {error}", file=file, advice=_ADVICE) from error
    if array.dtype != dtype or array.ndim != (2 if name in ("context", "request_part_bits") else 1):
        raise input_error(
            f"it holds {array.dtype} of {array.ndim} axes; expected {np.dtype(dtype)}",
            file=file,
            advice=_ADVICE,
        )
    column: np.ndarray = array
    return column


def _names(file: Path) -> pa.StringArray:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise input_error(f"no Parquet: {error}", file=file, advice=_ADVICE) from error
    column = table.column(0).combine_chunks()
    return column.cast(pa.string())


def _check_lengths(path: Path, columns: dict[str, np.ndarray], num_users: int) -> None:
    expected = {"user_offsets": num_users + 1}
    if len(columns["user_offsets"]) and len(columns["event_offsets"]):
        num_events, num_rows = int(columns["user_offsets"][-1]), int(columns["event_offsets"][-1])
        expected |= {"event_offsets": num_events + 1}
        expected |= dict.fromkeys(("event_id", "policy_id", "time", "session_end", "context"), num_events)
        expected |= dict.fromkeys(_OF_ROWS, num_rows)
    wrong = [column for column, length in expected.items() if len(columns[column]) != length]
    if wrong:
        raise InputError(f"{path}: columns of different lengths: {', '.join(wrong)}. {_ADVICE}")


def _check_requests(path: Path, conditions: Mapping[str, np.ndarray], num_events: int) -> None:
    wrong = wrong_lengths(conditions, num_events)
    if wrong:
        raise InputError(f"{path}: columns of different lengths: {', '.join(wrong)}. {_ADVICE}")


__all__ = [
    "COLUMNS",
    "Dataset",
    "Kind",
    "Provenance",
    "changed_files",
    "check_output",
    "is_prepared",
    "locate",
    "load",
    "read_manifest",
    "write",
]
