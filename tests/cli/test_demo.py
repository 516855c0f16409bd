"""The whole path: small in every test run, as it is shipped in the slow one."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Command

from slatewise.cli.demo import as_value, as_words, prepare
from slatewise.data import load
from slatewise.data.simulated import prepare_simulated
from slatewise.demo import Outcome, Settings, _judge, _train, _workers, ask_once, run
from slatewise.errors import InputError, SlatewiseError
from slatewise.methods import cloning
from slatewise.reproduce.movielens import Variant, config_of, variants

SMALL = ("encoder.width=8", "encoder.item_width=8", "train.epochs=2")
REINFORCE = (*SMALL, "method.imitation.epochs=1")
LINES = (
    Variant(name="popularity", label="popularity", config="popularity.toml"),
    Variant(name="cloning", label="behaviour cloning", config="cloning.toml", set=SMALL),
    Variant(name="reinforce", label="REINFORCE, no correction", config="reinforce.toml", set=REINFORCE),
    Variant(
        name="reinforce-k10",
        label="REINFORCE, top-K = 10",
        config="reinforce.toml",
        corrected=True,
        set=(*REINFORCE, "method.correction='top_k'", "method.slate_size=10"),
    ),
)
LABEL = "SIMULATED LOG: no person made these events"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A demo that ran, and what it said on the way."""

    settings: Settings
    found: Outcome
    said: list[str]


def shown(settings: Settings) -> Shown:
    said: list[str] = []
    return Shown(settings=settings, found=run(settings, say=said.append), said=said)


