"""Logs of one data set whose columns differ: data import A B … and data append."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import Command
from tests.cli.test_data_append import rows

from slatewise.data import prepared

MONDAY = "viewer,film,seen_at,stars\nann,1,100,5\nbob,2,200,3\n"
ASSIGNED = ("--column", "user_id=viewer,item_id=film,timestamp=seen_at,reward=stars")
BOTH = [("ann", "1", 5.0), ("ann", "2", 4.0), ("bob", "2", 3.0)]


def write(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("tuesday", "note"),
    [
        ("viewer,film,seen_at,stars\nann,2,300,4\n", None),
        (
            "user_id,item_id,timestamp,reward\nann,2,300,4\n",
            'There is no column "film": item_id is read from "item_id".',
        ),
        ("stars,seen_at,item,viewer\n4,300,2,ann\n", 'There is no column "film": item_id is read from "item".'),
    ],
)
def test_assignments_hold_where_the_new_log_has_the_columns(
    tuesday: str, note: str | None, tmp_path: Path, slatewise: Command
) -> None:
    write(tmp_path, monday=MONDAY, tuesday=tuesday)
    data, both = tmp_path / "data", tmp_path / "both"
    assert slatewise("data", "import", tmp_path / "monday.csv", "--out", data, *ASSIGNED).code == 0
    said = slatewise("data", "append", data, tmp_path / "tuesday.csv")
    assert said.code == 0, said.err
    assert "tuesday.csv: 1 event added, 0 new users, 0 new items." in said.out
    assert ("There is no column" in said.out) is (note is not None)
    assert note is None or f"tuesday.csv: {note}" in said.out
    assert rows(data) == BOTH
    logs = (tmp_path / "monday.csv", tmp_path / "tuesday.csv")
    said = slatewise("data", "import", *logs, "--out", both, *ASSIGNED)
    assert said.code == 0, said.err
    assert note is None or f"tuesday.csv: {note}" in said.out
    assert rows(both) == BOTH


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_exported_table_is_appended_to_what_it_was_exported_from(
    suffix: str, tmp_path: Path, slatewise: Command
) -> None:
    write(tmp_path, monday=MONDAY)
    data, table = tmp_path / "data", tmp_path / f"table.{suffix}"
    slatewise("data", "import", tmp_path / "monday.csv", "--out", data, *ASSIGNED)
    slatewise("data", "export", data, "--out", table)
    before = rows(data)
    value = slatewise("data", "append", data, table, "--json").value
    assert [(merge["added"], merge["duplicates"]) for merge in value["merges"]] == [(0, 2)]
    assert rows(data) == before


def test_exported_clicks_stay_shown_items(tmp_path: Path, slatewise: Command) -> None:
    write(tmp_path, clicks="user,item,time,click\nann,1,100,1\nann,2,200,0\n")
    data, table = tmp_path / "data", tmp_path / "table.csv"
    slatewise("data", "import", tmp_path / "clicks.csv", "--out", data)
    slatewise("data", "export", data, "--out", table)
    assert slatewise("data", "import", table, "--out", tmp_path / "again").code == 0
    again = prepared.load(tmp_path / "again")
    assert (again.kind, again.interactions.used.tolist()) == ("impressions", [True, False])
    assert slatewise("data", "append", data, table, "--json").value["merges"][0]["duplicates"] == 2


def test_an_assigned_column_must_be_in_one_of_the_logs(tmp_path: Path, slatewise: Command) -> None:
    write(tmp_path, monday="user,item,time\nann,1,100\n", tuesday="user,item,time\nann,2,300\n")
    logs = (tmp_path / "monday.csv", tmp_path / "tuesday.csv")
    for command in (("import", *logs, "--out", tmp_path / "data"),):
        said = slatewise("data", *command, "--column", "reward=stars")
        assert (said.code, 'column "reward": no column "stars" in monday.csv and tuesday.csv' in said.err) == (2, True)
    assert not (tmp_path / "data").exists()
    slatewise("data", "import", logs[0], "--out", tmp_path / "data")
    said = slatewise("data", "append", tmp_path / "data", logs[1], "--column", "reward=stars")
    assert (said.code, 'column "reward": no such column' in said.err) == (2, True)


RATED = "user,item,time,rating\nann,1,100,5\nbob,2,200,3\n"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            "user,item,time\nann,2,300\n",
            'rated.csv has rewards (column "rating"), other.csv has none; its columns are user, item, time.',
        ),
        (
            "user,item,rating\nann,2,4\n",
            'rated.csv has times (column "time"), other.csv has none; its columns are user, item, rating.',
        ),
        (
            "user,item,time,rating,context_age\nann,2,300,4,30\n",
            "different columns of context: rated.csv has none, other.csv has context_age.",
        ),
    ],
)
def test_a_column_that_only_one_log_has_is_named_with_both_files(
    other: str, message: str, tmp_path: Path, slatewise: Command
) -> None:
    write(tmp_path, rated=RATED, other=other)
    rated, second, data = tmp_path / "rated.csv", tmp_path / "other.csv", tmp_path / "data"
    said = slatewise("data", "import", rated, second, "--out", data)
    assert (said.code, message in said.err) == (2, True), said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.csv", "rated.csv"]
    slatewise("data", "import", rated, "--out", data)
    before = prepared.load(data).fingerprint
    said = slatewise("data", "append", data, second)
    assert (said.code, message in said.err) == (2, True), said.err
    assert prepared.load(data).fingerprint == before


def test_rows_that_count_one_agree_with_rewards_of_one(tmp_path: Path, slatewise: Command) -> None:
    write(tmp_path, plays="user,item,time\nann,1,100\n", more="user,item,time,reward\nann,2,300,1\n")
    said = slatewise("data", "import", tmp_path / "plays.csv", tmp_path / "more.csv", "--out", tmp_path / "data")
    assert said.code == 0, said.err
    assert rows(tmp_path / "data") == [("ann", "1", 1.0), ("ann", "2", 1.0)]


def test_shown_items_beside_ratings_are_noted(tmp_path: Path, slatewise: Command) -> None:
    write(tmp_path, rated="user,item,time,rating\nann,1,100,0\nbob,2,200,3\n")
    write(tmp_path, shown="user,item,time,rating,event_id,propensity\nann,3,300,0,e,.5\n")
    rated, shown, data = tmp_path / "rated.csv", tmp_path / "shown.csv", tmp_path / "data"
    said = slatewise("data", "import", rated, shown, "--out", data)
    assert said.code == 0, said.err
    assert (
        "shown.csv: shown.csv holds shown items, used or not, rated.csv only used ones: every row of the latter is a "
        "use, also the 1 with a reward of 0 or less (--kind impressions)." in said.out
    )
    assert 'rated.csv has no column for "propensity", as shown.csv has: propensities are not known there.' in said.out
    assert prepared.load(data).interactions.used.tolist() == [True, False, True]
    write(tmp_path, more="user,item,time,rating\nann,4,400,0\n")
    assert slatewise("data", "append", data, tmp_path / "more.csv", "--kind", "impressions").code == 0
    assert prepared.load(data).interactions.used.tolist() == [True, False, False, True]


def test_names_of_other_types_are_one_name(tmp_path: Path, slatewise: Command) -> None:
    rewards = {"user": ["7"], "rating": [1.0]}
    tables = {
        "text": {"item": pa.array(["1"]), "time": [100], **rewards},
        "whole": {"item": pa.array([1]), "time": [200], **rewards},
        "float": {"item": pa.array([1.0]), "time": [300], **rewards},
    }
    for name, table in tables.items():
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    (tmp_path / "lines.jsonl").write_text(
        '{"user": 7, "item": 1.0, "time": 400, "rating": 1}\n{"user": 7.0, "item": "1", "time": 500, "rating": 1}\n'
    )
    paths = [*(tmp_path / f"{name}.parquet" for name in tables), tmp_path / "lines.jsonl"]
    said = slatewise("data", "import", *paths, "--out", tmp_path / "data")
    assert said.code == 0, said.err
    assert rows(tmp_path / "data") == [("7", "1", 1.0)] * 5


def test_whole_numbers_among_names_of_events_are_the_same_events(tmp_path: Path, slatewise: Command) -> None:
    columns = "user,item,time,event_id,position,click\n"
    write(tmp_path, monday=f"{columns}ann,1,100,17,0,1\nann,2,200,e,0,0\n", again=f"{columns}ann,1,100,17,0,1\n")
    data = tmp_path / "data"
    slatewise("data", "import", tmp_path / "monday.csv", "--out", data)
    value = slatewise("data", "append", data, tmp_path / "again.csv", "--json").value
    assert (value["merges"][0]["added"], value["merges"][0]["duplicates"]) == (0, 1)


@pytest.mark.parametrize("titles", [True, False])
def test_a_recorded_catalog_is_no_item_table(titles: bool, tmp_path: Path, slatewise: Command) -> None:
    events, items = tmp_path / "events", tmp_path / "items.csv"
    events.mkdir()
    pq.write_table(pa.table({"item_id": ["1", "2", "3"]}), events / "catalog-0a.parquet")
    catalog = {"record": "catalog", "timestamp": 1, "catalog_version": "0a", "items": 3, "file": "catalog-0a.parquet"}
    decision = {"record": "decision", "event_id": "e", "timestamp": 2, "user_id": "ann", "slate": ["2"]}
    (events / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in (catalog, decision)))
    items.write_text("item_id,title\n2,Two\n" if titles else "item_id,price\n2,5\n", encoding="utf-8")
    plain = slatewise("data", "import", events, "--out", tmp_path / "plain")
    assert "The catalogs that were served have 3 items; --items RUN brings their titles." in plain.out
    assert "item table" not in plain.out
    assert "1 row in 1 event of 1 user, 3 items, impressions" in plain.out
    said = slatewise("data", "import", events, "--items", items, "--out", tmp_path / "described")
    assert "The catalogs that were served have 3 items." in said.out
    assert f"{'titles' if titles else 'items '}    1 of 1 item of the log is in the item table, which has 1" in said.out
    again = slatewise("data", "append", tmp_path / "described", events)
    assert ("brings their titles" in again.out) is not titles
