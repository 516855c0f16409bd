"""Training that starts from a finished run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from slatewise import artifact
from slatewise.config.run import RunConfig
from slatewise.data import prepared
from slatewise.data.manifest import Provenance
from slatewise.errors import InputError
from slatewise.log import FIRST_ITEM, Catalog, Interactions, Vocabulary
from slatewise.testing import toy_catalog, toy_dataset, written_log
from slatewise.training import checkpoint
from slatewise.training.loop import train
from slatewise.training.run import lay_out

SETTINGS: dict[str, dict[str, Any]] = {
    "popularity": {},
    "item_knn": {},
    "cloning": {},
    "reinforce": {"reward_at_least": 4.0},
    "wolpertinger": {},
    "tpgr": {},
}


def tables(data: Path, method: str, **train_settings: Any) -> dict[str, Any]:
    encoder = (
        {"encoder": {"name": "gru", "width": 8, "item_width": 4}} if method not in ("popularity", "item_knn") else {}
    )
    return {
        "data": {"path": str(data)},
        "method": {"name": method, **SETTINGS[method]},
        "train": {"epochs": 2, "batch_size": 8, "select": "ndcg@5", **train_settings},
        "evaluate": {"k": [5]},
        **encoder,
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set and a run of each method on it."""
    folder = tmp_path_factory.mktemp("runs")
    toy_dataset(folder / "data")
    for method in SETTINGS:
        train(RunConfig.from_tables(tables(folder / "data", method)), folder / method)
    return folder


def other_items(log: Interactions) -> tuple[Interactions, Catalog]:
    """The toy's log with its items in reverse order, one new item before them, and without the last one."""
    names = toy_catalog().vocabulary.names.to_pylist()
    now = ["new", *reversed(names[:-1]), "newer", "newest"]
    number = {name: place for place, name in enumerate(now, start=FIRST_ITEM)}
    last = FIRST_ITEM + len(names) - 1
    item = np.array([number["new" if old == last else names[old - FIRST_ITEM]] for old in log.item], np.int32)
    catalog = toy_catalog(len(now))
    return replace(log, item=item), replace(catalog, vocabulary=Vocabulary(names=pa.array(now, pa.string())))


@pytest.mark.parametrize("method", SETTINGS)
def test_the_same_items_take_the_whole_state(method: str, runs: Path, tmp_path: Path) -> None:
    config = RunConfig.from_tables(tables(runs / "data", method, start_from=str(runs / method), seed=7))
    run = lay_out(config, tmp_path / "run")
    before = checkpoint.read_state(runs / method)
    assert before is not None
    state = run.learner.state_dict()
    kept = {f"policy.{name}": value for name, value in before.best.items()}
    for name, value in before.learner.items():
        if name != "generator":
            assert torch.equal(state[name], kept.get(name, value)), name
    assert run.notes[0].startswith(f"Started from {runs / method} (policy ")


@pytest.mark.parametrize("method", ["cloning", "reinforce", "wolpertinger"])
def test_items_are_matched_by_name_and_new_ones_start_afresh(method: str, runs: Path, tmp_path: Path) -> None:
    log, catalog = other_items(toy_dataset(tmp_path / "old").interactions)
    toy_dataset(tmp_path / "data", log, catalog=catalog)
    cold = lay_out(RunConfig.from_tables(tables(tmp_path / "data", method)), tmp_path / "run")
    warm_tables = tables(tmp_path / "data", method, start_from=str(runs / method))
    warm = lay_out(RunConfig.from_tables(warm_tables), tmp_path / "run")
    old = artifact.load(runs / method / "artifact")
    fresh, now, before = (
        dict(policy.state_dict()) for policy in (cold.learner.policy, warm.learner.policy, old.policy)
    )
    item_tables = [name for name, value in before.items() if value.ndim and len(value) == old.catalog.num_rows]
    assert item_tables
    for name in item_tables:
        for number in range(FIRST_ITEM, catalog.num_rows):
            item = catalog.vocabulary.name(number)
            known = old.catalog.vocabulary.number(item)
            expected = before[name][known] if known >= FIRST_ITEM else fresh[name][number]
            assert torch.equal(now[name][number], expected), (name, item)
        assert torch.equal(now[name][:FIRST_ITEM], before[name][:FIRST_ITEM])
    for name in before.keys() - {*item_tables}:
        if before[name].ndim and len(before[name]) != old.catalog.num_items:
            assert torch.equal(now[name], before[name]), name
    assert "3 of 22 items are new: they start with fresh vectors." in warm.notes
    assert "1 item of that run not in the log any more: what it knew of them is left behind." in warm.notes
    # and it learns on
    result = train(RunConfig.from_tables(warm_tables), tmp_path / "run")
    assert result.notes[:1] == warm.notes[:1]


