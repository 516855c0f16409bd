"""slatewise report, over runs that were really trained and judged."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest
from tests.cli.conftest import Command, Trained

from slatewise.config.run import RunConfig
from slatewise.stats import student_t
from slatewise.training.finished_run import evaluate_run, open_run
from slatewise.training.loop import train
from slatewise.training.seeds import train_seeds


def judged(*folders: Path) -> None:
    for folder in folders:
        evaluate_run(open_run(folder), "test", behaviour=None)


def test_several_runs_stand_on_one_page(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    judged(trained.counted, trained.learned, trained.corrected)
    page = tmp_path / "made" / "page.html"
    said = slatewise("report", trained.learned, trained.counted, trained.corrected, "--out", page)
    assert said.code == 0, said.err
    text = page.read_text("utf-8")
    for name in ("learned", "counted", "corrected"):
        assert re.search(rf">\s*{name}\b", text), f"{name} in the table"
        assert re.search(rf"^{name} ", said.out, re.MULTILINE)
    assert "simulated" in text
    assert "simulated log" in said.out
    assert "Part “test” of the split, 60 users" in said.out
    assert f"Report: {page}" in said.out
    assert f"slatewise serve {trained.learned}" in text, "the first run is the one to go on with"
    assert "Recommended now by learned" in text
    assert "Used next, held out" in text


def test_one_run_has_its_page_in_its_folder_and_json_says_what_stands_there(
    trained: Trained, slatewise: Command
) -> None:
    judged(trained.corrected)
    said = slatewise("report", trained.corrected, "--label", "ours", "--json")
    assert said.code == 0, said.err
    value = said.value
    assert value["report"] == str(trained.corrected / "report.html")
    assert (trained.corrected / "report.html").is_file()
    assert (value["simulated"], value["part"], value["data"]) == (True, "test", "simulated")
    (run,) = value["runs"]
    assert (run["label"], run["method"], run["users"]) == ("ours", "reinforce", 60)
    kept = json.loads((trained.corrected / "evaluation.json").read_text("utf-8"))
    assert run["metrics"] == kept["parts"]["test"]["metrics"]


@pytest.mark.parametrize("part", ["test", "valid"])
def test_a_run_that_was_not_judged_on_the_part_names_the_command(
    part: str, trained: Trained, slatewise: Command
) -> None:
    if part == "valid":
        judged(trained.counted)
    said = slatewise("report", trained.counted, "--part", part)
    assert said.code == 2
    assert f"slatewise evaluate {trained.counted} --part {part}" in said.err
    assert not (trained.counted / "report.html").exists()
    assert slatewise("evaluate", trained.counted, "--part", part).code == 0
    assert slatewise("report", trained.counted, "--part", part).code == 0


def test_figures_of_an_older_policy_do_not_count(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    judged(trained.learned)
    shutil.rmtree(trained.learned / "artifact")
    shutil.copytree(trained.counted / "artifact", trained.learned / "artifact")
    said = slatewise("report", trained.learned)
    assert said.code == 2
    assert "an older version of the policy or of slatewise judged it" in said.err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": {"split": "by_user"}}, "[data] split"),
        ({"evaluate": {"k": [5]}}, "the runs share no metric: [evaluate] k differs, [10] (counted), [5] (other): not"),
    ],
)
def test_runs_that_were_measured_otherwise_are_not_put_into_one_table(
    change: dict[str, dict[str, object]], named: str, trained: Trained, slatewise: Command, tmp_path: Path
) -> None:
    tables: dict[str, dict[str, object]] = {
        "method": {"name": "popularity"},
        "data": {"path": str(trained.data)},
        "evaluate": {"k": [10], "liked_at_least": 4.0},
    }
    for table, values in change.items():
        tables[table] = tables[table] | values
    if "k" in change.get("evaluate", {}):
        tables["train"] = {"select": "ndcg@5"}
    train(RunConfig.from_tables(tables), tmp_path / "other")
    judged(trained.counted, tmp_path / "other")
    said = slatewise("report", trained.counted, tmp_path / "other")
    assert said.code == 2
    assert named in said.err
    assert "other" in said.err


def test_the_metrics_that_runs_share_stand_in_one_table(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    tables: dict[str, dict[str, object]] = {
        "method": {"name": "popularity"},
        "data": {"path": str(trained.data)},
        "evaluate": {"k": [5, 10], "liked_at_least": 3.0},
        "train": {"select": "ndcg@5"},
    }
    train(RunConfig.from_tables(tables), tmp_path / "other")
    judged(trained.counted, tmp_path / "other")
    said = slatewise("report", tmp_path / "other", trained.counted)
    assert said.code == 0, said.err
    header = said.out.split("\n\n")[1].splitlines()[0].split()
    assert header[:4] == ["run", "recall@10", "ndcg@10", "coverage@10"]
    assert "[evaluate] k differs, [5, 10] (other), [10] (counted): not compared are recall@5, " in said.out
    assert "[evaluate] liked_at_least differs, 3.0 (other), 4.0 (counted): not compared are liked_" in said.out
    text = (tmp_path / "other" / "report.html").read_text("utf-8")
    assert "liked_at_least differs" in text
    assert "rated ≥" not in text
    value = slatewise("report", tmp_path / "other", trained.counted, "--json").value
    assert not any(name.startswith("liked_") or name.endswith("@5") for name in value["shared_metrics"])
    tables["evaluate"] = {"k": [10], "liked_at_least": 4.0, "exclude_seen": False}
    train(RunConfig.from_tables({**tables, "train": {"select": "ndcg@10"}}), tmp_path / "repeats")
    judged(tmp_path / "repeats")
    value = slatewise("report", trained.counted, tmp_path / "repeats", "--json").value
    assert value["shared_metrics"] == ["coverage@10", "gini@10", "avg_popularity@10"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("{learned}", "{learned}"), "two runs are called"),
        (("{learned}", "--label", "a", "--label", "b"), "--label was given 2 times for 1 runs"),
        (("{learned}", "{counted}", "--label", "a", "--label", "a"), 'two runs are called "a"'),
        (("{learned}", "--part", "train"), '--part is "train"; expected valid or test'),
        (("{learned}/artifact",), "no finished run here"),
    ],
)
def test_unusable_arguments(arguments: tuple[str, ...], said: str, trained: Trained, slatewise: Command) -> None:
    paths = {"learned": trained.learned, "counted": trained.counted}
    answer = slatewise("report", *(argument.format(**paths) for argument in arguments))
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


def test_a_method_of_ones_own_is_judged_and_reported_only_when_allowed(
    trained: Trained, slatewise: Command, tmp_path: Path
) -> None:
    run = tmp_path / "own"
    train(RunConfig.from_tables({"method": {"name": "examples.own_method"}, "data": {"path": str(trained.data)}}), run)
    for command in ("evaluate", "report"):
        said = slatewise(command, run)
        assert said.code == 2
        assert "examples.own_method" in said.err
        assert "--allow-module" in said.err
        assert slatewise(command, run, "--allow-module").code == 0


def test_a_run_is_called_served_when_its_service_decided_a_slate(trained: Trained, slatewise: Command) -> None:
    judged(trained.counted)
    page, tag = trained.counted / "report.html", '<span class="tag">served</span>'
    assert slatewise("report", trained.counted).code == 0
    assert tag not in page.read_text("utf-8")
    events = trained.counted / "serve" / "events" / "events-00000001.jsonl"
    events.parent.mkdir(parents=True)
    version = open_run(trained.counted).artifact.version
    decision = {"event_id": "e", "policy_version": "another", "slate": ["a"]}
    events.write_text(json.dumps(decision) + "\n")
    assert slatewise("report", trained.counted).code == 0
    assert tag not in page.read_text("utf-8"), "another policy's slate"
    decision["policy_version"] = version
    with events.open("a") as log:
        log.write(json.dumps(decision) + "\n")
    assert slatewise("report", trained.counted).code == 0
    assert tag in page.read_text("utf-8")


def test_a_folder_of_seeds_is_one_row(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    group = tmp_path / "group"
    config = RunConfig.from_toml(trained.learned / "config.toml")
    train_seeds(config, group, 2)
    said = slatewise("report", group, trained.counted)
    assert said.code == 2
    assert f"First: slatewise evaluate {group / 'seed-0'} --part test" in said.err
    judged(group / "seed-0", group / "seed-1", trained.counted)
    page = tmp_path / "page.html"
    value = slatewise("report", group, trained.counted, "--out", page, "--json").value
    row, counted = value["runs"]
    assert (row["run"], row["label"], row["seeds"], row["interval_over"]) == (str(group), "group", 2, "seeds")
    assert "seeds" not in counted
    stored = [json.loads((group / f"seed-{seed}" / "evaluation.json").read_text("utf-8")) for seed in (0, 1)]
    for number, metric in enumerate(row["metrics"]):
        largest = math.inf if metric["name"].startswith("avg_popularity") else 1.0
        values = [each["parts"]["test"]["metrics"][number]["value"] for each in stored]
        mean, low, high = student_t(values, within=(0.0, largest))
        assert [metric[name] for name in ("value", "low", "high")] == pytest.approx([mean, low, high])
    text = page.read_text("utf-8")
    assert re.search(r">\s*group \(mean of 2 seeds\)", text)
    assert "rows of several seeds are their mean, with the interval over seeds" in text
    assert "group/seed-1" in text, "each seed has its curve"
    assert "Recommended now by group/seed-0" in text
