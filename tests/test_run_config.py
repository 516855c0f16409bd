"""The configuration of a run: TOML → RunConfig → TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slatewise.config import DataConfig, EvaluateConfig, ServeConfig, TrainConfig
from slatewise.config.run import Component, RunConfig
from slatewise.encoders import gru, window
from slatewise.errors import InputError
from slatewise.log import LogPart
from slatewise.methods import cloning, popularity, wolpertinger
from slatewise.methods.wolpertinger import TD3Config
from slatewise.testing import written_log

CONFIGS = Path(__file__).parent.parent / "src" / "slatewise" / "configs"
SHIPPED = sorted(
    {file for file in CONFIGS.rglob("*.toml") if file.parent.name != "by_log"}  # those are parts of configurations
    - {CONFIGS / "ml-100k" / "demo.toml"}  # that one lists variants
)
FULL = RunConfig(
    method=Component(name="wolpertinger", settings=wolpertinger.Config(td3=TD3Config(actor_every=3))),
    encoder=Component(name="gru", settings=gru.Config(width=8, reward_edges=(2.0, 3.5), cell="lstm")),
    data=DataConfig(path="data/mine", split="by_time", test_share=0.3, fingerprint="f00"),
    train=TrainConfig(epochs=3, select="recall@5"),
    evaluate=EvaluateConfig(k=(5, 10), liked_at_least=4.0),
    serve=ServeConfig(keep=0, rewards={"click": 1.0}),
)


def test_a_configuration_comes_back_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(FULL.to_toml(), encoding="utf-8")
    assert RunConfig.from_toml(file) == FULL
    assert RunConfig.from_tables(FULL.to_tables()) == FULL


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: str(file.stem))
def test_shipped_configurations_come_back_too(file: Path) -> None:
    config = RunConfig.from_toml(file)
    assert RunConfig.from_tables(tomllib.loads(config.to_toml())) == config


def test_what_is_left_out_has_its_default() -> None:
    assert RunConfig.from_tables({"method": {"name": "popularity"}}) == RunConfig(
        method=Component(name="popularity", settings=popularity.Config()),
        encoder=Component(name="window", settings=window.Config()),  # the one that popularity names
        data=None,
        train=TrainConfig(),
        evaluate=EvaluateConfig(),
        serve=ServeConfig(),
    )


def test_an_encoder_may_be_set_without_its_name() -> None:
    config = RunConfig.from_tables({"method": {"name": "cloning"}, "encoder": {"width": 4}})
    assert config.encoder == Component(name=cloning.DEFAULT_ENCODER, settings=gru.Config(width=4))


def test_assignments_are_put_into_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[method]\nname = "cloning"\n', encoding="utf-8")
    config = RunConfig.from_toml(file, ["method.lr=0.5", "train.seed=3", "evaluate.k=[1, 2]", "encoder.name=window"])
    assert config.method.settings == cloning.Config(lr=0.5)
    assert (config.train.seed, config.evaluate.k, config.encoder.name) == (3, (1, 2), "window")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "run.toml: the table [method] is missing."),
        ({"method": 5}, "run.toml: [method] is 5, which is no table."),
        (
            {"trian": {}},
            'run.toml: unknown table "[trian]"; known: data, items, encoder, method, train, retrieval, evaluate, serve',
        ),
        ({"method": {}}, "run.toml [method] has no name. One of: cloning, "),
        ({"method": {"name": "clonning"}}, 'methods has no "clonning"; did you mean "cloning"?'),
        ({"method": {"name": "cloning", "lrr": 1}}, 'run.toml [method] has an unknown key "lrr"; did you mean "lr"?'),
        ({"method": {"name": "cloning"}, "encoder": {"name": "gruu"}}, 'encoders has no "gruu"; did you mean "gru"?'),
        ({"method": {"name": "cloning"}, "data": {}}, "run.toml [data]: Object missing required field `path`"),
        ({"method": {"name": "cloning"}, "serve": {"keeps": 1}}, '[serve] has an unknown key "keeps"; did you mean "k'),
        (
            {"method": {"name": "cloning"}, "serve": {"temperature": 0}},
            "run.toml [serve]: exploration.temperature is 0",
        ),
    ],
)
def test_a_configuration_that_cannot_be(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        RunConfig.from_tables(tables, where="run.toml")
    assert message in str(refused.value)


def test_what_is_open_is_filled_in_from_the_training_part() -> None:
    config = RunConfig.from_tables({"method": {"name": "cloning"}, "encoder": {"name": "gru"}})
    log = written_log([[{"items": [2], "rewards": [reward], "context": [0.5]} for reward in (1.0, 3.0, 5.0)]])
    part = LogPart(interactions=log, first=np.array([0]), last=np.array([2]))
    resolved = config.resolve(part)
    # of rewards 1 and 3, the reward of 5 is held out
    assert resolved.encoder.settings == gru.Config(reward_edges=(3.0,), context_width=1)
    assert (resolved.method, resolved.train) == (config.method, config.train)
    assert resolved.resolve(LogPart.whole(log)) == resolved


def test_settings_are_named_by_where_they_were_set(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[method]\nname = "cloning"\n[train]\nselect = "ndcg@5"\n', encoding="utf-8")
    origin = RunConfig.from_toml(file, ["evaluate.k=[5]", "method.lr=0.5"]).origin
    assert origin.of_key("train", "select") == f"{file} [train]"
    assert origin.of_key("evaluate", "k") == "--set evaluate.k=[5]"
    assert origin.of_table("method") == f"{file} [method] with --set method.lr=0.5"
    assert origin.of_table("data") == f"{file} [data]"
    assert FULL.origin.of_key("train", "select") == "the configuration [train]"
