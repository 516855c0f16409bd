"""A trained tree policy over HTTP: the log-propensities that clients get are those of the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from tests.serve.world import imported, state_of

from slatewise.config.run import RunConfig
from slatewise.methods import tpgr
from slatewise.serve import Options, create_app, open_recommender
from slatewise.testing import toy_dataset
from slatewise.training.loop import train
from slatewise.types import Exploration, SlateRequest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    toy_dataset(folder / "data")
    tables: dict[str, Any] = {
        "data": {"path": str(folder / "data")},
        "encoder": {"name": "gru", "width": 8, "item_width": 8},
        "method": {
            "name": "tpgr",
            "tree": {"depth": 2, "cut": "kmeans", "vector_width": 2},
            "reward_at_least": 4.0,
            "lr": 0.02,
        },
        "train": {"epochs": 3, "batch_size": 8, "select": "ndcg@3"},
        "evaluate": {"k": [3]},
    }
    train(RunConfig.from_tables(tables), folder / "run")
    return folder / "run"


@pytest.mark.parametrize(
    ("explore", "served"),
    [
        # slots drawn from what a beam search finds; walks down the whole tree; walks after two fixed slots
        ({"top_m": 8, "keep": 0}, Exploration(top_m=8)),
        ({"top_m": 20, "keep": 0, "temperature": 0.7}, Exploration(top_m=20, temperature=0.7)),
        ({"top_m": 20, "keep": 2}, Exploration(top_m=20, keep=2)),
    ],
)
def test_a_slate_of_the_tree_over_http_with_its_exact_log_propensity(
    run: Path, tmp_path: Path, explore: dict[str, float], served: Exploration
) -> None:
    places = Options(seed=3, store=tmp_path / "store", events=tmp_path / "events", allow_repeats=True)
    recommender = open_recommender(run, places)
    with TestClient(create_app(recommender)) as client:
        first = client.post("/recommend", json={"user_id": "somebody new", "k": 2}).json()
        outcome = {"event_id": first["event_id"], "position": 0, "type": "rating", "value": 5}
        assert client.post("/feedback", json=outcome).json()["accepted"] == 1
        answer = client.post("/recommend", json={"user_id": "somebody new", "k": 4, "explore": explore}).json()
    policy = recommender.artifact.policy
    assert isinstance(policy, tpgr.Policy)
    names = [item["item_id"] for item in answer["items"]]
    slate = torch.tensor([[recommender.artifact.catalog.vocabulary.number(name) for name in names]])
    with torch.inference_mode():
        state = state_of(recommender, imported(tmp_path / "events", tmp_path / "data"), "somebody new", 1)
        expected = policy.log_prob(state, slate, SlateRequest(k=4, exploration=served))[0]
    assert len(set(names)) == 4
    assert [item["logp"] for item in answer["items"]] == pytest.approx(expected.tolist(), abs=1e-5)
    assert answer["logp"] == pytest.approx(float(expected.sum()), abs=1e-5)
    assert bool((expected[served.keep :] < 0).all())