@pytest.mark.parametrize("more", [0, 9])
def test_a_tree_keeps_its_items_at_their_leaves_and_finds_room_for_new_ones(
    more: int, runs: Path, tmp_path: Path
) -> None:
    log, catalog = other_items(toy_dataset(tmp_path / "old").interactions)
    names = [*catalog.vocabulary.names.to_pylist(), *(f"more {number}" for number in range(more))]
    catalog = replace(toy_catalog(len(names)), vocabulary=Vocabulary(names=pa.array(names, pa.string())))
    toy_dataset(tmp_path / "data", log, catalog=catalog)
    settings = tables(tmp_path / "data", "tpgr", start_from=str(runs / "tpgr"))
    warm = lay_out(RunConfig.from_tables(settings), tmp_path / "run")
    old = artifact.load(runs / "tpgr" / "artifact")
    before, now = old.policy.state_dict(), warm.learner.policy.state_dict()
    arity, new_arity = (round(len(state["tree.leaf_item"]) ** 0.5) for state in (before, now))
    assert (arity, new_arity) == (5, 6 if more else 5)
    held = now["tree.leaf_item"][now["tree.leaf_item"] > 0]
    assert sorted(held.tolist()) == list(range(FIRST_ITEM, catalog.num_rows)), "every item has one leaf"
    for leaf, item in enumerate(before["tree.leaf_item"].tolist()):
        name = old.catalog.vocabulary.name(item) if item else None
        if name is not None and name in names:
            place = leaf // arity * new_arity + leaf % arity
            assert now["tree.leaf_item"][place] == catalog.vocabulary.number(name)
            node = now["tree.nodes.1.weight"].view(new_arity, new_arity, -1)[leaf // arity, leaf % arity]
            assert torch.equal(node, before["tree.nodes.1.weight"].view(arity, arity, -1)[leaf // arity, leaf % arity])
    result = train(RunConfig.from_tables(settings), tmp_path / "run")
    assert f"{3 + more} of {22 + more} items are new: they start with fresh vectors." in result.notes


def counted(run: Path) -> Tensor:
    count: Tensor = artifact.load(run / "artifact").policy.state_dict()["count"]
    return count


def test_counts_of_a_new_day_are_added(tmp_path: Path) -> None:
    hour, days = 3_600_000_000, (0, 0, 0, 0, 1, 1, 1)
    users = [
        [{"items": [FIRST_ITEM + (user + step) % 5], "time": (day * 24 + step) * hour} for step, day in enumerate(days)]
        for user in range(4)
    ]
    first = written_log([user[:4] for user in users])
    toy_dataset(tmp_path / "monday", first, catalog=toy_catalog(5))
    toy_dataset(tmp_path / "tuesday", written_log(users), catalog=toy_catalog(5))
    everything: dict[str, Any] = {"split": "first_share", "valid_share": 0.0, "test_share": 0.0}
    settings = {**tables(tmp_path / "monday", "popularity"), "evaluate": {"k": [3]}}
    settings["train"] = {"select": "ndcg@3"}
    for name, more, start in (
        ("monday", {}, {}),
        ("tuesday", {}, {}),
        ("tuesday", {"learn_from": "1970-01-02"}, {"start_from": str(tmp_path / "runs" / "monday")}),
    ):
        settings["data"] = {"path": str(tmp_path / name), **everything, **more}
        settings["train"] = {"select": "ndcg@3", **start}
        train(RunConfig.from_tables(settings), tmp_path / "runs" / (name + "-update" * bool(start)))
    runs = tmp_path / "runs"
    assert counted(runs / "monday").sum() == 16
    assert counted(runs / "tuesday").sum() == 28
    assert torch.equal(counted(runs / "tuesday-update"), counted(runs / "tuesday"))


DAY = 86_400_000_000
DAYS = {
    # on Monday the last two events of a user are held out, on Tuesday they are what the user did before
    "ann": [(0, 2), (0, 3), (0, 4), (0, 5), (1, 6), (1, 2), (1, 3)],
    "bob": [(0, 3), (0, 3), (0, 6), (0, 4)],
    "cid": [(1, 5), (1, 2), (1, 6), (1, 4)],
    "dan": [(0, 4), (0, 2), (0, 5), (1, 2), (1, 3), (1, 3)],
    "eve": [(0, 2), (0, 6), (0, 4), (1, 3)],
}


def write_days(path: Path, days: int, users: Sequence[str]) -> None:
    """The first days of some users, as a prepared data set."""
    events = [
        [
            {"items": [item], "time": day * DAY + step, "id": 100 * user + step}
            for step, (day, item) in enumerate(DAYS[name])
            if day < days
        ]
        for user, name in enumerate(users)
    ]
    prepared.write(
        path,
        name=path.name,
        interactions=written_log(events),
        catalog=toy_catalog(5),
        users=Vocabulary(names=pa.array(users, pa.string()), first=0, unknown=-1),
        policies=prepared.load(toy_dataset(path.with_name("toy")).path).policies,
        kind="uses",
        provenance=Provenance(),
    )


@pytest.mark.parametrize("split", ["leave_one_out", "first_share"])
def test_a_user_who_comes_again_is_one_user(split: str, tmp_path: Path) -> None:
    write_days(tmp_path / "monday", 1, ["ann", "bob", "dan", "eve"])
    # users have other numbers, and the catalog has the same items
    write_days(tmp_path / "tuesday", 2, ["eve", "cid", "dan", "ann", "bob"])
    policies = {}
    for name, data, train_settings in (
        ("first", {"path": str(tmp_path / "monday")}, {}),
        ("whole", {"path": str(tmp_path / "tuesday")}, {}),
        (
            "update",
            {"path": str(tmp_path / "tuesday"), "learn_from": "1970-01-02"},
            {"start_from": str(tmp_path / "runs" / "first")},
        ),
    ):
        settings = {**tables(tmp_path, "item_knn", **train_settings), "evaluate": {"k": [3]}}
        settings["train"] |= {"select": "coverage@3", "batch_size": 2}
        settings["data"] = {"split": split, **data}
        train(RunConfig.from_tables(settings), tmp_path / "runs" / name)
        policies[name] = artifact.load(tmp_path / "runs" / name / "artifact").policy.state_dict()
    assert not torch.equal(policies["first"]["count"], policies["whole"]["count"])
    for name in ("count", "similar", "similarity"):
        assert torch.equal(policies["update"][name], policies["whole"][name]), name


def test_a_run_of_before_users_were_known_is_refused(runs: Path, tmp_path: Path) -> None:
    learner = lay_out(RunConfig.from_tables(tables(runs / "data", "item_knn")), tmp_path / "run").learner
    before = {"size": torch.tensor([1]), "item": torch.tensor([2]), "count": torch.zeros(5)}
    with pytest.raises(InputError, match="trained by an earlier version, which did not keep whose uses it counted"):
        learner.load_state_dict(before)


def test_pairs_of_items_find_their_new_numbers(runs: Path, tmp_path: Path) -> None:
    log, catalog = other_items(toy_dataset(tmp_path / "old").interactions)
    toy_dataset(tmp_path / "data", log, catalog=catalog)
    config = RunConfig.from_tables(tables(tmp_path / "data", "item_knn", start_from=str(runs / "item_knn")))
    warm = lay_out(config, tmp_path / "run").learner.policy
    old = artifact.load(runs / "item_knn" / "artifact")
    state, before = warm.state_dict(), old.policy.state_dict()

    def neighbours(state: dict[str, Tensor], catalog: Catalog, item: str) -> dict[str, float]:
        row = catalog.vocabulary.number(item)
        pairs = zip(state["similar"][row].tolist(), state["similarity"][row].tolist(), strict=True)
        return {catalog.vocabulary.name(other): value for other, value in pairs if other >= FIRST_ITEM and value > 0}

    gone = old.catalog.vocabulary.name(old.catalog.num_rows - 1)
    for item in old.catalog.vocabulary.names.to_pylist()[:-1]:
        expected = neighbours(before, old.catalog, item)
        expected.pop(gone, None)
        assert neighbours(state, catalog, item) == pytest.approx(expected)


def test_runs_that_nothing_can_start_from(runs: Path, tmp_path: Path) -> None:
    def error(settings: dict[str, Any]) -> str:
        with pytest.raises(InputError) as refused:
            lay_out(RunConfig.from_tables(settings), tmp_path / "run")
        return str(refused.value)

    data = runs / "data"
    assert "no finished run here. --from names a run folder" in error(tables(data, "cloning", start_from=str(tmp_path)))
    other = error(tables(data, "cloning", start_from=str(runs / "reinforce")))
    assert "it is a run of reinforce, not of cloning. Start from a run of the same method." in other
    wide = tables(data, "cloning", start_from=str(runs / "cloning"))
    wide["encoder"]["width"] = 9
    assert "its weights do not fit the new settings" in error(wide)
    narrow = tables(data, "tpgr", start_from=str(runs / "tpgr"))
    narrow["method"]["tree"] = {"depth": 3}
    assert "its weights do not fit the new settings" in error(narrow)


def test_the_command_goes_on_with_the_settings_of_the_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from slatewise.cli import main

    def command(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["slatewise", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return ended.value.code, written.out, written.err

    out = tmp_path / "next"
    code, said, _ = command("--from", runs / "cloning", "--set", "train.epochs=1", "--out", out, "--json")
    assert code == 0
    assert json.loads(said)["notes"][0].startswith(f"Started from {runs / 'cloning'}")
    config = RunConfig.from_toml(out / "config.toml")
    assert (config.train.start_from, config.train.epochs) == (str(runs / "cloning"), 1)
    assert config.encoder == RunConfig.from_toml(runs / "cloning" / "config.toml").encoder
    assert command()[0::2] == (
        2,
        "Error: CONFIG is missing. --data DIR chooses settings for a log; or name a TOML file, or --from RUN.\n",
    )
    code, _, said = command("--from", runs / "cloning")
    assert (code, said) == (2, "Error: the new run needs a folder of its own. Name it with --out DIR.\n")
