"""slatewise compare and train --seeds: rows of runs and of seeds, beside popularity, paired by user."""

from __future__ import annotations

import json
import math
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Command, Trained

from slatewise.cli._console import Stage
from slatewise.config.run import RunConfig
from slatewise.data.simulated import prepare_simulated
from slatewise.stats import student_t
from slatewise.training.comparison import BASELINE
from slatewise.training.loop import train

TRAIN = """
[data]
path = "{data}"
[method]
name = "cloning"
[encoder]
name = "gru"
width = 8
item_width = 8
[train]
seed = 3
epochs = 2
[evaluate]
k = [10]
liked_at_least = 4.0
"""


def metrics_of(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {metric["name"]: metric for metric in row["metrics"]}


def other_run(trained: Trained, folder: Path, *assignments: str) -> Path:
    """The counting run with other settings."""
    tables = {
        "data": {"path": str(trained.data)},
        "evaluate": {"k": [10], "liked_at_least": 4.0},
        "method": {"name": "popularity"},
    }
    train(RunConfig.from_tables(tables, list(assignments)), folder)
    return folder


def test_metrics_are_those_of_evaluate_and_the_baseline_is_popularity(trained: Trained, slatewise: Command) -> None:
    value = slatewise("compare", trained.learned, trained.counted, "--json").value
    baseline, learned, counted = value["rows"]
    assert [row["label"] for row in value["rows"]] == [BASELINE, "learned", "counted"]
    assert (value["against"], value["users"], value["simulated"]) == ("learned", 60, True)
    for row, run in ((learned, trained.learned), (counted, trained.counted), (baseline, trained.counted)):
        assert row["metrics"] == slatewise("evaluate", run, "--json").value["metrics"]
    assert learned["differences"] == {}
    assert baseline["differences"] == counted["differences"]
    for name, difference in counted["differences"].items():
        expected = metrics_of(counted)[name]["value"] - metrics_of(learned)[name]["value"]
        assert difference["value"] == pytest.approx(expected)
        assert difference["low"] < difference["value"] < difference["high"]
    assert set(counted["differences"]) == {
        name for name in metrics_of(counted) if not name.startswith(("coverage", "gini", "avg_pop", "liked_share"))
    }


def test_one_run_is_compared_with_popularity(trained: Trained, slatewise: Command) -> None:
    said = slatewise("compare", trained.counted)
    assert said.code == 0, said.err
    assert "95 % intervals over users" in said.out
    assert "ndcg@10, difference" in said.out
    assert f"Differences: row − {BASELINE}, paired by user" in said.out
    assert "+0.0000 [+0.0000, +0.0000]" in said.out, "popularity is popularity"
    said = slatewise("compare", trained.counted, "--metric", "coverage@10")
    assert "coverage@10 is a metric of all lists together, not of each user" in said.out
    assert slatewise("compare", trained.counted, "--metric", "ndcg@3").code == 2
    assert (
        "is not a row. One of: popularity (baseline), counted"
        in slatewise("compare", trained.counted, "--against", "nobody").err
    )


def test_runs_on_other_splits_or_rules_are_refused(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    for number, setting in enumerate(("data.split='by_time'", "evaluate.exclude_seen=false")):
        other = other_run(trained, tmp_path / f"other-{number}", setting)
        said = slatewise("compare", trained.counted, other)
        assert said.code == 2
        assert setting.split("=")[0].partition(".")[2] in said.err
        assert "so no metric of the two is comparable" in said.err
    prepare_simulated(tmp_path / "log", users=30, items=40, events_per_user=12, topics=4)
    other = other_run(trained, tmp_path / "other-log", f"data.path={tmp_path / 'log'}")
    said = slatewise("compare", trained.counted, other)
    assert said.code == 2
    assert "[data] fingerprint is" in said.err


def test_what_runs_share_is_compared_and_the_rest_is_named(
    trained: Trained, slatewise: Command, tmp_path: Path
) -> None:
    other = other_run(trained, tmp_path / "other", "evaluate.k=[10, 5]", "evaluate.liked_at_least=5.0")
    value = slatewise("compare", trained.counted, other, "--json").value
    assert value["k"] == [10]
    assert value["notes"] == [
        "k = 5 is left out: not all runs have it in [evaluate] k.",
        "Metrics of liked items are left out: the runs differ in [evaluate] liked_at_least.",
    ]
    assert not [name for name in metrics_of(value["rows"][2]) if name.startswith("liked") or name.endswith("@5")]
    other = other_run(trained, tmp_path / "third", "evaluate.k=[5]", "train.select='ndcg@5'")
    assert "the runs share no [evaluate] k" in slatewise("compare", trained.counted, other).err


def test_seeds_are_trained_resumed_and_compared_as_one_row(
    trained: Trained, slatewise: Command, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(TRAIN.format(data=trained.data), encoding="utf-8")
    command = ["train", tmp_path / "own.toml", "--out", tmp_path / "group"]
    value = slatewise(*command, "--seeds", 2, "--json").value
    runs = [tmp_path / "group" / f"seed-{seed}" for seed in (3, 4)]
    assert [(each["seed"], each["folder"]) for each in value["seeds"]] == [(3, str(runs[0])), (4, str(runs[1]))]
    mean, low, high = student_t([each["value"] for each in value["seeds"]], within=(0.0, 1.0))
    assert (value["mean"], value["interval_over_seeds"]) == (pytest.approx(mean), pytest.approx([low, high]))
    assert value["seeds"][0]["value"] != value["seeds"][1]["value"]
    said = slatewise(*command, "--seeds", 3)
    assert said.code == 2
    assert "--resume goes on with it" in said.err
    before = [(run / "artifact" / "manifest.json").stat().st_mtime_ns for run in runs]
    said = slatewise(*command, "--seeds", 3, "--resume")
    assert said.code == 0, said.err
    assert "Mean of 3 seeds: validation ndcg@10 = " in said.out
    assert f"Next: slatewise compare {tmp_path / 'group'}" in said.out
    assert [(run / "artifact" / "manifest.json").stat().st_mtime_ns for run in runs] == before, "kept"
    rows = slatewise("compare", tmp_path / "group", trained.counted, "--json").value["rows"]
    group = rows[1]
    assert (group["label"], group["seeds"], group["interval_over"]) == ("group", 3, "seeds")
    folders = [*runs, tmp_path / "group" / "seed-5"]
    values = [slatewise("evaluate", folder, "--json").value["metrics"] for folder in folders]
    for number, metric in enumerate(group["metrics"]):
        largest = math.inf if metric["name"].startswith("avg_popularity") else 1.0
        mean, low, high = student_t([each[number]["value"] for each in values], within=(0.0, largest))
        assert [metric[name] for name in ("value", "low", "high")] == pytest.approx([mean, low, high])
    difference = rows[2]["differences"]["ndcg@10"]
    expected = metrics_of(rows[2])["ndcg@10"]["value"] - metrics_of(group)["ndcg@10"]["value"]
    assert difference["value"] == pytest.approx(expected)
    text = slatewise("compare", tmp_path / "group").out
    assert "of several seeds over seeds (Student's t)" in text


def test_stopped_seeds_go_on(
    trained: Trained, slatewise: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(TRAIN.format(data=trained.data), encoding="utf-8")
    group, report = tmp_path / "group", Stage.report

    def stop_in_the_second(self: Stage, done: int, *rest: Any, **more: Any) -> None:
        report(self, done, *rest, **more)
        if (group / "seed-4" / "checkpoint").exists():
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Stage, "report", stop_in_the_second)
    arguments = ["train", tmp_path / "own.toml", "--seeds", 2, "--set", "train.checkpoint_every=1", "--out", group]
    said = slatewise(*arguments)
    assert said.code == 143
    assert f"The checkpoint in {group / 'seed-4'} is of step" in said.err
    command = shlex.split(said.err.rpartition("Go on: ")[2])
    assert command == ["slatewise", *map(str, arguments), "--resume"]
    monkeypatch.setattr(Stage, "report", report)
    value = slatewise(*command[1:], "--json").value
    assert [each["seed"] for each in value["seeds"]] == [3, 4]


def test_a_folder_of_seeds_is_no_run(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(TRAIN.format(data=trained.data), encoding="utf-8")
    said = slatewise("train", tmp_path / "own.toml", "--seeds", 2, "--out", trained.counted)
    assert said.code == 2
    assert "there is a run in it, not a folder of seeds" in said.err
    unfinished = tmp_path / "group" / "seed-0"
    unfinished.mkdir(parents=True)
    (unfinished / "config.toml").write_text("", encoding="utf-8")
    said = slatewise("compare", tmp_path / "group")
    assert said.code == 2
    assert f"{unfinished}: no finished run here" in said.err
    for command in (
        ["evaluate"],
        ["serve"],
        ["recommend", "--all", "--out", "x.csv"],
        ["train", "--out", "x", "--from"],
    ):
        said = slatewise(*command, tmp_path / "group")
        assert said.code == 2
        assert f"{tmp_path / 'group'}: it is a folder of seeds (1), and one run is wanted" in said.err
        assert f"Name one of them, such as {unfinished}" in said.err
    assert json.loads(slatewise("compare", trained.counted, "--json").out)["rows"]
