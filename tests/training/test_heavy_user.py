"""A log without a clock, of people with few events and one robot with many: people validate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slatewise import evaluation
from slatewise.config.run import RunConfig
from slatewise.data import Options, import_path
from slatewise.training.loop import train
from slatewise.training.run import lay_out

PEOPLE, ITEMS = 20, 12


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robot")
    rows = [f"person{person},item{(person + step) % ITEMS}" for person in range(PEOPLE) for step in range(6)]
    rows += [f"robot,item{step % ITEMS}" for step in range(400)]
    (folder / "log.csv").write_text("\n".join(["user,item", *rows]) + "\n", encoding="utf-8")
    return import_path(folder / "log.csv", folder / "data", Options(time=False)).path


@pytest.mark.parametrize("method", [{"name": "popularity"}, {"name": "cloning"}])
def test_people_with_six_events_validate(data: Path, method: dict[str, Any], tmp_path: Path) -> None:
    tables = {
        "data": {"path": str(data)},
        "method": method,
        "encoder": {"name": "gru", "width": 4, "item_width": 4},
        "train": {"epochs": 1, "select": "recall@5"},
        "evaluate": {"k": [5]},
    }
    config = RunConfig.from_tables(tables)
    run = lay_out(config, tmp_path / "run")
    for part in (run.split.valid, run.split.test):
        assert len(part.users()) == PEOPLE + 1
        summary = evaluation.relevance(part, config.evaluate).summary(config.evaluate)
        # the robot used every item before
        assert evaluation.users_of("recall@5", summary) == PEOPLE
    assert train(config, tmp_path / "run").value is not None
