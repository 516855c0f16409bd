"""slatewise evaluate and slatewise ope: what they say of an off-policy estimate."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Command

from slatewise.config.run import RunConfig
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.training.loop import train

USERS, EVENTS, ITEMS = 60, 6, 5


def logged(*, slate_size: int) -> list[list[dict[str, Any]]]:
    """Slates drawn uniformly; half of the items shown first are clicked."""
    generator = np.random.default_rng(0)

    def event() -> dict[str, Any]:
        items = generator.permutation(ITEMS)[:slate_size] + 2
        click = float(generator.random() < 0.5)
        return {
            "items": items.tolist(),
            "logp": [-math.log(ITEMS - place) for place in range(slate_size)],
            "rewards": [click] + [0.0] * (slate_size - 1),
            "used": [0] if click else [],
        }

    return [[event() for _ in range(EVENTS)] for _ in range(USERS)]


def trained_on(tmp_path: Path, users: list[list[dict[str, Any]]], **evaluate: float) -> Path:
    data = toy_dataset(tmp_path / "data", written_log(users), catalog=toy_catalog(ITEMS), kind="impressions")
    tables = {
        "method": {"name": "random"},
        "data": {"path": str(data.path), "split": "first_share", "valid_share": 0.25, "test_share": 0.5},
        "train": {"select": "ndcg@2"},
        "evaluate": {"k": [2], "exclude_seen": False, **evaluate},
    }
    train(RunConfig.from_tables(tables), tmp_path / "run")
    return tmp_path / "run"


def test_an_estimate_says_over_what_it_was_made_and_what_was_left_out(tmp_path: Path, slatewise: Command) -> None:
    users = logged(slate_size=1)
    del users[45][5]["logp"]
    run = trained_on(tmp_path, users)
    said = slatewise("evaluate", run)
    assert said.code == 0, said.err
    # π is uniform, as the log: the estimate is the click rate of the last three steps, one aside
    clicks = [event["rewards"][0] for user in users for event in user[3:] if "logp" in event]
    assert f"logged propensities): {np.mean(clicks):.4f} per shown item, 95 % interval" in said.out
    assert "over 179 shown items of 60 trajectories; left out: 1 (no propensity)" in said.out
    assert "the heaviest carries 1.7%, mean weight 1.000, tail k̂ none" in said.out
    assert "Verdict: can judge" in said.out
    estimate = slatewise("ope", run, "--json").value["off_policy"]
    assert (estimate["steps"], estimate["trajectories"]) == (179, 60)
    assert estimate["left_out"] == {"no propensity": 1}
    assert (estimate["propensities"], estimate["pareto_k"]) == ("logged", None)


def test_a_threshold_of_liking_above_every_reward_has_no_value(tmp_path: Path, slatewise: Command) -> None:
    said = slatewise("evaluate", trained_on(tmp_path, logged(slate_size=1), liked_at_least=4.0))
    assert "Metrics of liked items have no value: the largest reward is 1, below liked_at_least 4.\n" in said.out
    liked = [line.split()[1] for line in said.out.splitlines() if line.startswith("liked_")]
    assert liked == ["–"] * 8


def test_propensities_are_fitted_over_logged_ones_when_asked(tmp_path: Path, slatewise: Command) -> None:
    run = trained_on(tmp_path, logged(slate_size=1))
    said = slatewise("ope", run, "--fit-propensities")
    assert said.code == 0, said.err
    assert "fitted propensities)" in said.out
    assert "Verdict: weak\n  - the propensities were fitted to the log, not logged" in said.out


@pytest.mark.parametrize("bare", [False, True], ids=["slates", "no propensities"])
def test_a_log_without_single_draws_says_what_it_has(bare: bool, tmp_path: Path, slatewise: Command) -> None:
    users = logged(slate_size=3)
    for event in (event for user in users if bare for event in user):
        del event["logp"]
    run = trained_on(tmp_path, users)
    said = slatewise("evaluate", run)
    assert said.code == 0, said.err
    state = "no propensities" if bare else "propensities of slates of up to 3, none of a single draw"
    assert f"No off-policy estimate: the log has {state}; --off-policy fits them." in said.out
    estimate = slatewise("ope", run, "--json").value["off_policy"]
    assert (estimate["propensities"], estimate["left_out"]) == ("fitted", {})
    assert ("slates of up to 3, not of single draws" in estimate["reasons"][-1]) is not bare


def test_an_estimate_outlives_an_evaluation_without_one(tmp_path: Path, slatewise: Command) -> None:
    run = trained_on(tmp_path, logged(slate_size=2))
    fitted = slatewise("evaluate", run, "--off-policy", "--json").value["off_policy"]
    assert fitted["propensities"] == "fitted"
    assert slatewise("evaluate", run, "--json").value["off_policy"] is None
    stored = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert stored["parts"]["test"]["off_policy"] == fitted