def written(folder: Path) -> dict[str, int]:
    """When each file of the runs was written, without what the service and the report write."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "serve" not in path.parts and path.name != "report.html"
    }


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("simulated")
    prepare_simulated(folder / "data", users=40, items=30, events_per_user=10, topics=3)
    return shown(Settings(data=folder / "data", runs=folder / "runs", variants=LINES, workers=1))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A log of clicks: eight items, no ratings, a user whose name wants quoting."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    names = ["l'été", *(f"user {number}" for number in range(29))]
    rows = [
        f"{name},item {item},{1_600_000_000 + 60 * at},{int(rng.random() < 0.5)}"
        for name in names
        for at, item in enumerate(rng.permutation(8)[:6])
    ]
    (folder / "clicks.csv").write_text("\n".join(["user_id,item_id,timestamp,click", *rows]), "utf-8")
    said: list[str] = []
    data, runs = prepare(folder / "clicks.csv", folder / "out", offline=False, say=said.append)
    assert (data, runs) == (folder / "out" / "clicks" / "data", folder / "out" / "clicks")
    assert said == [f"Importing {folder / 'clicks.csv'} into {data}"]
    return shown(Settings(data=data, runs=runs, variants=LINES, workers=1))


def test_it_ends_with_a_table_a_report_an_answer_and_two_commands(simulated: Shown) -> None:
    found, text = simulated.found, as_words(simulated.found)
    for line in LINES:
        assert re.search(rf"^{re.escape(line.label)}.* (can|weak|cannot)\b", text, re.MULTILINE)
    assert text.count("← served") == 1
    assert found.served.startswith("reinforce")
    assert f"Report: {found.report}" in text
    assert found.report.is_file()
    assert len(found.answer["items"]) == 5
    for item in found.answer["items"]:
        assert item["title"] in text
        assert 0 < item["propensity"] <= 1
    serve, curl = found.commands
    assert serve.endswith(f"serve {found.run} --port 8080")
    assert curl.startswith("curl -s http://127.0.0.1:8080/recommend -d ")
    assert all(f"  {command}\n" in text for command in found.commands)


def test_every_output_says_that_the_log_is_simulated(simulated: Shown) -> None:
    text = as_words(simulated.found)
    table, answer = text.split("Report: ")
    assert LABEL in table
    assert LABEL in answer
    assert LABEL in simulated.said[0]
    value = json.loads(json.dumps(as_value(simulated.found)))
    assert value["simulated"] is True
    assert value["answer"]["simulated"] is True
    assert "simulated" in simulated.found.report.read_text("utf-8").lower()


def test_json_has_every_figure_of_both_parts(simulated: Shown) -> None:
    value = json.loads(json.dumps(as_value(simulated.found), allow_nan=False))
    assert [row["name"] for row in value["rows"]] == [line.name for line in LINES]
    for row in value["rows"]:
        for part in ("valid", "test"):
            assert {"ndcg@10", "recall@10", "liked_recall@10", "coverage@10", "gini@10"} <= set(row[part])
        assert row["off_policy"]["verdict"] in ("can judge", "weak", "cannot judge")
    forms = {row["name"]: row["valid"]["liked_ndcg@10"]["value"] for row in value["rows"] if "reinforce" in row["name"]}
    assert value["served"] == max(forms, key=forms.__getitem__)


def test_a_second_run_uses_what_the_first_one_left(simulated: Shown) -> None:
    before = written(simulated.settings.runs)
    again = shown(simulated.settings)
    kept = [line for line in again.said if "kept, validation" in line]
    assert len(kept) == len(LINES)
    after = written(simulated.settings.runs)
    for name in after:
        if name.endswith("metrics.jsonl"):  # cut back to the checkpoint, to the same lines
            before[name] = after[name]
    assert after == before
    assert again.found.rows == simulated.found.rows
    assert again.found.answer["policy_version"] == simulated.found.answer["policy_version"]


def test_another_clone_is_trained_and_all_is_judged_against_it(simulated: Shown, tmp_path: Path) -> None:
    shutil.copytree(simulated.settings.runs, tmp_path / "runs")
    clone, form = tmp_path / "runs" / "cloning", tmp_path / "runs" / "reinforce"
    config = config_of(LINES[1], load(simulated.settings.data))
    assert "kept, validation" in _train(config, clone)[1]
    before = written(form)
    (old,) = (row for row in simulated.found.rows if row["name"] == "reinforce")
    assert _judge(form, clone)[1] == {part: old[part] for part in ("valid", "test", "off_policy")}
    assert written(form) == before, "nothing to do"
    faster = replace(config, method=replace(config.method, settings=cloning.Config(lr=0.01)))
    assert "2 epochs" in _train(faster, clone)[1]
    new = _judge(form, clone)[1]
    assert new["test"] == old["test"]
    assert new["off_policy"] != old["off_policy"], "the propensities of the estimate are those of the new clone"
    (form / "evaluation.json").unlink()
    assert _judge(form, clone)[1] == new


def test_a_log_of_ones_own_without_ratings(own: Shown) -> None:
    text = as_words(own.found)
    assert "ndcg@8" in text, "lists are no longer than the catalog"
    assert "liked" not in text
    assert "simulated" not in text.lower()
    value = as_value(own.found)
    assert value["simulated"] is False
    assert value["answer"]["simulated"] is False
    assert not any("liked" in name for row in value["rows"] for name in row["test"])
    assert "SIMULATED" not in "".join(own.said)


def test_the_printed_commands_survive_a_shell(own: Shown) -> None:
    asked = own.found.commands[1].replace("curl -s", "printf '%s\\n'", 1)
    words = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=True).stdout.splitlines()
    assert json.loads(words[-1]) == {"user_id": "l'été", "k": 5}


def test_histories_too_short_for_a_split_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    rows = [f"u{number // 2},i{number % 7},{1_600_000_000 + number}" for number in range(20)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]), "utf-8")
    data, runs = prepare(tmp_path / "log.csv", tmp_path / "out", offline=False, say=lambda line: None)
    with pytest.raises(InputError, match="no user has three events"):
        run(Settings(data=data, runs=runs, variants=LINES, workers=1), say=lambda line: None)
    assert [path.name for path in runs.iterdir()] == ["data"]


def test_the_service_is_asked_for_no_more_than_there_is(own: Shown) -> None:
    with pytest.raises(SlatewiseError, match=r"The service refused the request: .*k"):
        ask_once(own.found.run, {"user_id": "1", "k": 9})


@pytest.mark.parametrize("index", ["none", "does not answer"])
def test_without_a_registry_it_names_the_ways_on(
    index: str, slatewise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    if index == "none":
        monkeypatch.setenv("PIP_NO_INDEX", "1")
    else:
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    for scheme in ("http", "https"):  # nor does the publisher answer, wherever this test runs
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
    said = slatewise("demo")
    assert said.code == 1
    assert said.out == ""
    assert "Terms of use" in said.err
    (error,) = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    for way in ("--data PATH", "--offline", "PIP_INDEX_URL"):
        assert way in error
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "data" / "ml-100k").exists()


def test_a_log_that_the_import_cannot_read_names_the_way_through_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,timestamp\n1,2,yesterday\n", "utf-8")
    with pytest.raises(InputError, match=r"log\.csv, line 2, column \"timestamp\": .* slatewise data import .*--data"):
        prepare(tmp_path / "log.csv", tmp_path / "out", offline=False, say=lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_offline_never_takes_the_users_own_log_for_a_simulated_one(own: Shown, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "simulated"
    folder.mkdir(parents=True)
    shutil.copytree(own.settings.data, folder / "data")
    data, runs = prepare(None, tmp_path / "out", offline=True, say=lambda line: None)
    assert (data, runs) == (folder / "data", folder)
    assert json.loads((data / "manifest.json").read_text("utf-8"))["simulated"] is True
    stamp = (data / "manifest.json").stat().st_mtime_ns
    prepare(None, tmp_path / "out", offline=True, say=lambda line: None)
    assert (data / "manifest.json").stat().st_mtime_ns == stamp


@pytest.mark.slow  # two processes that import torch
@pytest.mark.parametrize(
    ("function", "argument", "error"),
    [(int, "x", ValueError), (os._exit, 1, SlatewiseError)],
    ids=["a job fails", "a process is killed"],
)
def test_the_other_processes_end_with_the_one_that_failed(
    function: Callable[..., Any], argument: Any, error: type[Exception]
) -> None:
    started = time.monotonic()
    calls = [(time.sleep, 600), (function, argument)]
    with pytest.raises(error), _workers(2) as work:
        list(work(_call, calls))
    assert time.monotonic() - started < 300
    # asked again: a child that another thread is just reaping still counts as active
    deadline = time.monotonic() + 60
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []


def _call(function: Callable[[Any], Any], argument: Any) -> Any:
    return function(argument)


def test_the_shipped_lines_hold_what_the_demo_needs() -> None:
    names = [line.name for line in variants()]
    assert len(set(names)) == len(names)
    assert {"cloning", "item_knn", "popularity", "random", "reinforce"} <= set(names)
    assert sum(line.corrected for line in variants()) >= 6
    folder = Path(__file__).parent.parent.parent / "configs" / "ml-100k"
    assert all((folder / line.config).is_file() for line in variants())


@pytest.mark.slow
def test_as_it_is_shipped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slatewise.cli", "demo", "--offline"]
    first = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    value = json.loads(first.stdout)
    assert value["simulated"] is True
    assert len(value["rows"]) == len(variants())
    ndcg = {row["name"]: row["test"]["ndcg@10"]["value"] for row in value["rows"]}
    assert ndcg["cloning"] > ndcg["item_knn"] > ndcg["popularity"] > ndcg["random"]
    assert (tmp_path / value["report"]).is_file()
    runs = tmp_path / "runs" / "demo" / "simulated"
    before = written(runs)
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert second.stdout.count(LABEL) == 2
    assert second.stderr.count("kept, validation") == len(variants())
    changed = {name for name, stamp in written(runs).items() if before.get(name) != stamp}
    assert all(name.endswith("metrics.jsonl") for name in changed)
