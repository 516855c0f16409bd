"""Masks: items that are not shown until they are lifted, through restarts and for every reader of the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from tests.serve.world import NUM_ITEMS, Open, imported, priced, save_artifact

from slatewise.data.decisions_and_outcomes import FixedItem
from slatewise.data.requests import like_conditions, slate_request
from slatewise.errors import InputError
from slatewise.serve import Recommender, RecommendRequest, create_app
from slatewise.serve.http.schema import Explore
from slatewise.serve.refused import RefusedError

EVERY = {f"i{number}" for number in range(NUM_ITEMS)}


def catalogs(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "events-00000001.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["record"] == "catalog"]


def shown(recommender: Recommender, **request: Any) -> set[str]:
    asked = RecommendRequest(user_id="ann", **{"k": NUM_ITEMS, **request})
    return {item.item_id for item in recommender.recommend(asked).items}


def test_a_mask_holds_at_once_and_until_it_is_lifted(run: Path, serve: Open) -> None:
    recommender = serve(run)
    first = recommender.catalog_version
    assert shown(recommender) == EVERY
    recommender.put_mask({"i3", "i4"})
    second = recommender.catalog_version
    assert shown(recommender) == EVERY - {"i3", "i4"}
    recommender.put_mask({"i3"})
    assert shown(recommender) == EVERY - {"i3"}
    recommender.put_mask({"i4", "i3"})
    assert recommender.catalog_version == second
    recommender.put_mask(())
    assert recommender.catalog_version == first
    assert shown(recommender) == EVERY
    records = catalogs(recommender.events_folder)
    assert [record["catalog_version"] == first for record in records] == [True, False, False, False, True]
    assert [record.get("masked", 0) for record in records] == [0, 2, 1, 2, 0]
    assert {record.get("base") for record in records[1:4]} == {first}


def test_a_mask_outlives_the_service_its_store_and_its_policy(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run)
    recommender.put_mask({"i3", "i45"})
    version, folder = recommender.catalog_version, recommender.events_folder
    recommender.close()
    again = serve(run)
    assert (again.catalog_version, shown(again)) == (version, EVERY - {"i3"})
    assert again.served.unknown() == ["i45"]
    assert len(catalogs(folder)) == 2
    again.close()
    # another store reads the mask off the log, and a later policy that has the item keeps to it
    save_artifact(run / "artifact", num_items=50)
    later = serve(run, store=tmp_path / "store")
    assert later.served.masked == {"i3", "i45"}
    assert not {"i3", "i45"} & shown(later, k=50)
    assert catalogs(folder)[-1]["masked"] == 2


def test_nothing_is_shown_where_the_names_of_the_mask_are_gone(run: Path, serve: Open) -> None:
    recommender = serve(run)
    recommender.put_mask({"i3"})
    (file,) = recommender.events_folder.glob("mask-*.parquet")
    recommender.close()
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(InputError, match=f"{file.name}: the names of the masked items are missing"):
        serve(run)
    file.write_bytes(content[:40])
    with pytest.raises(InputError, match=f"{file.name}: no items of a catalog"):
        serve(run)
    file.write_bytes(content)
    assert shown(serve(run)) == EVERY - {"i3"}


def test_what_a_mask_leaves_nothing_of_is_refused(tmp_path: Path, serve: Open) -> None:
    save_artifact(tmp_path / "run" / "artifact", columns=priced())
    recommender = serve(tmp_path / "run")
    recommender.put_mask(EVERY - {"i7"})
    assert shown(recommender, k=3) == {"i7"}
    # a masked item is no candidate, like an excluded one
    assert shown(recommender, k=3, candidates=["i6", "i7"]) == {"i7"}
    with pytest.raises(RefusedError, match='no item is left to show to "ann"'):
        shown(recommender, k=3, candidates=["i6"])
    with pytest.raises(RefusedError, match="where: every item that matches 'price < 7' is masked"):
        shown(recommender, k=3, where="price < 7")
    with pytest.raises(RefusedError, match='fixed: item "i6" at position 0: the item is masked'):
        shown(recommender, k=3, fixed=[FixedItem(position=0, item_id="i6")])
    recommender.put_mask(EVERY)
    with pytest.raises(RefusedError, match="every item is masked"):
        shown(recommender, k=3)


def test_an_import_knows_which_items_were_masked(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run)
    for mask in ({"i0", "i1"}, (), EVERY - {"i5", "i6", "i7"}, {"i0", "i1"}):
        recommender.put_mask(mask)
        shown(recommender, k=2, explore=Explore(keep=0))
    data = imported(recommender.events_folder, tmp_path / "data")
    log = data.interactions
    groups = like_conditions(log, np.arange(log.num_events))
    allowed = [slate_request(log, group[:1], num_rows=NUM_ITEMS + 2).allowed for group in groups]
    assert sorted(NUM_ITEMS if part is None else int(part.sum()) for part in allowed) == [3, 38, 40]
    assert sorted(map(len, groups)) == [1, 1, 2]
    # the same items under every mask: none is there twice, and none is lost
    assert data.catalog.vocabulary.names.to_pylist() == [f"i{number}" for number in range(NUM_ITEMS)]


def test_a_file_of_masked_items_adds_to_the_mask(run: Path, serve: Open, tmp_path: Path) -> None:
    (tmp_path / "mask.csv").write_text("item_id\ni1\ni2\n", encoding="utf-8")
    recommender = serve(run)
    recommender.put_mask({"i0"})
    recommender.close()
    again = serve(run, mask=tmp_path / "mask.csv")
    assert shown(again) == EVERY - {"i0", "i1", "i2"}
    again.close()
    assert serve(run).served.masked == {"i0", "i1", "i2"}


def test_masks_over_http(run: Path, serve: Open) -> None:
    with TestClient(create_app(serve(run), sync_seconds=None, admin=True)) as client:
        base = client.get("/masks").json()
        assert (base["item_ids"], base["unknown"]) == ([], [])
        masks = client.put("/masks/i3").json()
        assert masks["item_ids"] == ["i3"]
        assert client.put("/masks/a%2Fb").json()["unknown"] == ["a/b"]
        assert client.get("/health").json()["masked"] == 1
        answer = client.post("/recommend", json={"user_id": "ann", "k": NUM_ITEMS}).json()
        assert {item["item_id"] for item in answer["items"]} == EVERY - {"i3"}
        assert client.delete("/masks/a%2Fb").json() == masks
        assert client.put("/masks", json={"item_ids": ["i5", "i4", "i5"]}).json()["item_ids"] == ["i4", "i5"]
        assert client.delete("/masks/i9").json()["item_ids"] == ["i4", "i5"]
        assert client.delete("/masks").json() == base
        for body in ({}, {"item_ids": "i1"}, {"item_ids": ["a\nb"]}, {"item_ids": [], "more": 1}):
            assert client.put("/masks", json=body).status_code == 422
        assert client.put("/masks/%20").status_code == 422
        assert client.put("/masks", content=b"{").status_code == 400
        assert client.post("/masks").status_code == 405


def test_masks_are_closed_without_admin(run: Path, serve: Open) -> None:
    with TestClient(create_app(serve(run), sync_seconds=None)) as client:
        for method, path in (("GET", "/masks"), ("PUT", "/masks/i3"), ("DELETE", "/masks"), ("DELETE", "/masks/i3")):
            refused = client.request(method, path)
            assert refused.status_code == 403
            assert refused.json()["expected"] == "a service that was started with --admin"
        assert client.get("/health").json()["masked"] == 0
