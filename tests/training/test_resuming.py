"""Runs that are killed and resumed end as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slatewise import config as configs
from slatewise.config.run import RunConfig
from slatewise.files import sha256
from slatewise.testing import toy_dataset
from slatewise.training.loop import Result, train

SMALL = {"name": "gru", "width": 8, "item_width": 8, "dropout": 0.3}
METHODS: dict[str, dict[str, Any]] = {
    "cloning": {"method": {"name": "cloning"}, "encoder": SMALL},
    "reinforce": {
        "method": {"name": "reinforce", "slate_size": 3, "reward_at_least": 4.0},
        "encoder": SMALL | {"name": "cfn"},
    },
    "item_knn": {"method": {"name": "item_knn"}},
}
# two windows of five events for each of 24 users, four windows a batch: 12 steps an epoch; whole users where one counts
STEPS = {"cloning": 24, "reinforce": 24, "item_knn": 6}
EPOCHS = {"item_knn": 1}


def tables(method: str, data: Path) -> dict[str, Any]:
    return {
        "data": {"path": str(data)},
        "train": {
            "epochs": 2,
            "batch_size": 4,
            "max_length": 5,
            "burn_in": 2,
            "seed": 7,
            "select": "ndcg@5",
            "checkpoint_every": 4,
            "log_every": 1,
        },
        "evaluate": {"k": [5]},
        **METHODS[method],
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every method trained twice: undisturbed, and killed at three steps drawn at random."""
    folder = tmp_path_factory.mktemp("runs")
    toy_dataset(folder / "data")
    generator = np.random.default_rng(11)
    jobs: list[dict[str, Any]] = []
    for method, steps in STEPS.items():
        settings = tables(method, folder / "data")
        jobs.append({"tables": settings, "folder": str(folder / method), "kills": []})
        kills = sorted(generator.choice(np.arange(1, steps + 1), size=3, replace=False).tolist())
        jobs.append({"tables": settings, "folder": str(folder / f"{method}-killed"), "kills": kills})
    # and once at the worst moments: the very first step, and the last one, before anything was validated
    jobs.append({**jobs[0], "folder": str(folder / "cloning-worst"), "kills": [1, 24]})
    # and with checkpoints by time, of which so short a run has none before its end
    timed = tables("cloning", folder / "data")
    del timed["train"]["checkpoint_every"]
    jobs.append({"tables": timed, "folder": str(folder / "timed"), "kills": []})
    jobs.append({"tables": timed, "folder": str(folder / "timed-killed"), "kills": [13]})
    (folder / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    program = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [sys.executable, str(program), str(folder / "jobs.json")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


PAIRS = [
    *((method, f"{method}-killed") for method in METHODS),
    ("cloning", "cloning-worst"),
    ("timed", "timed-killed"),
]


@pytest.mark.parametrize(("undisturbed", "killed"), PAIRS)
def test_the_weights_are_the_same_bits(runs: Path, undisturbed: str, killed: str) -> None:
    weights = "artifact/weights.safetensors"
    assert sha256(runs / killed / weights) == sha256(runs / undisturbed / weights)
    manifests = [
        json.loads((runs / run / "artifact" / "manifest.json").read_text("utf-8")) for run in (undisturbed, killed)
    ]
    assert manifests[0]["metrics"] == manifests[1]["metrics"]
    assert manifests[0]["files"] == manifests[1]["files"]


@pytest.mark.parametrize(("undisturbed", "killed"), PAIRS)
def test_no_line_of_the_metrics_is_missing_or_stands_twice(runs: Path, undisturbed: str, killed: str) -> None:
    lines = [(runs / run / "metrics.jsonl").read_text("utf-8").splitlines() for run in (undisturbed, killed)]
    assert lines[1] == lines[0]
    rows = [json.loads(line) for line in lines[1]]
    steps = [row["step"] for row in rows if "valid" not in row]
    total, epochs = STEPS.get(undisturbed, 24), EPOCHS.get(undisturbed, 2)
    assert steps == list(range(1, total + 1))
    each = total // epochs
    assert [(row["epoch"], row["step"]) for row in rows if "valid" in row] == [
        (epoch, each * (epoch + 1)) for epoch in range(epochs)
    ]


def test_dropout_was_drawn(runs: Path) -> None:
    # else the generator of the learner would not matter above
    config = RunConfig.from_toml(runs / "cloning" / "config.toml")
    assert configs.to_table(config.encoder.settings)["dropout"] == 0.3


def test_nothing_half_written_is_left(runs: Path) -> None:
    assert list(runs.rglob("*.partial")) == []


def test_a_finished_run_only_answers_again(runs: Path) -> None:
    settings = tables("cloning", runs / "data")
    weights = sha256(runs / "cloning" / "artifact" / "weights.safetensors")
    lines = (runs / "cloning" / "metrics.jsonl").read_text("utf-8")
    steps: list[int] = []
    result = train(
        RunConfig.from_tables(settings),
        runs / "cloning",
        resume=True,
        on_step=lambda progress, _: steps.append(progress.step),
    )
    assert isinstance(result, Result)
    assert (result.steps, result.epochs, steps) == (24, 2, [])
    assert sha256(runs / "cloning" / "artifact" / "weights.safetensors") == weights
    assert (runs / "cloning" / "metrics.jsonl").read_text("utf-8") == lines


def test_a_seed_makes_a_run(runs: Path, tmp_path: Path) -> None:
    settings = tables("cloning", runs / "data")
    train(RunConfig.from_tables(settings), tmp_path / "same")
    weights = "artifact/weights.safetensors"
    assert sha256(tmp_path / "same" / weights) == sha256(runs / "cloning" / weights)
    train(RunConfig.from_tables({**settings, "train": settings["train"] | {"seed": 8}}), tmp_path / "other")
    assert sha256(tmp_path / "other" / weights) != sha256(runs / "cloning" / weights)


@pytest.mark.slow
def test_the_command_killed_from_outside(runs: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(configs.dump_toml(tables("reinforce", runs / "data")), encoding="utf-8")
    command = [sys.executable, "-m", "slatewise.cli", "train", str(config), "--out", str(tmp_path / "run"), "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    checkpoint, seen = tmp_path / "run" / "checkpoint", 0
    for _ in range(2):
        running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        while running.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen:
                running.send_signal(signal.SIGKILL)
                seen = checkpoint.stat().st_mtime_ns
                break
            time.sleep(0.001)
        assert running.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    weights = "artifact/weights.safetensors"
    assert sha256(tmp_path / "run" / weights) == sha256(runs / "reinforce" / weights)
    lines = [(run / "metrics.jsonl").read_text("utf-8") for run in (tmp_path / "run", runs / "reinforce")]
    assert lines[0] == lines[1]
