"""A trained Wolpertinger policy over HTTP: its log-propensities are those of a Boltzmann draw among the k nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from tests.serve.world import imported, state_of

from slatewise.config.run import RunConfig
from slatewise.methods import wolpertinger
from slatewise.serve import Options, create_app, open_recommender
from slatewise.testing import toy_dataset
from slatewise.training.loop import train

NEIGHBOURS = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nearest")
    toy_dataset(folder / "data")
    tables: dict[str, Any] = {
        "data": {"path": str(folder / "data")},
        "encoder": {"name": "gru", "width": 8, "item_width": 8},
        "method": {
            "name": "wolpertinger",
            "neighbours": NEIGHBOURS,
            "item_width": 4,
            "reward_at_least": 4.0,
            "search": {"refit_every": 2},
            "lr": 0.02,
        },
        "train": {"epochs": 3, "batch_size": 8, "select": "ndcg@3"},
        "evaluate": {"k": [3]},
    }
    train(RunConfig.from_tables(tables), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(("keep", "temperature"), [(0, 1.0), (0, 0.3), (1, 1.0)])
def test_a_slate_of_the_nearest_over_http_with_its_exact_log_propensity(
    run: Path, tmp_path: Path, keep: int, temperature: float
) -> None:
    places = Options(seed=3, store=tmp_path / "store", events=tmp_path / "events", allow_repeats=True)
    recommender = open_recommender(run, places)
    explore = {"top_m": 20, "keep": keep, "temperature": temperature}
    with TestClient(create_app(recommender)) as client:
        first = client.post("/recommend", json={"user_id": "somebody new", "k": 2}).json()
        outcome = {"event_id": first["event_id"], "position": 0, "type": "rating", "value": 5}
        assert client.post("/feedback", json=outcome).json()["accepted"] == 1
        answer = client.post("/recommend", json={"user_id": "somebody new", "k": 4, "explore": explore}).json()
    policy = recommender.artifact.policy
    assert isinstance(policy, wolpertinger.Policy)
    names = [item["item_id"] for item in answer["items"]]
    slate = [recommender.artifact.catalog.vocabulary.number(name) for name in names]
    with torch.inference_mode():
        state = state_of(recommender, imported(tmp_path / "events", tmp_path / "data"), "somebody new", 1)
        # by hand: the k nearest to the proto-action by distance, then one draw after another by softmax of Q
        distance = (policy.positions - policy.networks.proto(state)).norm(dim=1)
        near = distance.argsort()[:NEIGHBOURS] + 2
        left = dict(
            zip(near.tolist(), (policy.networks.values(state, near.unsqueeze(0))[0] / temperature), strict=True)
        )
    expected = []
    for place, item in enumerate(slate):
        chances = torch.log_softmax(torch.stack(list(left.values())), dim=0)
        drawn = list(left).index(item)
        if place < keep:
            assert drawn == int(chances.argmax())
        expected.append(0.0 if place < keep else float(chances[drawn]))
        del left[item]
    assert len(set(names)) == 4
    assert [item["logp"] for item in answer["items"]] == pytest.approx(expected, abs=1e-5)
    assert answer["logp"] == pytest.approx(sum(expected), abs=1e-5)
