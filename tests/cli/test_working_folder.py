"""Commands started from another folder than the training: where the data set of a run is looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import Command

from slatewise.config.run import RunConfig
from slatewise.data import prepared
from slatewise.data.simulated import prepare_simulated
from slatewise.errors import InputError
from slatewise.serve import Options, open_recommender
from slatewise.serve.http.schema import RecommendRequest
from slatewise.training.loop import train


@dataclass(frozen=True)
class Project:
    data: Path
    run: Path
    elsewhere: Path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A run whose configuration names its data by a path from the project's folder; the test starts elsewhere."""
    folder, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(folder)
    prepare_simulated(Path("data/log"), users=20, items=12, events_per_user=6, topics=2)
    tables = {"data": {"path": "data/log"}, "method": {"name": "popularity"}, "evaluate": {"k": [10]}}
    train(RunConfig.from_tables(tables), Path("runs/counted"))
    monkeypatch.chdir(elsewhere)
    return Project(data=folder / "data" / "log", run=folder / "runs" / "counted", elsewhere=elsewhere)


def test_the_data_of_a_run_are_found_from_another_folder(project: Project, slatewise: Command) -> None:
    assert slatewise("evaluate", project.run, "--json").value["data"] == "simulated"
    out = project.elsewhere / "recs.csv"
    assert slatewise("recommend", project.run, "--all", "--k", 3, "--out", out).code == 0
    said = slatewise("train", "--from", project.run, "--out", "again", "--json")
    assert said.code == 0, said.err


def test_the_working_folder_comes_first(project: Project, slatewise: Command) -> None:
    prepare_simulated(project.elsewhere / "data" / "log", users=9, items=12, events_per_user=6, topics=2)
    said = slatewise("evaluate", project.run)
    assert said.code == 2
    assert "data/log: these are not the data that the run was trained on" in said.err


@pytest.mark.parametrize(
    "command", ["evaluate {run}", "ope {run}", "recommend {run} --all --out recs.csv", "serve {run} --port 0"]
)
def test_data_that_are_not_there_are_an_error_with_the_places(
    command: str, project: Project, slatewise: Command
) -> None:
    project.data.rename(project.data.with_name("renamed"))
    said = slatewise(*command.format(run=project.run).split())
    assert said.code == 2
    assert '[data] path = "data/log" is not the folder of a prepared data set' in said.err
    assert f"neither at {project.elsewhere}/data/log nor at {project.run}" in said.err
    assert "name the data set with --data DIR" in said.err
    assert ("--without-history" in said.err) == command.startswith("serve")


def slate_of(run: Path, user: str, options: Options) -> list[str]:
    recommender = open_recommender(run, options)
    try:
        return [item.item_id for item in recommender.recommend(RecommendRequest(user_id=user, k=5)).items]
    finally:
        recommender.close()


def test_a_service_starts_without_histories_only_on_purpose(project: Project, tmp_path: Path) -> None:
    def options(name: str, *, without_history: bool = False) -> Options:
        folder = tmp_path / name
        return Options(greedy=True, without_history=without_history, store=folder / "store", events=folder / "events")

    user = prepared.load(project.data).users.name(0)
    by_history = slate_of(project.run, user, options("with"))
    assert by_history != slate_of(project.run, "nobody", options("nobody")), "what the user has used is left out"
    project.data.rename(project.data.with_name("renamed"))
    with pytest.raises(InputError, match="known users would be served as unknown ones; --without-history starts so"):
        slate_of(project.run, user, options("refused"))
    without = [slate_of(project.run, each, options("without", without_history=True)) for each in (user, "nobody")]
    assert without[0] == without[1]
    with pytest.raises(InputError, match="--data and --without-history were given together"):
        open_recommender(project.run, Options(data=project.data, without_history=True))
