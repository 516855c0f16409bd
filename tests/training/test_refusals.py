"""Runs that cannot be: one message, exit code 2, and nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from slatewise import artifact
from slatewise import config as configs
from slatewise.cli import main
from slatewise.config.run import RunConfig
from slatewise.data import Options, import_path
from slatewise.errors import InputError, SlatewiseError
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.training import checkpoint
from slatewise.training.checkpoint import Progress
from slatewise.training.loop import train

TABLES: dict[str, Any] = {
    "method": {"name": "cloning"},
    "encoder": {"name": "gru", "width": 4, "item_width": 4},
    "train": {"epochs": 1, "batch_size": 8, "select": "ndcg@5", "checkpoint_every": 2},
    "evaluate": {"k": [5]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("refused") / "data"
    toy_dataset(path)
    return path


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(configs.dump_toml({**TABLES, "data": {"path": str(data)}}), encoding="utf-8")
    return path


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[object, str]:
    """Exit code and what stood on stderr; stdout must be empty where it failed."""
    monkeypatch.setattr(sys, "argv", ["slatewise", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0 or said.out == ""
    return ended.value.code, said.err


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("method.name=clonning", 'methods has no "clonning"; did you mean "cloning"? there are: cloning, '),
        ("encoder.name=gruu", 'encoders has no "gruu"; did you mean "gru"?'),
        ("method.name=no.such.module", '"no.such.module" cannot be imported'),
        ("method.name=.cloning", '".cloning" cannot be imported'),
        ("method.name=json.decoder", '"json.decoder" is a module without a Config, so it is none of the methods'),
        ("method.name=5", "[method] name is 5, which is no string. One of: cloning, "),
        ("method=5", "[method] is 5, which is no table"),
        ("encoder=gru", "[encoder] is 'gru', which is no table"),
        ("train=5", "[train] is 5, which is no table"),
        ("data=5", "[data] is 5, which is no table"),
        ("method.lrr=0.1", 'Error: --set method.lrr=0.1 has an unknown key "lrr"; did you mean "lr"? known keys: '),
        ("encoder.widht=8", 'Error: --set encoder.widht=8 has an unknown key "widht"; did you mean "width"?'),
        ("train.epoch=8", 'Error: --set train.epoch=8 has an unknown key "epoch"; did you mean "epochs"?'),
        ("evaluate.ks=[5]", 'Error: --set evaluate.ks=[5] has an unknown key "ks"'),
        ("data.folder=x", 'Error: --set data.folder=x has an unknown key "folder"'),
        (
            "trian.epochs=8",
            'unknown table "[trian]"; known: data, items, encoder, method, train, retrieval, evaluate, serve',
        ),
        ("method.lr=fast", 'Error: --set method.lr=fast: lr is "fast"; expected a number or a table.'),
        ("train.epochs=0", "[train] with --set train.epochs=0: epochs is 0; expected at least 1"),
        ("train.burn_in=-1", "[train] with --set train.burn_in=-1: burn_in is -1; expected 0 or more"),
        ("encoder.width=0", "[encoder] with --set encoder.width=0: width 0 and item_width 4 must be at least 1"),
        ("encoder.dropout=1.0", "[encoder] with --set encoder.dropout=1.0: dropout is 1.0; expected a share in [0, 1)"),
        ("evaluate.k=[]", "[evaluate] with --set evaluate.k=[]: k is []; expected list lengths of at least 1"),
        (
            "evaluate.k=[5,21]",
            "Error: --set evaluate.k=[5,21]: k = 21 is larger than the catalog of 20 items. Choose shorter lists: "
            "--set evaluate.k=[5].",
        ),
        (
            "train.select=ndcg@10",
            'Error: --set train.select=ndcg@10: select = "ndcg@10" is not a validation metric. One of: recall@5, ',
        ),
        (
            "data.split=by_day",
            'Error: --set data.split=by_day: split is "by_day"; expected leave_one_out, first_share, random, by_time '
            "or by_user.",
        ),
        ("data.path=/no/where", "/no/where: there is no prepared data set: manifest.json is missing. Check the path."),
        ("method.temperature=0", "temperature is 0.0; expected a number above 0"),
        ("epochs", '--set epochs: expected KEY=VALUE, for example "method.gamma=0.9"'),
        ("=3", "--set =3: expected KEY=VALUE"),
        ("method.name.first=3", '--set method.name.first=3: "name" is a value, not a table'),
    ],
)
def test_a_bad_setting_by_its_words(
    assignment: str,
    message: str,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, said = command(monkeypatch, capsys, config, "--out", tmp_path / "run", "--set", assignment)
    assert (code, said.startswith("Error: ")) == (2, True), said
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_fit_the_method(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = command(
        monkeypatch, capsys, config, "--out", tmp_path / "run", "--method", "reinforce", "--set", "evaluate.k=[5]"
    )
    assert said[0] == 0, "sixteen of twenty items fit"
    said = command(monkeypatch, capsys, config, "--out", tmp_path / "none", "--method", "reinforces")
    assert said[0] == 2
    assert 'did you mean "reinforce"?' in said[1]


@pytest.mark.parametrize("table", ["data", "method"])
def test_a_missing_table(table: str, data: Path, tmp_path: Path) -> None:
    tables = {name: value for name, value in {**TABLES, "data": {"path": str(data)}}.items() if name != table}
    with pytest.raises(InputError, match=rf"the configuration: the table \[{table}\] is missing"):
        train(RunConfig.from_tables(tables), tmp_path / "run")


def test_a_method_without_a_name(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\[method\] has no name\. One of: cloning, "):
        train(RunConfig.from_tables({**TABLES, "data": {"path": str(data)}, "method": {}}), tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "message"), [("[method", "no TOML"), (b"\xff\xfe", "no TOML")], ids=["broken", "binary"]
)
def test_a_configuration_that_is_none(
    text: str | bytes,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    code, said = command(monkeypatch, capsys, path)
    assert code == 2
    assert f"{path}: {message}" in said
    code, said = command(monkeypatch, capsys, tmp_path)
    assert (code, f"{tmp_path}: it cannot be read: Is a directory" in said) == (2, True)


def test_a_run_folder_is_not_overwritten_by_itself(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert command(monkeypatch, capsys, config, "--out", run)[0] == 0
    code, said = command(monkeypatch, capsys, config, "--out", run)
    assert (code, "a run is here already. --resume goes on with it" in said) == (2, True)
    code, said = command(monkeypatch, capsys, config, "--out", run, "--resume", "--set", "method.lr=0.5")
    assert (code, "the interrupted run had other settings or other data. Resume with the same ones" in said) == (
        2,
        True,
    )
    (run / "behaviour").mkdir()
    (run / "evaluation.json").write_text("{}", encoding="utf-8")
    code, said = command(monkeypatch, capsys, config, "--out", run, "--overwrite", "--set", "method.lr=0.5")
    assert code == 0
    # nothing of the old run may be taken for the new one's
    assert sorted(path.name for path in run.iterdir()) == [
        "artifact",
        "checkpoint",
        "config.toml",
        "metrics.jsonl",
        "training.json",
    ]
    assert configs.to_table(RunConfig.from_toml(run / "artifact" / "config.toml").method.settings)["lr"] == 0.5


def test_the_run_folder_is_a_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="the run folder is a file"):
        train(RunConfig.from_tables({**TABLES, "data": {"path": str(data)}}), tmp_path / "run")
    assert (tmp_path / "run").read_text("utf-8") == "mine"


def test_a_checkpoint_that_is_none(data: Path, tmp_path: Path) -> None:
    tables = {**TABLES, "data": {"path": str(data)}}
    train(RunConfig.from_tables(tables), tmp_path / "run")
    (tmp_path / "run" / "checkpoint").write_bytes(b"\x00" * 20)
    with pytest.raises(InputError, match=r"checkpoint: no checkpoint: .*Start anew with --overwrite"):
        train(RunConfig.from_tables(tables), tmp_path / "run", resume=True)


def test_nothing_to_train_on(tmp_path: Path) -> None:
    toy_dataset(tmp_path / "data", written_log([[]]), catalog=toy_catalog(5))
    tables = {**TABLES, "data": {"path": str(tmp_path / "data")}}
    with pytest.raises(InputError, match="nothing to train on: the training part of the split is empty"):
        train(RunConfig.from_tables(tables), tmp_path / "run")


@pytest.mark.parametrize("correction", ["none", "top_k"])
def test_a_log_in_which_nothing_was_ever_rewarded(correction: str, tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + step) % 30},{1000 * user + step},0,0.5" for user in range(20) for step in range(8)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["user_id,item_id,timestamp,reward,propensity", *rows]), encoding="utf-8")
    import_path(log, tmp_path / "data", Options())
    method = {"name": "reinforce", "correction": correction}
    tables = {**TABLES, "data": {"path": str(tmp_path / "data")}, "method": method}
    with pytest.raises(InputError, match="nothing that the training part shows was picked or rewarded"):
        train(RunConfig.from_tables(tables), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("table", "value", "message"),
    [
        ("train", {"select": "ndcg@10"}, '[train]: select = "ndcg@10" is not a validation metric. One of: recall@5, '),
        ("train", {"select": "liked_ndcg@5"}, '[train]: select = "liked_ndcg@5" is not a validation metric. One of: '),
        ("evaluate", {"k": [5, 21]}, "[evaluate]: k = 21 is larger than the catalog of 20 items."),
        ("data", {"split": "first_share", "valid_share": 0.9}, "[data]: valid_share 0.9 + test_share 0.2 must stay"),
        ("method", {"name": "reinforce", "slate_size": 50}, "[method]: slate_size is 50, the catalog has 20"),
    ],
)
def test_the_file_that_was_given_is_named(
    table: str,
    value: dict[str, Any],
    message: str,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tables: dict[str, Any] = {**TABLES, "data": {"path": str(data)}}
    tables[table] = {**tables[table], **value}
    mine = tmp_path / "mine.toml"
    mine.write_text(configs.dump_toml(tables), encoding="utf-8")
    code, said = command(monkeypatch, capsys, mine, "--out", tmp_path / "run")
    assert (code, f"Error: {mine} {message}" in said) == (2, True), said


@pytest.mark.parametrize(("evaluate", "select"), [({"k": [5]}, "ndcg@5"), ({"k": [3, 7]}, "ndcg@3"), ({}, "ndcg@10")])
def test_the_default_metric_follows_the_first_list_length(
    evaluate: dict[str, Any], select: str, data: Path, tmp_path: Path
) -> None:
    tables = {"data": {"path": str(data)}, "method": {"name": "popularity"}, "evaluate": evaluate}
    assert train(RunConfig.from_tables(tables), tmp_path / "run").select == select
    assert RunConfig.from_toml(tmp_path / "run" / "config.toml").train.select == select


def test_a_selecting_figure_without_a_value(data: Path, tmp_path: Path) -> None:
    tables = {**TABLES, "data": {"path": str(data)}, "evaluate": {"k": [5], "liked_at_least": 9.0}}
    tables["train"] = {**TABLES["train"], "select": "liked_ndcg@5"}
    with pytest.raises(InputError, match=r'select = "liked_ndcg@5" has no value .*: of 24 users, 24 liked nothing'):
        train(RunConfig.from_tables(tables), tmp_path / "run")


def test_a_selecting_metric_without_a_value_is_refused_before_training(tmp_path: Path) -> None:
    again = [[{"items": [2 + step % 4]} for step in range(8)] for _ in range(3)]
    toy_dataset(tmp_path / "data", written_log(again), catalog=toy_catalog(10))
    tables = {**TABLES, "data": {"path": str(tmp_path / "data")}}
    with pytest.raises(InputError, match="of 3 users, 3 used only what they had used before"):
        train(RunConfig.from_tables(tables), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # where repeats are ranked, they are relevant
    tables["evaluate"] = {**TABLES["evaluate"], "exclude_seen": False}
    assert train(RunConfig.from_tables(tables), tmp_path / "run").value is not None


def test_without_a_validation_part_all_epochs_train_and_the_last_weights_are_kept(data: Path, tmp_path: Path) -> None:
    split = {"path": str(data), "split": "first_share", "valid_share": 0.0}
    tables = {**TABLES, "data": split, "method": {"name": "cloning"}}
    tables["train"] = {**TABLES["train"], "epochs": 4, "patience": 1}
    result = train(RunConfig.from_tables(tables), tmp_path / "run")
    assert (result.epochs, result.best_epoch, result.value) == (4, 3, None)
    trained = checkpoint.read(tmp_path / "run")
    assert trained is not None
    for name, weights in artifact.load(tmp_path / "run" / "artifact").policy.state_dict().items():
        assert torch.equal(weights, trained.learner[f"policy.{name}"]), name
    manifest = json.loads((tmp_path / "run" / "artifact" / "manifest.json").read_text("utf-8"))
    assert manifest["metrics"] == {}


def test_a_loss_that_is_not_finite_names_step_and_way_out(tmp_path: Path) -> None:
    users = [[{"items": [2 + step], "rewards": [3e38]} for step in range(8)] for _ in range(3)]
    toy_dataset(tmp_path / "data", written_log(users), catalog=toy_catalog(10))
    tables = {**TABLES, "data": {"path": str(tmp_path / "data")}, "method": {"name": "reinforce", "slate_size": 2}}
    with pytest.raises(SlatewiseError, match=r"run, step 1: the loss is inf: lower method\.lr") as failed:
        train(RunConfig.from_tables(tables), tmp_path / "run")
    assert not isinstance(failed.value, InputError), "exit code 1: the input was fine"


def test_patience_ends_a_run_that_gets_no_better(data: Path, tmp_path: Path) -> None:
    tables = {**TABLES, "data": {"path": str(data)}, "method": {"name": "cloning", "lr": 1e-12}}
    tables["train"] = {**TABLES["train"], "epochs": 9, "patience": 2}
    result = train(RunConfig.from_tables(tables), tmp_path / "run")
    assert (result.epochs, result.best_epoch) == (3, 0)


def test_progress_is_told_step_by_step(data: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def on_step(progress: Progress, total: int) -> None:
        told.append((progress.step, total))

    result = train(RunConfig.from_tables({**TABLES, "data": {"path": str(data)}}), tmp_path / "run", on_step=on_step)
    assert told == [(1, 3), (2, 3), (3, 3)]  # 24 users, eight a batch
    assert (result.steps, result.epochs, result.best_epoch) == (3, 1, 0)
    manifest = json.loads((tmp_path / "run" / "artifact" / "manifest.json").read_text("utf-8"))
    assert manifest["source"]["simulated"] is True
    assert manifest["metrics"] == {"ndcg@5": result.value}
