"""Lists of a trained policy over HTTP: the propensity of every place, exact."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from tests.serve.world import imported, state_of

from slatewise.config.run import RunConfig
from slatewise.methods import fcpo
from slatewise.serve import Options, create_app, open_recommender
from slatewise.testing import toy_dataset
from slatewise.training.loop import train
from slatewise.types import Exploration, SlateRequest

HAD = 3
"""Items that the user had before the question."""
PLACES = 5
EXPLORE = {"top_m": 12, "keep": 1, "temperature": 0.5}


def tables(data: Path) -> dict[str, Any]:
    return {
        "data": {"path": str(data), "split": "leave_one_out"},
        "encoder": {"name": "gru", "width": 8, "item_width": 8},
        "method": {
            "name": "fcpo",
            "slate_size": 3,
            "width": 8,
            "costs": "exposure",
            "cost_limit": 0.5,
            "imitation": {"lr": 0.02},
        },
        "train": {"epochs": 3, "select": "ndcg@3"},
        "evaluate": {"k": [3]},
    }


def test_a_trained_policy_serves_lists_with_their_exact_propensity(tmp_path: Path) -> None:
    catalog = toy_dataset(tmp_path / "data").catalog
    train(RunConfig.from_tables(tables(tmp_path / "data")), tmp_path / "run")
    recommender = open_recommender(tmp_path / "run", Options(seed=1))
    policy = recommender.artifact.policy
    assert isinstance(policy, fcpo.Policy)
    assert int((policy.popular > 0).sum()) == int(0.2 * catalog.num_items)

    names = catalog.vocabulary.names.to_pylist()
    with TestClient(create_app(recommender)) as client:
        had = [{"user_id": "ann", "item_id": name, "type": "rating", "value": 5} for name in names[:HAD]]
        assert client.post("/feedback", json=had).json()["accepted"] == HAD
        answer = client.post("/recommend", json={"user_id": "ann", "k": PLACES, "explore": EXPLORE}).json()
        dataset = imported(recommender.events_folder, tmp_path / "log")
        state = state_of(recommender, dataset, "ann", HAD)

    items = torch.tensor([[catalog.vocabulary.number(item["item_id"]) for item in answer["items"]]])
    exclude = torch.tensor([[catalog.vocabulary.number(name) for name in names[:HAD]]])
    with torch.inference_mode():
        # places beyond slate_size read the last row
        request = SlateRequest(k=PLACES, exclude=exclude, exploration=Exploration(top_m=12, keep=1, temperature=0.5))
        logp = policy.log_prob(state, items, request)
    served = [item["logp"] for item in answer["items"]]
    assert served == pytest.approx(logp[0].tolist(), abs=1e-5)
    assert served[0] == 0.0
    assert all(-math.inf < value < 0 for value in served[1:])
    assert answer["logp"] == pytest.approx(sum(served))
