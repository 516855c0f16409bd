"""What an import reports of a log: rows set aside, titles, slates, repeats, times, and orders that are not of time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from slatewise import cli
from slatewise.data import Dataset, Options, Report, import_path
from slatewise.data.reading.account import Account, Slates, Titles
from slatewise.data.reading.core import k_core
from slatewise.data.reading.file_order import item_ranks, sorted_share
from slatewise.data.reading.validation import validate
from slatewise.errors import InputError

HEADER = "user_id,item_id,rating,timestamp\n"


def prepared(path: Path, text: str | None = None, **options: Any) -> Dataset:
    if text is not None:
        path.write_text(text)
    return import_path(path, path.parent / "out", Options(**options))


def account(data: Dataset) -> Account:
    found = Account.of(data.manifest.source)
    assert found is not None
    return found


def log(*rows: str) -> str:
    return HEADER + "".join(f"{row},{1600000000 + index}\n" for index, row in enumerate(rows))


def test_uses_and_repeats(tmp_path: Path) -> None:
    result = account(prepared(tmp_path / "log.csv", log("u,a,1", "u,a,2", "u,b,1", "v,a,1", "u,a,3")))
    assert result == Account(
        rows_read=5,
        rows=5,
        users=2,
        titles=None,
        slates=None,
        uses=5,
        repeats=2,
        known_propensities=0,
        notes=(
            "40.0% of the uses are of items that the user had used before. They are neither recommended nor evaluated "
            "unless [evaluate] exclude_seen = false.",
        ),
    )
    assert ("repeats", "2 of 5 uses (40.0%)") in result.sentences()


def test_slates_titles_and_propensities(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "items.csv").write_text("item_id,title\na,A\nz,Z\n")
    data = prepared(
        folder / "log.csv",
        "user,item,time,click,event,pscore\n"
        "u,a,1600000000,1,1,0.5\nu,b,1600000000,1,1,0.5\n"
        "u,c,1600000001,0,2,0.5\nu,b,1600000001,0,2,\n"
        "v,a,1600000002,1,3,0.5\n",
    )
    result = account(import_path(folder, data.path))
    assert result.slates == Slates(unused=1, single=1, several=1)
    assert result.titles == Titles(items=3, matches=1, table=2)
    assert (result.uses, result.repeats, result.known_propensities) == (3, 0, 4)
    assert result.notes == (
        "33.3% of the slates have several uses; slateq and the user model fitted to a log take the use with the "
        "largest reward for the only one.",
        "1 of 5 rows has no propensity.",
    )
    assert dict(result.sentences())["slates"] == "3: 1 without a use, 1 with one, 1 with several"
    assert dict(result.sentences())["known"] == "propensities of 4 of 5 rows"


def test_names_of_log_and_item_table_that_never_meet(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "log.csv").write_text(log("u,1,1", "v,2,1", "u,2,2"))
    (folder / "items.csv").write_text("item_id,title\ntt1,One\ntt2,Two\n")
    result = account(prepared(folder))
    assert result.titles == Titles(items=2, matches=0, table=2)
    assert any('the log names "1", the table "tt1"' in note for note in result.notes)
    assert ("titles", "0 of 2 items of the log are in the item table, which has 2") in result.sentences()
    check = next(each for each in validate(folder).checks if each.name == "every item of the log is in the item table")
    assert (check.passed, check.stops_import) == (False, False)


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["u,a,1", "u,b,1"], "There is one user"),
        (["u,a,1", "v,a,1", "v,a,2"], "There is one item"),
        (["u,a,1"], "Every user has one event"),
        (["u,a,1", "u,a,1"], "50.0% of the uses are of items that the user had used before"),
    ],
)
def test_logs_too_small_to_learn_from(tmp_path: Path, rows: list[str], sentence: str) -> None:
    assert any(sentence in note for note in account(prepared(tmp_path / "log.csv", log(*rows))).notes)


def test_a_user_with_a_tenth_of_the_events_is_named(tmp_path: Path) -> None:
    people = [f"{user},{item},1" for user in range(19) for item in range(9)]
    file = tmp_path / "log.csv"
    # 19 of 190 events are 10 %, 18 of 189 are not
    for events, heavy in ((19, True), (18, False)):
        notes = account(prepared(file, log(*people, *(f"robot,{item},1" for item in range(events))))).notes
        assert notes == validate(file).account.notes  # type: ignore[union-attr]
        sentence = (
            'User "robot" has 19 of 190 events (10.0%): what is learned and what is popular follow this user. Remove '
            "the rows of a robot before the import."
        )
        assert notes == ((sentence,) if heavy else ())
    # with 19 users, a tenth is nothing remarkable
    rows = log(*people[:-9], *(f"robot,{item},1" for item in range(400)))
    assert not [note for note in account(prepared(file, rows)).notes if "robot" in note]


def test_clicks_of_which_none_came(tmp_path: Path) -> None:
    result = account(prepared(tmp_path / "log.csv", log("u,a,0", "v,b,0").replace("rating", "click")))
    assert result.slates == Slates(unused=2, single=0, several=0)
    assert any("Nothing was used" in note for note in result.notes)


def test_times_that_cannot_be(tmp_path: Path) -> None:
    rows = HEADER + "u,a,1,7\nu,b,1,1600000000\nv,a,1,7000000000\n"
    notes = account(prepared(tmp_path / "log.csv", rows)).notes
    assert "1 of 3 events is before 1990: the unit of the times may be wrong (--time-format)." in notes
    assert "1 of 3 events is more than a year ahead: the unit of the times may be wrong (--time-format)." in notes
    assert not any("before 1990" in note for note in account(prepared(tmp_path / "log.csv", rows, time=False)).notes)


def test_names_that_look_missing_are_counted_and_set_aside_on_demand(tmp_path: Path) -> None:
    rows = log("nan,a,1", "u,NULL,1", "nan,a,1", "u,a,2", "v,b,1")
    file = tmp_path / "log.csv"
    result = account(prepared(file, rows))
    assert result.missing_names == {'user "nan"': 2, 'item "NULL"': 1}
    assert 'Names that look like a missing value: user "nan" in 2 rows, item "NULL" in 1 row' in result.notes[0]
    check = next(each for each in validate(file).checks if each.name == "no name looks like a missing value")
    assert (check.count, check.stops_import) == (3, False)
    assert check.examples[0] == 'log.csv, line 2: user_id "nan"'
    same = next(each for each in validate(tmp_path / "out").checks if each.name == check.name)
    assert (same.count, same.examples) == (2, ('user "nan": 2 rows', 'item "NULL": 1 row'))

    # with the option, empty cells go, too
    data = prepared(file, rows + ",a,1,1600000009\n", set_aside_missing=True)
    result = account(data)
    assert (result.rows_read, result.rows, result.missing_names) == (6, 2, {})
    assert result.set_aside == {"their user or item looks like a missing value": 4}
    assert data.users.names.to_pylist() == ["u", "v"]
    failed = [each.name for each in validate(file, Options(set_aside_missing=True)).checks if not each.passed]
    assert "no name looks like a missing value" not in failed
    assert "user_id is not empty" not in failed
    with pytest.raises(InputError, match=r"line 2: every row has a user or an item whose name looks like a missing"):
        prepared(file, log("nan,a,1"), set_aside_missing=True)
    with pytest.raises(InputError, match='line 4, column "rating": "x" is not a number'):
        prepared(file, log("nan,a,1", "u,a,1", "u,b,x"), set_aside_missing=True)


def test_k_core_by_hand() -> None:
    # c is used once: without it w has one row, without w's row b has one, without b v has one
    users = pl.Series(["u", "u", "u", "v", "v", "w", "w", "x", "x", "x"])
    items = pl.Series(["a", "d", "e", "b", "d", "c", "b", "a", "d", "e"])
    core = k_core(users, items, 2)
    assert core.keep.tolist() == [True, True, True, False, False, False, False, True, True, True]
    assert core.set_aside == {"users with fewer than 2 events": 2, "items with fewer than 2 events": 2}
    assert (core.users, core.items) == (2, 2)
    assert k_core(users, items, 1).keep.all()
    assert not k_core(users, items, 4).keep.any()


def test_core_of_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    rows = ["u,a,1", "u,b,2", "v,a,3", "v,b,4", "w,a,5", "u,c,1"]
    (folder / "log.csv").write_text(log(*rows))
    (folder / "items.csv").write_text("item_id,title\na,A\nb,B\nc,C\nd,D\n")
    data = prepared(folder, core=2)
    result = account(data)
    assert data.users.names.to_pylist() == ["u", "v"]
    assert data.catalog.vocabulary.names.to_pylist() == ["a", "b"]
    assert (result.rows_read, result.rows) == (6, 4)
    assert result.set_aside == {"users with fewer than 2 events": 1, "items with fewer than 2 events": 1}
    assert "--core 2 set 1 user and 1 item aside, in 2 rounds." in Report.of(data).notes
    assert "2 items of the item table are not in the core." in Report.of(data).notes
    with pytest.raises(InputError, match="the 4-core is empty"):
        prepared(folder, core=4)
    (folder / "log.csv").write_text(log(*rows, ",a,1"))
    with pytest.raises(InputError, match='line 8, column "user_id": an empty cell is not a user'):
        prepared(folder, core=2)
    (folder / "log.csv").write_text(log(*rows).replace("rating", "click").replace(",5,", ",0,"))
    with pytest.raises(InputError, match="--core 2 for a log of slates"):
        prepared(folder, core=2, kind="impressions")
    with pytest.raises(InputError, match="--core 0"):
        Options(core=0)


def test_ranks_of_names_by_hand() -> None:
    assert item_ranks(pa.array(["10", "9", "2"])).tolist() == [3, 2, 1]
    assert item_ranks(pa.array(["b10", "b9", "a"])).tolist() == [2, 3, 1]


def test_share_of_sorted_users_by_hand() -> None:
    user = np.repeat([0, 1, 2, 3], [5, 5, 5, 4])
    value = np.array([1, 2, 2, 3, 9, 5, 4, 3, 2, 1, 1, 2, 1, 2, 1, 1, 2, 3, 4])
    # the first ascends, the second descends, the third does neither, the last has too few rows
    assert sorted_share(user, value) == pytest.approx(2 / 3)
    assert np.isnan(sorted_share(user, np.zeros(19)))


def test_a_file_sorted_by_item_or_reward_is_not_in_the_order_of_time(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [
        f"{user},{item},{reward}"
        for user in range(8)
        for item, reward in zip(
            sorted(generator.permutation(30)[:6].tolist()), generator.integers(1, 6, 6).tolist(), strict=True
        )
    ]
    file = tmp_path / "log.csv"
    notes = account(prepared(file, log(*rows), time=False)).notes
    assert (
        "The rows of 100% of the users are sorted by item: the order of the file is not that of time. Use [data]"
        in (notes[0])
    )
    assert len(notes) == 1
    assert validate(file, Options(time=False)).account == account(prepared(file, time=False))
    by_reward = sorted(rows, key=lambda row: -int(row.rsplit(",", 1)[1]))
    notes = account(prepared(file, log(*by_reward), time=False)).notes
    assert [note for note in notes if "sorted by reward" in note]
    shuffled = generator.permutation(np.array(rows)).tolist()
    assert account(prepared(file, log(*shuffled), time=False)).notes == ()
    assert account(prepared(file, log(*rows))).notes == ()


def test_what_the_import_repairs_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["slatewise", "data", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0)

    rows = [f"{user},{item},{1 + (user + item) % 5}" for item in range(4) for user in range(3)]
    lines = log(*rows).splitlines()
    file, out = tmp_path / "log.csv", tmp_path / "out"
    file.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    assert run("validate", str(file)) == 0
    printed = capsys.readouterr().out
    assert "NOTE  times are in order: fails 11 times" in printed
    assert "FAIL" not in printed
    assert run("import", str(file), "--out", str(out), "--no-time", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["account"]["rows_read"], answer["account"]["rows"]) == (12, 12)
    assert answer["replaced"] is False
    assert run("validate", str(out)) == 0
    printed = capsys.readouterr().out
    assert "rows      12 read, 12 kept\n" in printed
    assert "log       12 rows in 12 events of 3 users, 4 items, uses\n" in printed
    assert "note      There are no times: rows are one second apart, in the order of the file.\n" in printed
    assert "1990" not in printed
    assert run("validate", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out)["account"] == answer["account"]
    assert run("import", str(file), "--out", str(out), "--core", "3") == 0
    printed = capsys.readouterr().out
    assert "repeats   0 of 12 uses (0.0%)" in printed
    assert f"written   {out}, in place of the data set that was there\n" in printed
    assert run("import", str(file), "--out", str(out), "--core", "9") == 2
