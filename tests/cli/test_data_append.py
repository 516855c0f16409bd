"""slatewise data import A B … and slatewise data append."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import Command

from slatewise.data import Options, collecting, prepared
from slatewise.data.merging import merge
from slatewise.errors import InputError

MONDAY = "user,item,time,rating\nann,1,100,5\nann,2,200,3\nbob,1,150,4\n"
TUESDAY = "user,item,time,rating\nbob,9,300,2\ncid,2,400,1\nann,2,200,3\n"
TITLES = "item_id,title,genres\n9,Nine,x\n2,Two,x|y\n1,One,y\n7,Seven,y\n"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for name, text in (("monday.csv", MONDAY), ("tuesday.csv", TUESDAY), ("titles.csv", TITLES)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def names(path: Path) -> tuple[list[str], list[str]]:
    data = prepared.load(path)
    return data.users.names.to_pylist(), data.catalog.vocabulary.names.to_pylist()


def rows(path: Path) -> list[tuple[str, str, float]]:
    data = prepared.load(path)
    log = data.interactions
    starts = log.event_offsets[log.user_offsets]
    users = [data.users.name(user) for user in range(log.num_users) for _ in range(*starts[user : user + 2])]
    items = [data.catalog.vocabulary.name(int(item)) for item in log.item]
    return list(zip(users, items, log.reward.tolist(), strict=True))


BOTH = [("ann", "1", 5.0), ("ann", "2", 3.0), ("bob", "1", 4.0), ("bob", "9", 2.0), ("cid", "2", 1.0)]


def test_two_logs_become_one_data_set(logs: Path, slatewise: Command) -> None:
    said = slatewise("data", "import", logs / "monday.csv", logs / "tuesday.csv", "--out", logs / "both")
    assert said.code == 0, said.err
    assert "tuesday.csv: 2 events added, 1 new user, 1 new item." in said.out
    assert "tuesday.csv: 1 event was there already: left out." in said.out
    assert "set aside 1 row: events that another log had already" in said.out
    assert names(logs / "both") == (["ann", "bob", "cid"], ["1", "2", "9"])
    assert rows(logs / "both") == BOTH
    assert {path.name for path in logs.iterdir()} == {"monday.csv", "tuesday.csv", "titles.csv", "both"}


def test_what_is_appended_keeps_numbers_and_titles(logs: Path, slatewise: Command) -> None:
    data = logs / "data"
    assert slatewise("data", "import", logs / "monday.csv", "--items", logs / "titles.csv", "--out", data).code == 0
    assert names(data) == (["ann", "bob"], ["9", "2", "1", "7"])
    before = prepared.load(data).catalog
    (logs / "wednesday.csv").write_text("user,item,time,rating\ndan,3,900,4\n", encoding="utf-8")
    value = slatewise("data", "append", data, logs / "tuesday.csv", logs / "wednesday.csv", "--json").value
    assert [(merge["added"], merge["duplicates"], merge["new_items"]) for merge in value["merges"]] == [
        (2, 1, 0),
        (1, 0, 1),
    ]
    after = prepared.load(data).catalog
    assert names(data) == (["ann", "bob", "cid", "dan"], ["9", "2", "1", "7", "3"])
    assert rows(data) == [*BOTH, ("dan", "3", 4.0)]
    assert after.text == (*before.text, "")
    assert after.features[: before.num_rows].tolist() == before.features.tolist()
    assert value["merges"][1]["featureless_items"] == 1
    said = slatewise("data", "append", data, logs / "tuesday.csv")
    assert "tuesday.csv: 3 events were there already: left out." in said.out
    assert rows(data) == [*BOTH, ("dan", "3", 4.0)]


RECORDS = [
    {"record": "decision", "event_id": "e", "timestamp": 500_000_000, "user_id": "ann", "slate": ["7", "9"]},
    {"record": "outcome", "event_id": "e", "timestamp": 501_000_000, "item_id": "9", "type": "click"},
]


@pytest.mark.parametrize("ratings_first", [True, False])
def test_ratings_and_the_events_of_a_service(logs: Path, slatewise: Command, ratings_first: bool) -> None:
    events, both = logs / "events.jsonl", logs / "both"
    events.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    pair = [logs / "monday.csv", events] if ratings_first else [events, logs / "monday.csv"]
    assert slatewise("data", "import", *pair, "--out", both).code == 0
    assert prepared.load(both).kind == "impressions"
    expected = [("ann", "1", 5.0), ("ann", "2", 3.0), ("ann", "7", 0.0), ("ann", "9", 1.0), ("bob", "1", 4.0)]
    assert rows(both) == expected
    log = prepared.load(both).interactions
    assert sorted(np.diff(log.event_offsets).tolist()) == [1, 1, 1, 2]
    assert len(set(log.event_id.tolist())) == 4
    assert log.used.tolist() == [True, True, False, True, True]
    # both again: everything is there already
    for path in pair:
        value = slatewise("data", "append", both, path, "--json").value
        assert value["merges"][0]["added"] == 0
    assert rows(both) == expected


def test_a_service_s_events_are_appended_to_ratings(logs: Path, slatewise: Command) -> None:
    events, data = logs / "events.jsonl", logs / "data"
    events.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    (logs / "bad.csv").write_text("user,item,time,rating\nann,3,100,0\n", encoding="utf-8")
    assert slatewise("data", "import", logs / "bad.csv", "--out", data).code == 0
    assert prepared.load(data).kind == "uses"
    value = slatewise("data", "append", data, events, "--json").value
    assert (value["merges"][0]["added"], prepared.load(data).kind) == (1, "impressions")
    assert rows(data) == [("ann", "3", 0.0), ("ann", "7", 0.0), ("ann", "9", 1.0)]
    # a rating of 0 stays a use, a shown item of reward 0 is none
    assert prepared.load(data).interactions.used.tolist() == [True, False, True]
    assert value["account"]["slates"] == {"unused": 0, "single": 2, "several": 0}


def test_a_core_is_that_of_one_log(logs: Path, slatewise: Command) -> None:
    said = slatewise("data", "import", logs / "monday.csv", logs / "tuesday.csv", "--core", "2", "--out", logs / "both")
    assert (said.code, "--core with several logs or --items" in said.err) == (2, True)
    assert not (logs / "both").exists()


def test_items_of_another_data_set(logs: Path, slatewise: Command) -> None:
    titled, plain = logs / "titled", logs / "plain"
    slatewise("data", "import", logs / "monday.csv", "--items", logs / "titles.csv", "--out", titled)
    assert slatewise("data", "import", logs / "tuesday.csv", "--items", titled, "--out", plain).code == 0
    assert names(plain)[1] == ["9", "2", "1", "7"]
    assert prepared.load(plain).catalog.title(prepared.load(plain).catalog.vocabulary.number("7")) == "Seven"


@pytest.mark.parametrize(
    ("other", "arguments", "message"),
    [
        ("user,item,time,rating\nann,1,then,5\n", (), 'line 2, column "time": "then" is not a time'),
        (
            "user,item,when\nann,1,5\n",
            (),
            'monday.csv has times (column "time"), other.csv has none; its columns are user, item, when. Nothing was '
            "imported. Say which column it is, --column timestamp=NAME",
        ),
        (TUESDAY, ("--items", "nowhere"), "nowhere: there are no items; expected an item table, a prepared data set"),
        (
            TUESDAY,
            ("--items", "monday.csv"),
            "monday.csv: it is no item table; its columns are user, item, time, rating",
        ),
    ],
)
def test_what_cannot_be_appended_changes_nothing(
    other: str,
    arguments: tuple[str, ...],
    message: str,
    logs: Path,
    slatewise: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(logs)
    slatewise("data", "import", "monday.csv", "--out", "data/shop")
    before = {file.name: file.read_bytes() for file in (logs / "data" / "shop").iterdir()}
    (logs / "other.csv").write_text(other, encoding="utf-8")
    said = slatewise("data", "append", "data/shop", "other.csv", *arguments)
    assert said.code == 2
    assert message in said.err
    assert {file.name: file.read_bytes() for file in (logs / "data" / "shop").iterdir()} == before
    assert [path.name for path in (logs / "data").iterdir()] == ["shop"]


def test_a_data_set_that_is_not_there(logs: Path, slatewise: Command) -> None:
    shutil.rmtree(logs / "nowhere", ignore_errors=True)
    said = slatewise("data", "append", logs / "nowhere", logs / "monday.csv")
    assert (said.code, "nowhere" in said.err) == (2, True)


def test_a_data_set_that_another_command_changes_meanwhile_is_left_alone(
    logs: Path, slatewise: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = logs / "data"
    slatewise("data", "import", logs / "monday.csv", "--out", data)

    def merge_late(*arguments: Any, **named: Any) -> Any:
        merged = merge(*arguments, **named)
        monkeypatch.undo()
        assert slatewise("data", "append", data, logs / "tuesday.csv").code == 0
        return merged

    monkeypatch.setattr("slatewise.data.collecting.merge", merge_late)
    with pytest.raises(InputError, match=r"it has changed while the logs were read: another command writes to it\."):
        collecting.append_logs(data, [logs / "tuesday.csv"], Options(), progress=lambda what, done, total: None)
    assert rows(data) == BOTH


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_same_events_in_another_format_are_there_already(suffix: str, logs: Path, slatewise: Command) -> None:
    data, table = logs / "data", logs / f"table.{suffix}"
    slatewise("data", "import", logs / "monday.csv", logs / "tuesday.csv", "--out", logs / "both")
    slatewise("data", "export", logs / "both", "--out", table)
    slatewise("data", "import", logs / "monday.csv", "--out", data)
    value = slatewise("data", "append", data, table, "--json").value
    assert [(merge["added"], merge["duplicates"]) for merge in value["merges"]] == [(2, 3)]
    assert rows(data) == BOTH


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("item_id,title\n1,One\n2,Two\n1,Again\n", 'items.csv, line 4, column "item_id": "1" is here a second time'),
        ("item_id,title\n1,One\n,Nothing\n", 'items.csv, line 3, column "item_id": an item without a name'),
    ],
)
def test_an_item_table_with_a_bad_id_is_refused(table: str, message: str, logs: Path, slatewise: Command) -> None:
    (logs / "items.csv").write_text(table, encoding="utf-8")
    slatewise("data", "import", logs / "monday.csv", "--out", logs / "data")
    before = prepared.load(logs / "data").fingerprint
    for command in (
        ("import", logs / "monday.csv", "--out", logs / "new"),
        ("append", logs / "data", logs / "tuesday.csv"),
    ):
        said = slatewise("data", *command, "--items", logs / "items.csv")
        assert (said.code, message in said.err) == (2, True), said.err
    assert not (logs / "new").exists()
    assert prepared.load(logs / "data").fingerprint == before
