"""Training in phases: imitation takes epochs, patience begins with the last phase, the end says what it reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from slatewise.cli.train import _summary
from slatewise.config.run import RunConfig
from slatewise.errors import InputError
from slatewise.testing import toy_dataset
from slatewise.training.loop import Result, train

UPDATES = 24
"""Of an epoch: two windows of five events for each of 24 users, two windows a batch."""


def run(tmp_path: Path, imitation: dict[str, Any], *, epochs: int, patience: int = 1, **method: Any) -> Result:
    if not (tmp_path / "data").exists():
        toy_dataset(tmp_path / "data")
    settings = {
        "data": {"path": str(tmp_path / "data")},
        "method": {"name": "reinforce", "correction": "none", "reward_at_least": 4.0, "imitation": imitation, **method},
        "encoder": {"name": "gru", "width": 4, "item_width": 4},
        "train": {
            "epochs": epochs,
            "batch_size": 2,
            "max_length": 5,
            "burn_in": 0,
            "select": "ndcg@5",
            "patience": patience,
            "log_every": 1,
        },
        "evaluate": {"k": [5]},
    }
    return train(RunConfig.from_tables(settings), tmp_path / "run", overwrite=True)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]


def learned(folder: Path) -> dict[str, Tensor]:
    weights = load_file(folder / "checkpoint")
    return {name: value for name, value in weights.items() if name.startswith("learner.") and "head" in name}


def test_a_small_log_reaches_the_policy_gradient_however_impatient_training_is(tmp_path: Path) -> None:
    # with a rate of 0 to all purposes no epoch validates better than the first
    result = run(tmp_path, {"epochs": 3, "lr": 1e-12}, epochs=7, patience=2, lr=1e-12)
    phases = [line["phase"] for line in lines(result.folder) if "valid" in line]
    assert phases == ["imitation"] * 3 + ["policy gradient"] * 2
    assert (result.steps, result.epochs) == (5 * UPDATES, 5)


def test_rewards_move_the_policy_after_imitation(tmp_path: Path) -> None:
    still = run(tmp_path, {"epochs": 1.0, "lr": 0.01}, epochs=2, patience=9, lr=1e-12)
    before = learned(still.folder)
    moving = run(tmp_path, {"epochs": 1.0, "lr": 0.01}, epochs=2, patience=9, lr=0.01)
    after = learned(moving.folder)
    assert max(float((after[name] - value).abs().max()) for name, value in before.items()) > 0.01
    # until rewards counted, both did the same
    losses = [[line["loss"] for line in lines(result.folder) if "loss" in line] for result in (still, moving)]
    assert losses[0][: UPDATES + 1] == losses[1][: UPDATES + 1]


def test_the_end_says_which_phase_was_reached_and_which_weights_were_kept(tmp_path: Path) -> None:
    result = run(tmp_path, {"epochs": 2, "lr": 0.01}, epochs=4, patience=9, lr=1e-12)
    assert (result.phase, result.best_phase) == ("policy gradient", "imitation")
    (note,) = result.notes
    assert note == (
        f'the weights kept are those of epoch {result.best_epoch + 1}, of the phase "imitation": no epoch of the phase '
        '"policy gradient" has a better ndcg@5'
    )
    text = _summary(result)
    assert "Phase reached: policy gradient; phase of the weights kept: imitation" in text
    assert f"Note: {note}" in text
    ended = json.loads((result.folder / "training.json").read_text("utf-8"))
    assert (ended["phase"], ended["best_phase"], ended["notes"]) == ("policy gradient", "imitation", [note])
    assert "seconds" not in ended


def test_parts_of_an_epoch_count(tmp_path: Path) -> None:
    result = run(tmp_path, {"epochs": 0.5}, epochs=1, correction="standard")
    # imitation weights every item alike; the correction by π/β
    weights = [line["weight"] for line in lines(result.folder) if "weight" in line]
    assert weights[: UPDATES // 2] == [1.0] * (UPDATES // 2)
    assert 1.0 not in weights[UPDATES // 2 :]
    assert (result.phase, result.best_phase) == ("policy gradient", "policy gradient")


def test_imitation_that_leaves_no_time_for_rewards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"imitation\.epochs is 2 and \[train\] epochs 2: no update is left to learn"):
        run(tmp_path, {"epochs": 2}, epochs=2)
    assert not (tmp_path / "run").exists()


def test_the_old_key_is_refused_with_the_new_one(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r'imitation\] has the key "updates", which there is no more\. Set imitation\.e'
    ):
        run(tmp_path, {"updates": 300}, epochs=2)
