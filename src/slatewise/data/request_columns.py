"""Columns of a prepared data set: the conditions under which its slates were drawn, absent where no event has any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from slatewise.logged_requests import CatalogParts, ItemLists, LoggedRequests

SCALARS: dict[str, type[np.generic]] = {
    "request_k": np.int32,
    "request_top_m": np.int32,
    "request_keep": np.int32,
    "request_temperature": np.float64,
    "request_exclude_seen": np.bool_,
    "request_catalog": np.int32,
}
"""One value an event."""
LISTS = ("exclude", "candidates", "fixed")
"""Lists of items, each two columns: offsets and item; absent where no event has any."""
REQUEST_COLUMNS: dict[str, type[np.generic]] = {
    **SCALARS,
    **{f"request_{role}_offsets": np.int64 for role in LISTS},
    **{f"request_{role}_item": np.int32 for role in LISTS},
    "request_part": np.int32,
    "request_part_bits": np.uint8,
}
PARTS = ("request_part", "request_part_bits")
"""Parts of the catalog, absent where every event had the whole one."""


def request_columns(requests: LoggedRequests) -> dict[str, np.ndarray]:
    """The columns of a log's requests."""
    scalars = (
        requests.k,
        requests.top_m,
        requests.keep,
        requests.temperature,
        requests.exclude_seen,
        requests.catalog,
    )
    columns = dict(zip(SCALARS, scalars, strict=True))
    for role, lists in zip(LISTS, (requests.exclude, requests.candidates, requests.fixed), strict=True):
        if lists is not None:
            columns |= {f"request_{role}_offsets": lists.offsets, f"request_{role}_item": lists.item}
    if requests.parts is not None:
        columns |= {"request_part": requests.parts.part, "request_part_bits": requests.parts.bits}
    return {name: np.asarray(values, REQUEST_COLUMNS[name]) for name, values in columns.items()}


def requests_of(columns: Mapping[str, np.ndarray]) -> LoggedRequests:
    """Back from `request_columns`."""
    exclude, candidates, fixed = (
        ItemLists(offsets=columns[f"request_{role}_offsets"], item=columns[f"request_{role}_item"])
        if f"request_{role}_item" in columns
        else None
        for role in LISTS
    )
    return LoggedRequests(
        k=columns["request_k"],
        top_m=columns["request_top_m"],
        keep=columns["request_keep"],
        temperature=columns["request_temperature"],
        exclude_seen=columns["request_exclude_seen"],
        catalog=columns["request_catalog"],
        exclude=exclude,
        candidates=candidates,
        parts=CatalogParts(part=columns[PARTS[0]], bits=columns[PARTS[1]]) if PARTS[1] in columns else None,
        fixed=fixed,
    )


def request_files(files: Iterable[str]) -> set[str]:
    """Those of some files that hold requests, as far as they are whole."""
    names = set(files)
    scalars = {f"{name}.npy" for name in SCALARS} | {"catalogs.parquet"}
    if not scalars <= names:
        return set()
    lists = ({f"request_{role}_offsets.npy", f"request_{role}_item.npy"} for role in LISTS)
    pairs = (*lists, {f"{name}.npy" for name in PARTS})
    return scalars.union(*(pair for pair in pairs if pair <= names))


def wrong_lengths(columns: Mapping[str, np.ndarray], num_events: int) -> list[str]:
    """Names of columns that do not have the length which the number of events asks for."""
    expected = {name: num_events for name in SCALARS if name in columns}
    for role in LISTS:
        offsets, item = f"request_{role}_offsets", f"request_{role}_item"
        if offsets in columns:
            expected[offsets] = num_events + 1
            if len(columns[offsets]):
                expected[item] = int(columns[offsets][-1])
    if PARTS[0] in columns:
        expected[PARTS[0]] = num_events
        expected[PARTS[1]] = max(len(columns[PARTS[1]]), int(columns[PARTS[0]].max(initial=0)))
    return [name for name, length in expected.items() if len(columns[name]) != length]
