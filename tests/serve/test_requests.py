"""Requests as the log keeps them: any policy can be asked again under the conditions of a logged slate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.serve.world import NUM_ITEMS, Open, catalog, imported, priced, save_artifact
from tests.test_artifact import reseal
from torch import Tensor

from slatewise.data.catalogs import catalog_version
from slatewise.data.decisions_and_outcomes import FixedItem
from slatewise.data.requests import logged_slates, slate_request
from slatewise.errors import InputError
from slatewise.serve import Feedback, Recommender, RecommendRequest
from slatewise.serve.http.schema import Explore
from slatewise.serve.refused import RefusedError
from slatewise.types import Exploration

EVEN = [f"i{item}" for item in range(0, NUM_ITEMS, 2)]
ASKED = [
    RecommendRequest(user_id="ann", k=6),
    RecommendRequest(user_id="ann", k=6, explore=Explore(keep=6)),
    RecommendRequest(user_id="ann", k=5, explore=Explore(top_m=9, keep=1, temperature=0.3)),
    RecommendRequest(user_id="ann", k=4, candidates=EVEN, explore=Explore(keep=0)),
    RecommendRequest(user_id="ann", k=4, exclude=["i0", "no such item", "i3", "i0"]),
    RecommendRequest(
        user_id="ann", k=5, fixed=[FixedItem(position=3, item_id="i7"), FixedItem(position=0, item_id="i8")]
    ),
    RecommendRequest(
        user_id="ann",
        k=4,
        candidates=EVEN,
        exclude=["i2", "i4"],
        fixed=[FixedItem(position=1, item_id="i9")],
        explore=Explore(top_m=12, keep=0, temperature=2.0),
    ),
    RecommendRequest(user_id="ann", k=12, candidates=["i1", "i2", "i3", "i1"], explore=Explore(keep=0)),
    RecommendRequest(user_id="ann", k=NUM_ITEMS, explore=Explore(keep=1)),
    RecommendRequest(user_id="ann", k=5, where="in_stock and price <= 30", explore=Explore(keep=0)),
    RecommendRequest(user_id="ann", k=3, where="price in (1, 2, 3)", explore=Explore(keep=1)),
    RecommendRequest(
        user_id="ann",
        k=4,
        where="not (kind = 'b')",
        candidates=EVEN[:8],
        exclude=["i4"],
        fixed=[FixedItem(position=1, item_id="i9")],
    ),
]
"""Exploring and greedy, with candidates, exclusions, fixed positions and filters, and more than there is."""
METHODS: list[dict[str, Any]] = [
    {"name": "cloning"},
    {"name": "random"},
    {"name": "reinforce"},
    {"name": "tpgr", "tree": {"depth": 2}},
    {"name": "fcpo", "slate_size": 4, "width": 6},
    {"name": "wolpertinger", "item_width": 4},
    {"name": "slateq"},
]


def records(recommender: Recommender, kind: str) -> list[dict[str, Any]]:
    lines = (recommender.events_folder / "events-00000001.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["record"] == kind]


def state(recommender: Recommender, user_id: str) -> Tensor:
    with torch.inference_mode(), recommender.store.transaction():
        return recommender.users.state(recommender.users.find(user_id), []).clone()


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
def test_a_policy_gives_its_logged_propensities_again(
    tmp_path: Path, serve: Open, method: dict[str, Any], greedy: bool
) -> None:
    save_artifact(tmp_path / "run" / "artifact", tables={"method": method}, columns=priced())
    recommender = serve(tmp_path / "run", greedy=greedy)
    policy = recommender.artifact.policy
    states: dict[str, Tensor] = {}
    for turn, request in enumerate(ASKED):
        before = state(recommender, "ann")
        answer = recommender.recommend(request)
        states[answer.event_id] = before
        if turn % 3 < 2:
            position = turn % len(answer.items)
            recommender.feedback([Feedback(event_id=answer.event_id, position=position, value=turn)])

    dataset = imported(recommender.events_folder, tmp_path / "data")
    log = dataset.interactions
    numbers = np.concatenate([[0, 1], catalog().vocabulary.encode(dataset.catalog.vocabulary.names)])
    where = {str(name): event for event, name in enumerate(log.event_id.tolist())}
    for (event_id, before), request in zip(states.items(), ASKED, strict=True):
        events = np.array([where[event_id]])
        slates = logged_slates(log, events, request.k, numbers=numbers)
        with torch.inference_mode():
            logp = policy.log_prob(
                before, slates.items, slate_request(log, events, num_rows=NUM_ITEMS + 2, numbers=numbers)
            )
        # a walk down a tree adds up its path as it draws, and not as it evaluates one
        within = 1e-6 if method["name"] == "tpgr" else 0.0
        torch.testing.assert_close(logp, slates.logp, rtol=within, atol=within)
        assert bool(slates.logp.isfinite().all())


def test_what_a_decision_says_of_its_request(run: Path, serve: Open) -> None:
    recommender = serve(run)
    recommender.recommend(ASKED[6])
    recommender.recommend(RecommendRequest(user_id="ann", k=2, explore=Explore(keep=2)))
    first, second = records(recommender, "decision")
    asked = {key: first.get(key) for key in ("k", "exploration", "exclude", "exclude_seen", "candidates", "fixed")}
    assert asked == {
        "k": 4,
        "exploration": {"top_m": 12, "keep": 0, "temperature": 2.0},
        "exclude": ["i2", "i4"],
        "exclude_seen": True,
        "candidates": EVEN,
        "fixed": [{"position": 1, "item_id": "i9"}],
    }
    assert first["slate"][1] == "i9"
    assert first["logp"][1] == 0.0
    assert not {"exclude", "candidates", "fixed"} & set(second)


def test_a_greedy_decision_says_so_by_leaving_the_exploration_out(run: Path, serve: Open) -> None:
    recommender = serve(run, greedy=True, allow_repeats=True)
    recommender.recommend(RecommendRequest(user_id="ann", k=2))
    (decision,) = records(recommender, "decision")
    assert "exploration" not in decision
    assert "exclude_seen" not in decision
    assert decision["k"] == 2


def test_a_rebuilt_request_by_hand(run: Path, serve: Open, tmp_path: Path) -> None:
    recommender = serve(run)
    recommender.feedback([Feedback(user_id="ann", item_id="i9"), Feedback(user_id="ann", item_id="i5")])
    recommender.recommend(ASKED[6])
    recommender.recommend(ASKED[4])
    dataset = imported(recommender.events_folder, tmp_path / "data")
    log, name = dataset.interactions, dataset.catalog.vocabulary.name
    assert log.requests is not None
    uses, slates = np.flatnonzero(log.requests.k == 0), np.flatnonzero(log.requests.k)
    assert (len(uses), len(slates)) == (2, 2)
    request = slate_request(log, slates[:1], num_rows=NUM_ITEMS + 2)
    assert request.candidates is not None
    assert request.exclude is not None
    assert request.fixed is not None
    assert [name(item) for item in request.candidates[0].tolist()] == EVEN
    # i9 was seen, but a position fixes it
    assert {name(item) for item in request.exclude[0].tolist()} == {"i2", "i4", "i5"}
    assert [item and name(item) for item in request.fixed[0].tolist()] == [0, "i9", 0, 0]
    assert (request.k, request.exploration) == (4, Exploration(top_m=12, keep=0, temperature=2.0))
    # a name that no catalog has is no item
    second = slate_request(log, slates[1:], num_rows=NUM_ITEMS + 2)
    assert second.exclude is not None
    assert [name(item) for item in second.exclude[0].tolist()][:3] == ["i0", "i3", "i0"]
    assert {name(item) for item in second.exclude[0].tolist()} == {"i0", "i3", "i5", "i9"}
    assert "no such item" not in dataset.catalog.vocabulary.names.to_pylist()
    assert dataset.catalogs.names.to_pylist() == ["", recommender.catalog_version]
    assert log.requests.catalog[slates].tolist() == [1, 1]


FIXED = {
    "the slate has 3 positions": [FixedItem(position=3, item_id="i1")],
    "the catalog has no such item": [FixedItem(position=0, item_id="x")],
    "the position is fixed already": [FixedItem(position=0, item_id="i1"), FixedItem(position=0, item_id="i2")],
    "the item is fixed already": [FixedItem(position=0, item_id="i1"), FixedItem(position=1, item_id="i1")],
    "the item is excluded": [FixedItem(position=0, item_id="i4")],
}


@pytest.mark.parametrize(("message", "fixed"), FIXED.items())
def test_fixed_positions_that_cannot_be(run: Path, serve: Open, message: str, fixed: list[FixedItem]) -> None:
    recommender = serve(run)
    with pytest.raises(RefusedError, match=f'fixed: item ".*" at position .: {message}'):
        recommender.recommend(RecommendRequest(user_id="ann", k=3, fixed=fixed, exclude=["i4"]))
    assert records(recommender, "decision") == []


def test_positions_before_a_fixed_one_are_never_empty(run: Path, serve: Open) -> None:
    recommender = serve(run)
    last = [FixedItem(position=3, item_id="i9")]
    with pytest.raises(RefusedError, match='2 items are left to show to "ann" beside the fixed ones'):
        recommender.recommend(RecommendRequest(user_id="ann", k=5, candidates=["i1", "i2"], fixed=last))
    answer = recommender.recommend(RecommendRequest(user_id="ann", k=5, candidates=["i1", "i2", "i3"], fixed=last))
    assert [item.position for item in answer.items] == [0, 1, 2, 3]
    assert answer.items[3].item_id == "i9"
    alone = RecommendRequest(user_id="ann", k=1, candidates=["i1"], fixed=[FixedItem(position=0, item_id="i9")])
    assert [item.item_id for item in recommender.recommend(alone).items] == ["i9"]


def test_the_log_says_which_items_could_be_shown(run: Path, serve: Open, tmp_path: Path) -> None:
    first = serve(run)
    first.recommend(RecommendRequest(user_id="ann", k=2))
    version = catalog_version(catalog().vocabulary.names)
    (record,) = records(first, "catalog")
    file = f"catalog-{version}.parquet"
    policy = first.artifact.version
    record.pop("crc32")
    assert record | {"timestamp": 0} == {
        "record": "catalog", "timestamp": 0, "catalog_version": version, "policy_version": policy,
        "items": NUM_ITEMS, "file": file,
    }  # fmt: skip
    assert records(first, "decision")[0]["catalog_version"] == version
    assert record["timestamp"] < records(first, "decision")[0]["timestamp"]
    names = pq.read_table(first.events_folder / file)["item_id"].to_pylist()
    assert names == [f"i{item}" for item in range(NUM_ITEMS)]
    first.close()
    # the same catalog, the same or another policy: nothing is new
    second = serve(run)
    assert len(records(second, "catalog")) == 1
    second.close()
    save_artifact(tmp_path / "run" / "artifact", seed=1)
    third = serve(run)
    assert len(records(third, "catalog")) == 1
    third.close()
    save_artifact(tmp_path / "run" / "artifact", num_items=NUM_ITEMS + 1)
    fourth = serve(run)
    assert [record["items"] for record in records(fourth, "catalog")] == [NUM_ITEMS, NUM_ITEMS + 1]
    fourth.close()
    save_artifact(tmp_path / "run" / "artifact")
    fifth = serve(run)  # back again: the file lies there already
    assert [record["items"] for record in records(fifth, "catalog")] == [NUM_ITEMS, NUM_ITEMS + 1, NUM_ITEMS]
    assert len(list(fifth.events_folder.glob("*.parquet"))) == 2


def test_a_catalog_with_a_name_that_no_request_can_hold_is_not_served(run: Path, serve: Open) -> None:
    items = pq.read_table(run / "artifact" / "items.parquet")
    names = [*items["item_id"].to_pylist()[:-1], "i\n39"]
    pq.write_table(items.set_column(0, "item_id", [names]), run / "artifact" / "items.parquet")
    reseal(run / "artifact")
    with pytest.raises(
        InputError, match=r'items.parquet, line 40, column "item_id": the name of the item has a control'
    ):
        serve(run)
