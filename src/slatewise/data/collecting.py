"""Several logs as one data set: imported each for itself, then merged by names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from slatewise.catalog_file import read_catalog
from slatewise.data import prepared
from slatewise.data.agreement import without_times
from slatewise.data.merge_account import MergeAccount
from slatewise.data.merging import merge, with_catalog
from slatewise.data.prepared import Dataset
from slatewise.data.reading.checks import CONTEXT
from slatewise.data.reading.column_aliases import LOG, name_columns
from slatewise.data.reading.importing import import_path
from slatewise.data.reading.item_table import catalog
from slatewise.data.reading.raw_log import Options, Report, read_items
from slatewise.data.reading.recognition import recognise, recognise_items
from slatewise.data.reading.source import Progress
from slatewise.data.reading.user_files import read_user_columns
from slatewise.data.users import add_user_columns
from slatewise.errors import input_error
from slatewise.log import Catalog


def import_logs(
    paths: Sequence[Path],
    out: Path,
    options: Options,
    *,
    items: Path | None = None,
    users: Path | None = None,
    progress: Progress,
) -> tuple[Dataset, tuple[MergeAccount, ...]]:
    """One data set of several logs, and what each log after the first added.

    Args:
        paths: logs in any format that `import_path` reads.
        out: folder to create.
        options: for all of them.
        items: an item table, a data set or a run, whose items come first.
        users: a table that describes users.
        progress: called at every step.

    Raises:
        InputError: a log that cannot be read, logs that do not belong together; `out` is unchanged.
    """
    if len(paths) == 1 and items is None and users is None:
        return import_path(paths[0], out, options, progress=progress), ()
    prepared.check_output(out)
    if options.core is not None and (len(paths) > 1 or items is not None):
        raise input_error(
            "--core with several logs or --items: the core is that of one log, before it is merged",
            advice="Nothing was imported. Put one log and its item table into a folder, and import that.",
        )
    catalog_first = None if items is None else catalog_at(items)
    user_columns = None if users is None else read_user_columns(users)
    each = options if len(paths) == 1 else replace(options, columns={}, preferred_columns=options.columns)
    each = replace(each, has_titles=items is not None)
    reports = []
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        name = options.name or out.name
        whole = import_path(paths[0], Path(folder) / "first", replace(each, name=name), progress=progress)
        reports.append(Report.of(whole))
        if catalog_first is not None:
            whole = with_catalog(whole, catalog_first, Path(folder) / "first")
        accounts = []
        for path in paths[1:]:
            further = import_path(path, Path(folder) / "further", _options_for(path, each, whole), progress=progress)
            reports.append(Report.of(further))
            whole, account = merge(whole, further, Path(folder) / "first", name=name)
            accounts.append(account)
        _check_assigned(options, reports, paths)
        if user_columns is not None:
            whole, _ = add_user_columns(whole, user_columns)
        return prepared.move(whole.path, out), tuple(accounts)


def append_logs(
    dataset: Path,
    paths: Sequence[Path],
    options: Options,
    *,
    items: Path | None = None,
    users: Path | None = None,
    progress: Progress,
) -> tuple[Dataset, tuple[MergeAccount, ...]]:
    """Add the events of further logs to a data set, whose numbers of users and items stay.

    Columns, kind and clock are those of its own import, as far as the options do not say otherwise and the new logs
    have these columns.

    Args:
        dataset: folder of a prepared data set; it is replaced when all is well.
        paths: the logs.
        options: of their import.
        items: an item table, a data set or a run that describes new items.
        users: a table that describes users, new ones or all.
        progress: called at every step.

    Raises:
        InputError: no data set there, or a log that cannot be read or does not belong to it; it is unchanged.
    """
    whole = prepared.load(dataset)
    fingerprint = whole.fingerprint
    described = None if items is None else catalog_at(items)
    user_columns = None if users is None else read_user_columns(users)
    each = _options_of(whole, options, required=len(paths) == 1, titled=items is not None)
    accounts, reports = [], []
    with TemporaryDirectory(prefix=f".{dataset.name}.", dir=dataset.parent) as folder:
        for number, path in enumerate(paths):
            further = import_path(path, Path(folder) / "further", _options_for(path, each, whole), progress=progress)
            reports.append(Report.of(further))
            if described is not None:
                further = with_catalog(further, described, Path(folder) / "further")
            whole, account = merge(whole, further, Path(folder) / f"whole-{number}", name=whole.name)
            accounts.append(account)
        _check_assigned(options, reports, paths)
        if user_columns is not None:
            whole, notes = add_user_columns(whole, user_columns)
            accounts[-1] = replace(accounts[-1], notes=(*accounts[-1].notes, *notes))
        if prepared.read_manifest(dataset).fingerprint != fingerprint:
            raise input_error(
                "it has changed while the logs were read: another command writes to it",
                file=dataset,
                advice="Nothing was appended. Append the logs again.",
            )
        return prepared.move(whole.path, dataset), tuple(accounts)


def _options_for(path: Path, options: Options, first: Dataset) -> Options:
    """The options for one of the logs: slates that a service recorded stay slates beside a log of uses.

    Raises:
        InputError: it has no times, and the first log has some.
    """
    source = recognise(path, assigned=options.column_names, header=options.header)
    if source.events is not None:
        return replace(options, kind=None) if options.kind == "uses" else options
    head = source.log[0]
    has_times = "timestamp" in name_columns(head.names, options.column_names).columns
    # lines of JSON name a column only where they have it
    if first.clock and options.time and not has_times and not head.is_json:
        raise without_times(head.file.name, first, head.names)
    return options


def _check_assigned(options: Options, reports: Sequence[Report], paths: Sequence[Path]) -> None:
    """Refuse a column that none of several logs has.

    Raises:
        InputError: the first such column.
    """
    for canonical, name in options.columns.items():
        if not any(report.columns.get(canonical) == name for report in reports):
            files = " and ".join(path.name for path in paths)
            raise input_error(
                f'no column "{name}" in {files}',
                column=canonical,
                advice=f"Nothing was imported. Say which column it is: --column {canonical}=NAME.",
            )


def catalog_at(path: Path) -> Catalog:
    """The items of an item table, a prepared data set or a run.

    Raises:
        InputError: none of them.
    """
    for folder in (path, path / "artifact"):
        if (folder / "items.parquet").is_file() and (folder / "manifest.json").is_file():
            return read_catalog(folder / "items.parquet")
    if not path.is_file():
        raise input_error(
            "there are no items; expected an item table, a prepared data set or a run",
            file=path,
            advice="Check the path.",
        )
    frame, _ = read_items(recognise_items(path))
    assert frame is not None
    return catalog(frame["item_id"].to_arrow().cast(pa.string()), frame)


def _options_of(dataset: Dataset, options: Options, *, required: bool, titled: bool) -> Options:
    """Options for a further log, completed by those of the data set's own import.

    Args:
        dataset: of the first log.
        options: for the further logs.
        required: whether each of them must have the columns that the options name.
        titled: whether titles come with --items.
    """
    source = dataset.manifest.source
    # decisions and outcomes have no columns of their own
    is_table = "columns" in source and source["format"] != "decisions and outcomes"
    columns = {
        canonical: name
        for canonical, name in (Report.of(dataset).columns if is_table else {}).items()
        if canonical in LOG or canonical.startswith(CONTEXT)
    }
    outcomes, kind = source.get("outcomes"), source.get("kind")
    return replace(
        options,
        kind=options.kind or (kind if kind in ("impressions", "uses") else None),
        time=options.time and dataset.clock,
        columns=options.columns if required else {},
        preferred_columns={**columns, **options.columns},
        outcomes={**(outcomes if isinstance(outcomes, dict) else {}), **options.outcomes},
        simulated=dataset.simulated,
        has_titles=titled or any(dataset.catalog.text),
    )
