"""Two prepared data sets as one: names decide what is the same, and the first one keeps its numbers.

Events that the first one has already are left out; an outcome of the second that belongs to a slate of the first,
because it arrived after the first was written, goes to that slate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from slatewise.data import prepared
from slatewise.data.agreement import check_agreement
from slatewise.data.item_columns import ItemColumns, join_columns
from slatewise.data.joining import join, renumber_parts, user_of_event
from slatewise.data.manifest import Kind, Manifest, Provenance
from slatewise.data.matching import LateOutcome, match_logs
from slatewise.data.merge_account import MergeAccount
from slatewise.data.prepared import Dataset
from slatewise.data.reading.account import Account, account_of
from slatewise.features import rescale
from slatewise.log import Catalog, Interactions, Vocabulary
from slatewise.logged_requests import ItemLists


def merge(first: Dataset, second: Dataset, out: Path, *, name: str | None = None) -> tuple[Dataset, MergeAccount]:
    """Write the events of two data sets as one.

    A log of uses and one of slates become one of slates; each use stays one, whatever its reward.

    Args:
        first: its users, items and policies keep their numbers.
        second: what it has in addition is numbered after them.
        out: folder to create; may be that of one of the two.
        name: short name; default that of the first.

    Raises:
        InputError: they do not belong together (see `check_agreement`), or `out` holds something else.
    """
    notes = check_agreement(first, second)
    users, user = _union(first.users, second.users)
    items, item = _union(first.catalog.vocabulary, second.catalog.vocabulary)
    policies, policy = _union(first.policies, second.policies)
    versions, version = _union(first.catalogs, second.catalogs)
    theirs = _in_numbers(second.interactions, item=item, policy=policy, version=version)
    ours = first.interactions
    their_user = user[user_of_event(theirs)]
    theirs, match = match_logs(ours, theirs, their_user, counted=_late_outcomes(first.manifest), clock=first.clock)
    columns, changes = join_columns(items.names, ItemColumns.of(first.catalog), ItemColumns.of(second.catalog))
    merged = join(match.ours, theirs, np.flatnonzero(match.is_new), their_user, num_users=len(users))
    catalog = replace(merge_catalogs(first.catalog, second.catalog), columns=columns)
    account = MergeAccount(
        added=int(match.is_new.sum()),
        duplicates=match.duplicates,
        late_outcomes=match.late_outcomes,
        set_aside=match.set_aside,
        new_users=len(users) - len(first.users),
        new_items=len(items) - len(first.catalog.vocabulary),
        featureless_items=int((~catalog.features[first.catalog.num_rows :].any(axis=1)).sum())
        * bool(first.catalog.features.shape[1]),
        columns=changes,
        notes=(*_reading_notes(second), *notes),
    )
    dataset = _write(
        out,
        replace(first, interactions=merged, catalog=catalog, users=users),
        policies=policies,
        versions=versions,
        name=name or first.name,
        kind=first.kind if first.kind == second.kind else "impressions",
        provenance=_provenance(first.manifest, second.manifest, account, match.counted),
        set_aside=_set_aside(first, second, account),
    )
    return dataset, account


def with_catalog(dataset: Dataset, catalog: Catalog, out: Path) -> Dataset:
    """Write a log with the items of a catalog first, in its numbers, with its texts, groups, features and columns.

    Args:
        dataset: the log; items that the catalog does not have are numbered after it.
        catalog: of an item table, another data set or a run.
        out: folder to create; may be that of the log.
    """
    items, number = _union(catalog.vocabulary, dataset.catalog.vocabulary)
    columns, _ = join_columns(items.names, ItemColumns.of(dataset.catalog), ItemColumns.of(catalog))
    log = _in_numbers(
        dataset.interactions,
        item=number,
        policy=np.arange(len(dataset.policies)),
        version=np.arange(len(dataset.catalogs)),
    )
    return _write(
        out,
        replace(dataset, interactions=log, catalog=replace(merge_catalogs(catalog, dataset.catalog), columns=columns)),
        policies=dataset.policies,
        versions=dataset.catalogs,
        name=dataset.name,
        kind=dataset.kind,
        provenance=provenance_of(dataset.manifest),
        set_aside=_set_aside(dataset),
        num_table_items=catalog.num_items,
        has_titles=any(catalog.text),
    )


def _write(
    out: Path,
    dataset: Dataset,
    *,
    policies: Vocabulary,
    versions: Vocabulary,
    name: str,
    kind: Kind,
    provenance: Provenance,
    set_aside: Mapping[str, int],
    num_table_items: int | None = None,
    has_titles: bool = True,
) -> Dataset:
    """Write a data set of other columns than its files hold, with a new account."""
    account = account_of(
        dataset.interactions,
        users=dataset.users.names,
        items=dataset.catalog.vocabulary.names,
        num_table_items=num_table_items,
        has_titles=has_titles,
        is_slates=kind == "impressions",
        clock=dataset.clock,
        set_aside=set_aside,
    )
    return prepared.write(
        out,
        name=name,
        interactions=dataset.interactions,
        catalog=dataset.catalog,
        users=dataset.users,
        policies=policies,
        catalogs=versions,
        kind=kind,
        context=dataset.manifest.context,
        provenance=replace(provenance, source={**provenance.source, "account": asdict(account)}),
        user_table=dataset.user_table,
    )


def _set_aside(*datasets: Dataset | MergeAccount) -> dict[str, int]:
    """Rows that are in no data set, by reason."""
    total: Counter[str] = Counter()
    for dataset in datasets:
        if isinstance(dataset, Dataset):
            account = Account.of(dataset.manifest.source)
            total += Counter({} if account is None else account.set_aside)
        else:
            total["events that another log had already"] += dataset.duplicates
            total["events that contradict another log"] += dataset.set_aside
    return {reason: count for reason, count in total.items() if count}


def merge_catalogs(first: Catalog, second: Catalog) -> Catalog:
    """The items of the first, then those that only the second has.

    Text and group of an item are the first's, where it has none the second's. Features are the first's, and items that
    only the second has get those of the same names, on the first's scales. Their columns are joined by `join_columns`.
    """
    items, number = _union(first.vocabulary, second.vocabulary)
    text = [*first.text, *[""] * (len(items) - first.num_items)]
    group_names, group_number = _union_of_names(pa.array(first.group_names), pa.array(second.group_names))
    group = np.concatenate([first.group, np.zeros(len(items) - first.num_items, np.int64)])
    for place, row in enumerate(number.tolist()):
        text[row] = text[row] or second.text[place]
        group[row] = group[row] or group_number[second.group[place]]
    features = np.zeros((len(text), first.features.shape[1]), np.float32)
    features[: len(first.features)] = first.features
    if first.feature_scales:
        is_new = number >= first.num_rows
        features[number[is_new]] = rescale(second.features, second.feature_scales, first.feature_scales)[is_new]
    return Catalog(
        vocabulary=items,
        text=tuple(text),
        group=group,
        group_names=tuple(group_names.to_pylist()),
        features=features,
        feature_scales=first.feature_scales,
    )


def _reading_notes(dataset: Dataset) -> list[str]:
    """What its import noted of the log."""
    notes = dataset.manifest.source.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list | tuple) else []


def provenance_of(manifest: Manifest) -> Provenance:
    """Where the log of a data set comes from."""
    return Provenance(
        source=manifest.source,
        clock=manifest.time.clock,
        simulated=manifest.simulated,
        licence=manifest.licence,
        citation=manifest.citation,
    )


def _late_outcomes(manifest: Manifest) -> frozenset[LateOutcome]:
    """Late outcomes of used items that a data set has counted."""
    stored = manifest.source.get("late_outcomes")
    return frozenset(map(tuple, stored)) if isinstance(stored, list) else frozenset()


def _provenance(
    first: Manifest, second: Manifest, account: MergeAccount, counted: Collection[LateOutcome]
) -> Provenance:
    """Where the events of both come from: what was appended stands in the source of the first."""
    appended = first.source.get("appended")
    earlier = appended if isinstance(appended, list) else []
    return replace(
        provenance_of(first),
        source={
            **first.source,
            "appended": [*earlier, {**second.source, "merge": asdict(account)}],
            "late_outcomes": sorted(map(list, counted)),
        },
        licence=first.licence or second.licence,
        citation=first.citation or second.citation,
    )


def _union(first: Vocabulary, second: Vocabulary) -> tuple[Vocabulary, Int[np.ndarray, "rows"]]:
    """The names of both, and the number there of every number of the second; reserved numbers stay."""
    names, place = _union_of_names(first.names, second.names)
    reserved = np.arange(first.first)
    return replace(first, names=names), np.concatenate([reserved, place + first.first])


def _union_of_names(first: pa.StringArray, second: pa.StringArray) -> tuple[pa.StringArray, Int[np.ndarray, "N"]]:
    """The names of the first, then the others; and the place there of every name of the second."""
    new = second.filter(pc.invert(pc.is_in(second, value_set=first)))
    names = pa.concat_arrays([first, new])
    return names, np.asarray(pc.index_in(second, value_set=names), np.int64)


def _in_numbers(
    log: Interactions,
    *,
    item: Int[np.ndarray, "rows"],
    policy: Int[np.ndarray, "P"],
    version: Int[np.ndarray, "C"],
) -> Interactions:
    """A log with its items, policies and catalog versions in other numbers."""

    def in_new_numbers(lists: ItemLists | None) -> ItemLists | None:
        return lists and replace(lists, item=item[np.asarray(lists.item)].astype(np.int32))

    requests = log.requests
    if requests is not None:
        requests = replace(
            requests,
            catalog=version[np.asarray(requests.catalog)].astype(np.int32),
            exclude=in_new_numbers(requests.exclude),
            candidates=in_new_numbers(requests.candidates),
            fixed=in_new_numbers(requests.fixed),
            parts=renumber_parts(requests.parts, item),
        )
    return replace(
        log,
        item=item[np.asarray(log.item)].astype(np.int32),
        policy_id=policy[np.asarray(log.policy_id)].astype(np.int32),
        requests=requests,
    )
