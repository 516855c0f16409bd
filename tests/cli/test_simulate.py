"""slatewise simulate, in this very process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Command

from slatewise.config.run import RunConfig
from slatewise.training.loop import train

SMALL = ("--set", "budget=20.0", "--set", "num_topics=5", "--set", "num_candidates=6")
WORLD = ("simulate", "interest_evolution", *SMALL)


def test_figures_with_standard_errors(slatewise: Command) -> None:
    said = slatewise(*WORLD, "--policy", "oracle", "--episodes", 60, "--json")
    assert said.code == 0, said.err
    value = said.value
    assert (value["env"], value["policy"], value["episodes"], value["users"]) == (
        "interest_evolution",
        "oracle",
        60,
        60,
    )
    assert value["settings"]["num_topics"] == 5
    for name in ("return", "length", "click_rate", "quality"):
        assert value[name]["stderr"] > 0
    text = slatewise(*WORLD, "--episodes", 60).out
    assert "60 episodes" in text
    assert "click rate" in text
    assert "standard error" in text


def test_episodes_are_dealt_to_places(slatewise: Command) -> None:
    value = slatewise(*WORLD, "--episodes", 50, "--users", 20, "--json").value
    assert (value["users"], value["episodes"]) == (17, 51)
    again = slatewise(*WORLD, "--episodes", 50, "--users", 20, "--json").value
    assert again == value
    assert slatewise(*WORLD, "--episodes", 50, "--users", 20, "--seed", 1, "--json").value["return"] != value["return"]


def test_from_a_recorded_log_to_a_policy_that_serves_the_same_world(slatewise: Command, tmp_path: Path) -> None:
    log, data, run = tmp_path / "log", tmp_path / "data", tmp_path / "run"
    said = slatewise(*WORLD, "--episodes", 40, "--record", log)
    assert said.code == 0, said.err
    assert f"slatewise data import {log} --simulated" in said.out
    assert slatewise("data", "import", log, "--out", data, "--simulated", "--json").value["simulated"]
    tables = {
        "data": {"path": str(data), "split": "by_user", "fold_in": 0.0},
        "method": {"name": "slateq", "reads": "match", "hidden": [8]},
        "encoder": {"name": "observed", "history": False},
        "train": {"epochs": 1},
        "evaluate": {"k": [10]},
    }
    train(RunConfig.from_tables(tables), run)
    said = slatewise(*WORLD, "--policy", run, "--episodes", 20, "--top-m", 5, "--json")
    assert said.code == 0, said.err
    assert said.value["return"]["value"] > 10
    other = slatewise("simulate", "interest_evolution", "--policy", run, "--episodes", 20)
    assert other.code == 2
    assert "another catalog: 30 items, interest_evolution has 200" in other.err
    wider = slatewise(*WORLD, "--set", "budget_visible=true", "--policy", run, "--episodes", 20)
    assert wider.code == 2
    assert "reads 5 numbers of context; interest_evolution shows 6" in wider.err
    again = slatewise(*WORLD, "--episodes", 10, "--record", log)
    assert again.code == 2
    assert "not empty" in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("simulate", "nowhere"), '"nowhere" is no environment'),
        (("simulate", "interest_evolution", "--set", "slate_size=11"), "a slate cannot be larger"),
        (("simulate", "interest_evolution", "--set", "bugdet=3"), 'did you mean "budget"'),
        (("simulate", "drift", "--set", "watch_bias=0"), 'unknown key "watch_bias"; write "watch.bias" instead'),
        (("simulate", "drift", "--set", "growth=0"), 'unknown key "growth"; write "interest.growth" instead'),
        (("simulate", "toys", "--policy", "oracle"), "toys has no oracle policy"),
        (("simulate", "toys", "--policy", "elsewhere"), "no policy and no run folder"),
        (("simulate", "toys", "--temperature", "0"), "expected a number above 0"),
        (("simulate", "interest_evolution", "--max-steps", "3"), "Raise --max-steps"),
        (("simulate", "toys", "--episodes", "0"), "--episodes"),
    ],
)
def test_what_cannot_be_used_is_said(slatewise: Command, arguments: tuple[str, ...], message: str) -> None:
    said = slatewise(*arguments)
    assert said.code == 2
    assert message in said.err
