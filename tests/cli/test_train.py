"""slatewise train --data, without a configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Command, Trained

from slatewise.config.run import RunConfig

SMALL = ("--set", "train.epochs=1", "--set", "method.imitation.epochs=0", "--set", "encoder.width=4")


def test_settings_are_chosen_printed_and_written(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    ended = slatewise("train", "--data", trained.data, "--out", tmp_path / "run", *SMALL)
    assert ended.code == 0
    assert "Log: ratings from 1 to 5" in ended.out
    assert "agreement with the log, not proof of a better policy" in ended.out
    assert "train.epochs = 1" in ended.out
    config = RunConfig.from_toml(tmp_path / "run" / "config.toml")
    assert config.method.name == "reinforce"
    assert "# reward 1 for what users liked, 0 for the rest\n" in (tmp_path / "run" / "config.toml").read_text("utf-8")


def test_json_has_the_reasons_and_the_folder_is_named_for_data_and_method(
    trained: Trained, slatewise: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = slatewise("train", "--data", trained.data, "--method", "popularity", "--json")
    assert ended.value["folder"] == "runs/data-popularity"
    assert ended.value["reasons"]["data.split"] == "each user's last event tests, the one before it validates"


def test_a_method_that_cannot_learn_from_the_log_names_one_that_can(
    trained: Trained, slatewise: Command, tmp_path: Path
) -> None:
    ended = slatewise("train", "--data", trained.data, "--method", "slateq", "--out", tmp_path / "run")
    assert ended.code == 2
    assert "slateq cannot learn from this log: ratings from 1 to 5" in ended.err
    assert "Choose --method reinforce" in ended.err
    assert not (tmp_path / "run").exists()


def test_a_configuration_is_used_for_another_log(trained: Trained, slatewise: Command, tmp_path: Path) -> None:
    config = trained.counted / "config.toml"
    ended = slatewise("train", config, "--data", trained.data, "--out", tmp_path / "run", "--json")
    assert ended.code == 0
    assert ended.value["reasons"] == {}


def test_nothing_to_train_on(slatewise: Command) -> None:
    ended = slatewise("train")
    assert ended.code == 2
    assert "CONFIG is missing. --data DIR chooses settings for a log" in ended.err
