"""Validation while training: on a fixed sample of users, on all of them at the end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from slatewise import artifact, evaluation
from slatewise.config.run import RunConfig
from slatewise.log import LogPart
from slatewise.testing import toy_dataset
from slatewise.training import checkpoint
from slatewise.training.loop import train
from slatewise.training.run import lay_out
from slatewise.training.validation import sample_users


def test_a_sample_has_whole_users_of_the_part_and_is_fixed_by_its_seed(tmp_path: Path) -> None:
    log = toy_dataset(tmp_path / "data").interactions
    whole = LogPart.whole(log)
    part = LogPart(
        interactions=log, first=whole.last - 1, last=np.where(whole.last % 2 == 0, whole.last, whole.last - 1)
    )
    sample = sample_users(part, 5, seed=3)
    users = sample.users()
    assert len(users) == 5
    assert set(users) <= set(part.users())
    assert np.array_equal(sample.last[users], part.last[users])
    assert np.array_equal(sample_users(part, 5, seed=3).users(), users)
    assert not np.array_equal(sample_users(part, 5, seed=4).users(), users)
    assert sample_users(part, len(part.users()), seed=3) is part


def test_a_sample_validates_while_training_and_everybody_at_the_end(tmp_path: Path) -> None:
    toy_dataset(tmp_path / "data")
    tables = {
        "data": {"path": str(tmp_path / "data")},
        "method": {"name": "cloning"},
        "train": {"epochs": 2, "batch_size": 8, "select": "ndcg@5", "valid_users": 5},
        "evaluate": {"k": [5]},
    }
    config = RunConfig.from_tables(tables)
    result = train(config, tmp_path / "run")
    run = lay_out(config, tmp_path / "run")
    run.learner.policy.load_state_dict(artifact.load(tmp_path / "run" / "artifact").policy.state_dict())
    train_part, valid = run.split.part("train"), run.split.part("valid")
    policy, dataset = run.learner.policy, run.dataset
    values = [
        evaluation.evaluate(policy, dataset, part, config.evaluate, trained_on=train_part).value("ndcg@5")
        for part in (sample_users(valid, 5, seed=0), valid)
    ]
    assert result.value == pytest.approx(values[1])
    assert values[0] != pytest.approx(values[1])
    note = (
        f"while training, a fixed sample of 5 of {len(valid.users())} users validated (ndcg@5 = {values[0]:.4f} over "
        "them); the value at the end is over all"
    )
    assert note in result.notes
    assert note in json.loads((tmp_path / "run" / "training.json").read_text("utf-8"))["notes"]
    again = train(config, tmp_path / "run", resume=True)
    assert (again.value, again.notes) == (result.value, result.notes)


def test_checkpoints_by_time_take_a_twentieth_of_it_at_most() -> None:
    assert checkpoint.pause(0.0) == 10
    assert checkpoint.pause(2.0) == pytest.approx(38)
    assert 2.0 / (2.0 + checkpoint.pause(2.0)) == pytest.approx(0.05)


def test_a_checkpoint_holds_every_tensor_whether_memory_is_shared_or_not(tmp_path: Path) -> None:
    table = torch.arange(12.0).view(3, 4)
    tensors = {"whole": table, "again": table, "row": table[1], "across": table.T, "own": torch.ones(2)}
    written = checkpoint.Checkpoint(progress=checkpoint.Progress(step=3), learner=tensors, best={"whole": table})
    checkpoint.write(tmp_path, written, [])
    state = checkpoint.read(tmp_path)
    assert state is not None
    assert state.progress.step == 3
    for name, tensor in tensors.items():
        assert torch.equal(state.learner[name], tensor), name
    assert torch.equal(state.best["whole"], table)
