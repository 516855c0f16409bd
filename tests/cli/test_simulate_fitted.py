"""slatewise simulate with a user model that was fitted to a log, in this very process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Command

from slatewise.config.run import RunConfig
from slatewise.data import Dataset, import_path
from slatewise.rollout.episodes import play_episodes
from slatewise.rollout.recording import recording
from slatewise.sim._opening import open_policy, open_world
from slatewise.sim.log_fitted import METHOD
from slatewise.training.loop import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A log that random slates wrote in a small world."""
    folder = tmp_path_factory.mktemp("fitted")
    opened = open_world("interest_evolution", ["budget=20.0", "num_topics=4", "num_candidates=6"], num_users=120)
    with recording(folder / "log", opened.env.catalog, version="random") as recorder:
        play_episodes(opened.env, open_policy(opened, "random").policy, episodes=1, seed=1, recorder=recorder)
    return import_path(folder / "log", folder / "data")


def tables(data: Dataset) -> dict[str, Any]:
    return {
        "data": {"path": str(data.path), "split": "by_user", "fold_in": 0.0},
        "encoder": {"name": "observed", "history": False},
        "method": {"name": METHOD, "reads": "match", "hidden": [8], "lr": 0.02},
        "train": {"epochs": 6},
        "evaluate": {"k": [1]},
    }


@pytest.fixture(scope="module")
def run(data: Dataset) -> Path:
    """A user model fitted to it."""
    folder = data.path.parent / "run"
    assert train(RunConfig.from_tables(tables(data)), folder).select == "log_likelihood"  # its own first metric
    return folder


def test_the_command_judges_and_plays_it(data: Dataset, run: Path, slatewise: Command) -> None:
    said = slatewise("simulate", run, "--fidelity", data.path)
    assert said.code == 0, said.err
    for words in ("part test", "uniform", "popularity", "Calibration", "autocorrelation of picks, lag 1", "Verdict"):
        assert words in said.out
    value = slatewise("simulate", run, "--fidelity", data.path, "--json").value
    assert {entry["model"] for entry in value["likelihoods"]} == {
        "model", "uniform", "position", "popularity", "frequency",
    }  # fmt: skip
    assert value["calibration"]["curve"][0]["count"] > 0
    played = slatewise("simulate", run, "--set", "num_candidates=6", "--episodes", 50, "--json")
    assert played.code == 0, played.err
    assert played.value["env"] == "log_fitted"
    assert played.value["length"]["value"] > 1


def test_what_is_no_user_model_is_refused(data: Dataset, slatewise: Command, tmp_path: Path) -> None:
    said = slatewise("simulate", "drift", "--fidelity", data.path)
    assert said.code == 2
    assert "not a run folder" in said.err
    train(
        RunConfig.from_tables(tables(data) | {"method": {"name": "popularity"}, "train": {"select": "ndcg@1"}}),
        tmp_path / "run",
    )
    said = slatewise("simulate", tmp_path / "run", "--episodes", 5)
    assert said.code == 2
    assert 'method "popularity", which is no user model' in said.err
