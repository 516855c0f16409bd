"""Requests by attribute: only items whose columns match are shown, and the log lets others be asked the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from tests.serve.world import NUM_ITEMS, Open, catalog, imported, priced, save_artifact

from slatewise.catalog_file import read_catalog
from slatewise.data.catalogs import catalog_version
from slatewise.data.decisions_and_outcomes import FixedItem
from slatewise.data.merging import merge
from slatewise.data.requests import like_conditions, slate_request
from slatewise.serve import Recommender, RecommendRequest
from slatewise.serve.http.schema import Explore
from slatewise.serve.refused import RefusedError

CHEAP = "in_stock and price <= 8"
"""i1, i2, i4, i5, i7 and i8."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A run whose items have columns."""
    save_artifact(tmp_path / "shop" / "artifact", columns=priced())
    return tmp_path / "shop"


def records(recommender: Recommender, kind: str) -> list[dict[str, Any]]:
    lines = (recommender.events_folder / "events-00000001.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["record"] == kind]


def shown(recommender: Recommender, **request: Any) -> set[str]:
    answer = recommender.recommend(RecommendRequest(user_id="ann", **request))
    return {item.item_id for item in answer.items}


def test_only_matching_items_are_shown(shop: Path, serve: Open) -> None:
    recommender = serve(shop)
    assert shown(recommender, k=10, where=CHEAP) == {"i1", "i2", "i4", "i5", "i7", "i8"}
    assert shown(recommender, k=10, where=CHEAP, candidates=["i3", "i4", "i5"], exclude=["i5"]) == {"i4"}
    # a fixed item is shown whatever its columns hold
    fixed = [FixedItem(position=0, item_id="i9")]
    assert shown(recommender, k=3, where="price in (1, 2)", fixed=fixed) == {"i1", "i2", "i9"}
    most = shown(recommender, k=NUM_ITEMS, where="price <> 5")
    assert most == {f"i{number}" for number in range(NUM_ITEMS)} - {"i5"}


@pytest.mark.parametrize(
    ("where", "error", "expected"),
    [
        (
            "prise <= 8",
            'where: the items have no column "prise"; do you mean "price"?',
            "one of: item_id (text), price",
        ),
        ("price = 'low'", "where: column \"price\" holds numbers, and is compared to 'low'", "a number, such as 50"),
        ("price > 1000", "where: no item of 40 matches 'price > 1000'", "a filter that leaves an item to show"),
        ("price >", 'where: "the end" at character 8', "a number, such as 50"),
    ],
)
def test_filters_that_are_refused(shop: Path, serve: Open, where: str, error: str, expected: str) -> None:
    recommender = serve(shop)
    with pytest.raises(RefusedError) as refused:
        shown(recommender, k=3, where=where)
    assert refused.value.error == error
    assert refused.value.expected.startswith(expected)
    assert records(recommender, "decision") == []


def test_nothing_left_of_the_candidates_is_refused(shop: Path, serve: Open) -> None:
    with pytest.raises(RefusedError, match='no item is left to show to "ann"'):
        shown(serve(shop), k=3, where=CHEAP, candidates=["i0", "i3"])


def test_the_record_says_the_filter_and_the_items_it_was_read_from(shop: Path, serve: Open) -> None:
    recommender = serve(shop)
    shown(recommender, k=2, where=CHEAP)
    shown(recommender, k=2)
    first, second = records(recommender, "decision")
    assert first["where"] == CHEAP
    assert "where" not in second
    items = read_catalog(shop / "artifact" / "items.parquet")
    assert items.columns == priced()
    version = catalog_version(items.vocabulary.names, columns=items.columns)
    assert first["catalog_version"] == second["catalog_version"] == version
    assert version != catalog_version(items.vocabulary.names)


def test_another_policy_is_asked_under_the_same_filter(shop: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(shop)
    for _ in range(4):
        shown(recommender, k=2, where=CHEAP, explore=Explore(keep=0))
        shown(recommender, k=2, where="kind = 'a'", explore=Explore(keep=0))
        shown(recommender, k=2, explore=Explore(keep=0))
    data = imported(recommender.events_folder, tmp_path / "data")
    # the columns of the catalog came with the log
    assert data.catalog.columns is not None
    assert pl.DataFrame(data.catalog.columns)["price"].to_list() == priced()["price"].to_pylist()
    log, names = data.interactions, data.catalog.vocabulary.names
    groups = like_conditions(log, np.arange(log.num_events))
    assert sorted(map(len, groups)) == [4, 4, 4]
    # of another catalog, which has the first 20 items
    save_artifact(tmp_path / "other" / "artifact", seed=7, num_items=20)
    policy = serve(tmp_path / "other").artifact.policy
    numbers = np.concatenate([[0, 1], catalog(20).vocabulary.encode(names)])
    slates = torch.cartesian_prod(torch.arange(2, 22), torch.arange(2, 22))
    everybody = torch.zeros(len(slates), dtype=torch.int64)
    state = policy.encoder.initial(1)[:, : policy.encoder.width].expand(len(slates), -1)
    matching = []
    for events in groups:
        request = slate_request(log, events[:1], num_rows=22, numbers=numbers)
        with torch.inference_mode():
            logp = policy.log_prob(state, slates, request.rows(everybody)).sum(dim=1)
        assert float(logp.exp().sum()) == pytest.approx(1.0, abs=1e-4)
        allowed = torch.arange(22) >= 2 if request.allowed is None else request.allowed
        matching.append(int(allowed.sum()))
        possible = allowed[slates].all(dim=1) & (slates[:, 0] != slates[:, 1])
        assert torch.equal(logp > -torch.inf, possible)
    assert sorted(matching) == [6, 10, 20]


def test_parts_of_the_catalog_survive_files_and_merging(shop: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(shop)
    shown(recommender, k=2, where=CHEAP)
    first = imported(recommender.events_folder, tmp_path / "first")
    save_artifact(tmp_path / "later" / "artifact", columns=priced(50), num_items=50)
    later = serve(tmp_path / "later")
    shown(later, k=2, where="price > 40 and in_stock")
    shown(later, k=2)
    merged, _ = merge(first, imported(later.events_folder, tmp_path / "second"), tmp_path / "both")
    log, names = merged.interactions, merged.catalog.vocabulary.names
    allowed = []
    for event in np.argsort(np.asarray(log.event_id)):
        part = slate_request(log, np.array([event]), num_rows=merged.catalog.num_rows).allowed
        allowed.append(
            None if part is None else set(names.take(pa.array(part[2:].nonzero().flatten().numpy())).to_pylist())
        )
    assert allowed == [
        {"i1", "i2", "i4", "i5", "i7", "i8"},
        {"i41", "i43", "i44", "i46", "i47", "i49"},
        None,
    ]


def test_a_filter_that_cannot_be_applied_again_leaves_the_conditions_unknown(
    shop: Path, serve: Open, tmp_path: Path
) -> None:
    recommender = serve(shop)
    shown(recommender, k=2, where=CHEAP)
    shown(recommender, k=2)
    next(recommender.events_folder.glob("catalog-*.parquet")).unlink()
    data = imported(recommender.events_folder, tmp_path / "data")
    assert data.interactions.requests is not None
    assert data.interactions.requests.k.tolist() == [0, 2]
    notes = data.manifest.source["notes"]
    assert isinstance(notes, list)
    assert "decisions whose filter cannot be applied again, the conditions of their slates are not known: 1" in notes
