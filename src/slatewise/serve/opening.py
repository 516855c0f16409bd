"""A run folder → a recommender ready to serve."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Generator

from slatewise import artifact as artifacts
from slatewise.artifact import Artifact
from slatewise.config import ServeConfig
from slatewise.data import prepared
from slatewise.data.item_columns import ItemColumns, join_columns
from slatewise.data.prepared import Dataset
from slatewise.data.reading.request_lists import read_name_list
from slatewise.data.users import with_users_of
from slatewise.errors import InputError, input_error
from slatewise.log import Catalog
from slatewise.names import are_names, name_fault
from slatewise.serve.events.files import SegmentedLog
from slatewise.serve.history import LoggedHistory
from slatewise.serve.recommender import Recommender
from slatewise.serve.stores.lmdb import Store
from slatewise.training.new_items import score_items_of
from slatewise.training.seeds import check_single


@dataclass(frozen=True, kw_only=True)
class Options:
    """Where a service keeps its things, and what stands above the run's [serve]; None = as the run says."""

    data: Path | None = None
    """Prepared log that users start from; None = the one the policy was trained on."""
    without_history: bool = False
    """Read no log: every user that the store does not hold begins as an unknown one."""
    store: Path | None = None
    """Folder of the state store; None = serve/store beside the artifact."""
    events: Path | None = None
    """Folder of the event log; None = serve/events beside the artifact."""
    fsync: bool = False
    """Wait for the disk at every record."""
    segment_bytes: int = 64 << 20
    """Size at which a segment of the event log is closed."""
    seed: int | None = None
    """Of the draws; None = from the operating system."""
    top_m: int | None = None
    keep: int | None = None
    temperature: float | None = None
    greedy: bool | None = None
    allow_repeats: bool | None = None
    allow_modules: bool = False
    """Import modules that the artifact names beside the components of this package."""
    mask: Path | None = None
    """File of items that are masked from the start, beside those that the event log says are masked."""


def find_artifact(run: Path) -> Path:
    """The artifact folder of a run, or the folder itself if it is one.

    Raises:
        InputError: neither.
    """
    for folder in (run / "artifact", run):
        if (folder / "manifest.json").is_file():
            return folder
    check_single(run)
    problem = "no run here: neither manifest.json nor artifact/manifest.json" if run.is_dir() else "no such folder"
    raise input_error(problem, file=run, advice="`slatewise train` makes a run, `slatewise demo` the first one.")


def open_recommender(run: Path, options: Options) -> Recommender:
    """Load the policy, open log and store, and catch up with what was logged.

    Raises:
        InputError: no run, a file of it that was changed, a setting or data set that cannot be used.
        SlatewiseError: log or store cannot be opened.
    """
    folder = find_artifact(run)
    artifact, config = open_artifact(run, options)
    data = open_data(artifact, options)
    if data is not None:
        artifact, _ = score_items_of(artifact, data.catalog)
        artifact = with_columns_of(artifact, data.catalog)
    _check_item_names(artifact)
    masked = frozenset() if options.mask is None else frozenset(read_name_list(options.mask, ["item_id"])["item_id"])
    longest = artifact.config.evaluate.max_history
    history = None if data is None else LoggedHistory(data, artifact.catalog, max_history=longest)
    # never inside the artifact: training anew replaces that folder
    beside = folder.resolve().parent / "serve"
    log = SegmentedLog(options.events or beside / "events", segment_bytes=options.segment_bytes, fsync=options.fsync)
    try:
        store = Store(options.store or beside / "store", fsync=options.fsync)
    except BaseException:
        log.close()
        raise
    generator = Generator()
    seed = int.from_bytes(os.urandom(8)) >> 1 if options.seed is None else options.seed
    generator.manual_seed(seed)
    try:
        recommender = Recommender(artifact, log=log, store=store, history=history, config=config, generator=generator)
        if masked - recommender.served.masked:
            recommender.put_mask(recommender.served.masked | masked)
        return recommender
    except BaseException:
        log.close()
        store.close()
        raise


def _check_item_names(artifact: Artifact) -> None:
    """Refuse a catalog with a name that no request and no record of the log could hold."""
    names = artifact.catalog.vocabulary.names.to_pylist()
    if are_names(names):
        return
    for row, name in enumerate(names, start=1):
        if fault := name_fault(name):
            raise input_error(
                f"the name of the item {fault}",
                file=artifact.path / "items.parquet",
                row=row,
                column="item_id",
                advice="Rename the item, import the log again and train anew.",
            )


def open_artifact(run: Path, options: Options) -> tuple[Artifact, ServeConfig]:
    """The policy of a run, and its [serve] with what stands above it.

    Raises:
        InputError: no run, a file of it that was changed, or a setting that cannot be used.
    """
    artifact = artifacts.load(find_artifact(run), allow_modules=options.allow_modules)
    return artifact, _config(artifact, options)


def open_history(artifact: Artifact, data: Path | None) -> tuple[Artifact, Dataset, list[str]]:
    """The log of the users' histories, the one named or the one of the training; the policy with its items; and notes.

    Raises:
        InputError: it is not there.
    """
    trained_on = artifact.config.data
    if data is None and trained_on is None:
        raise input_error("the run names no prepared log", file=artifact.path, advice="Name one with --data.")
    dataset = _load_data(artifact, data)
    artifact, num_new = score_items_of(artifact, dataset.catalog)
    artifact = with_columns_of(artifact, dataset.catalog)
    note = f"{num_new:,} items of {dataset.name} are new to the policy: they are scored by their content"
    return artifact, dataset, [note] if num_new else []


def _config(artifact: Artifact, options: Options) -> ServeConfig:
    config = artifact.config.serve
    names = ("top_m", "keep", "temperature", "greedy", "allow_repeats")
    overrides: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    try:
        return replace(config, **overrides)
    except ValueError as error:
        raise InputError(f"{error}.") from error


def with_columns_of(artifact: Artifact, catalog: Catalog) -> Artifact:
    """A policy whose items have what a later catalog says of them in its columns: prices change, weights do not."""
    items = ItemColumns.of(artifact.catalog)
    columns, _ = join_columns(items.names, items, ItemColumns.of(catalog))
    return replace(artifact, catalog=replace(artifact.catalog, columns=columns))


def open_data(artifact: Artifact, options: Options) -> Dataset | None:
    """The log that users start from; None for a policy that was not trained on one, and where none is wanted.

    Raises:
        InputError: it is not there.
    """
    if options.without_history:
        if options.data is not None:
            raise input_error("--data and --without-history were given together", advice="Choose one of them.")
        return None
    if options.data is None and artifact.config.data is None:
        return None
    try:
        return _load_data(artifact, options.data)
    except InputError as error:
        raise InputError(
            f"{error} Without it, known users would be served as unknown ones; --without-history starts so on purpose."
        ) from error


def _load_data(artifact: Artifact, data: Path | None) -> Dataset:
    """The data set that is named, or that of the training, with the features of users that the policy reads."""
    trained_on = artifact.config.data
    dataset = prepared.load(data or prepared.locate(Path(trained_on.path if trained_on else ""), artifact.path))
    return with_users_of(dataset, artifact.users)
