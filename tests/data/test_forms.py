"""One log in the forms that programs and warehouses write it in: names, nested columns, decimals and clocks."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slatewise import cli
from slatewise.data import Dataset, Options, Report, import_path, prepare
from slatewise.data.reading.name_forms import looks_missing, texts
from slatewise.data.reading.times import resolution, to_microseconds
from slatewise.data.reading.validation import validate
from slatewise.errors import InputError


def prepared(path: Path, **options: Any) -> Dataset:
    return import_path(path, path.parent / "out", Options(**options))


def notes(data: Dataset) -> str:
    return "\n".join(Report.of(data).notes)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pl.Series(["1", " 1", "1.0", "1.", "1.00 ", "-0.0", "1.5", "007.0", "v1.0", "1e+05", "1.5E+3", "12e5", ""]),
         ["1", "1", "1", "1", "1", "0", "1.5", "007", "v1.0", "100000", "1500", "12e5", ""]),
        (pl.Series([1.0, -2.0, 0.5, float("nan"), None]), ["1", "-2", None, None, None]),
        (pl.Series([2**63 - 1, 2**53 + 1]), ["9223372036854775807", "9007199254740993"]),
        (pl.Series([Decimal(10), Decimal(2**63)], dtype=pl.Decimal(38, 0)), ["10", "9223372036854775808"]),
        (pl.Series([Decimal("10.00"), Decimal("10.50")], dtype=pl.Decimal(10, 2)), ["10", None]),
        (pl.Series([b"a ", b"\xff"]), ["a", None]),
        (pl.Series([" a"], dtype=pl.Categorical), ["a"]),
        (pl.Series([["a"]]), [None]),
    ],
    ids=["text", "floats", "integers", "decimals", "decimals with a fraction", "bytes", "categories", "lists"],
)  # fmt: skip
def test_names_have_one_form(values: pl.Series, names: list[str | None]) -> None:
    assert texts(values).to_list() == names


def test_names_that_look_missing() -> None:
    names = pl.Series(["nan", "None", " NULL ", "NA", "n/a", "\\N", "", None, "Nan-cy", "n", "0"])
    assert looks_missing(names).to_list() == [True] * 8 + [False] * 3


ROWS = pl.DataFrame(
    {"user_id": [1, 2], "item_id": [10, 10], "rating": [4.0, 3.5], "timestamp": [1600000000, 1600000100]}
)


def write_forms(folder: Path) -> None:
    """The same two rows as text, floats, decimals, bytes and JSON."""
    folder.mkdir()
    (folder / "a.csv").write_text(
        "user_id, item_id, rating, timestamp\n1.0, 10, 4, 1600000000\n2.0, 10.0, 3.5, 1600000100\n"
    )
    (folder / "b.jsonl").write_text(
        '{"user_id":1.0,"item_id":10,"rating":4,"timestamp":1600000000}\n'
        '{"user_id":"2","item_id":10.0,"rating":3.5,"timestamp":1600000100}\n'
    )
    ids = pl.col("user_id", "item_id")
    ROWS.with_columns(ids.cast(pl.Float64)).write_parquet(folder / "c.parquet")
    ROWS.with_columns(pl.all().cast(pl.Decimal(38, 2))).write_parquet(folder / "d.parquet")
    ROWS.with_columns(ids.cast(pl.String).cast(pl.Binary)).write_parquet(folder / "e.parquet")
    ROWS.with_columns(ids.cast(pl.UInt64), pl.col("timestamp").cast(pl.UInt64)).write_parquet(folder / "f.parquet")


def test_every_format_has_the_same_names(tmp_path: Path) -> None:
    write_forms(tmp_path / "forms")
    for file in sorted((tmp_path / "forms").iterdir()):
        data = import_path(file, tmp_path / "out")
        assert data.users.names.to_pylist() == ["1", "2"], file.name
        assert data.catalog.vocabulary.names.to_pylist() == ["10"], file.name
        np.testing.assert_array_equal(data.interactions.reward, [4, 3.5])
        np.testing.assert_array_equal(data.interactions.time, [1_600_000_000_000_000, 1_600_000_100_000_000])


def test_frames_have_the_same_names(tmp_path: Path) -> None:
    frame = ROWS.rename({"rating": "reward"}).with_columns(pl.col("user_id", "item_id").cast(pl.Float64))
    data = prepare(frame, out=tmp_path / "out", name="log")
    assert data.users.names.to_pylist() == ["1", "2"]
    assert data.catalog.vocabulary.names.to_pylist() == ["10"]
    with pytest.raises(InputError, match=r'column "user_id": Float64 1\.5 is not a name'):
        prepare(frame.with_columns(user_id=pl.lit(1.5)), out=tmp_path / "out", name="log")


def test_what_is_passed_over_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "log.csv").write_text("user,item,time,colour\nu,1,1600000000,red\n")
    (tmp_path / "log" / "links.csv").write_text("item_id,imdb\n1,7\n")
    command = ["slatewise", "data", "import", str(tmp_path / "log"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out
    assert "not used  columns colour\n" in printed
    assert "not read  links.csv\n" in printed


def test_names_read_in_another_form_are_counted(tmp_path: Path) -> None:
    write_forms(tmp_path / "forms")
    text = notes(prepared(tmp_path / "forms" / "a.csv"))
    assert 'column "user_id": 2 names read in one form, "1.0" as "1".' in text
    assert 'column "item_id": 2 names read in one form, " 10" as "10".' in text
    file = tmp_path / "log.csv"
    file.write_text("user,item,time\n1,1.23457e+12,1600000000\n")
    assert "1 name in scientific notation, which may have lost digits" in notes(prepared(file))
    pl.DataFrame({"user": [2.0**60], "item": [1], "time": [1]}).write_parquet(tmp_path / "log.parquet")
    assert "1 float beyond 2^53 as names" in notes(prepared(tmp_path / "log.parquet"))


def test_log_and_item_table_agree_on_names(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "log.csv").write_text("user,item,time\nu,1.0,1600000000\nu, 2,1600000001\n")
    (folder / "items.csv").write_text("item_id,title\n1,One\n2.0,Two\n")
    data = prepared(folder)
    assert data.catalog.num_items == 2
    assert [data.catalog.title(item) for item in (2, 3)] == ["One", "Two"]
    assert 'items.csv: column "item_id": 1 name read in one form, "2.0" as "2".' in notes(data)
    # a column that the user names is one of the item table, too
    (folder / "log.csv").write_text("user,sku,time\nu,1,1600000000\n")
    (folder / "items.csv").write_text("sku,title\n1,One\n")
    assert prepared(folder, columns={"item_id": "sku"}).catalog.title(2) == "One"


NESTED = (
    '{"user":"u","item":"a","time":1600000000,"rating":4,"device":{"os":"x"},"event":{"type":"v"},"tags":["n"]}\n'
    '{"user":"u","item":"b","time":1600000001,"rating":3,"device":{"os":"y"},"event":{"type":"v"},"tags":[1]}\n'
)


def test_a_nested_column_that_nothing_needs_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(NESTED)
    pl.read_ndjson(tmp_path / "log.jsonl", schema_overrides={"tags": pl.List(pl.String)}).write_parquet(
        tmp_path / "log.parquet"
    )
    for file in (tmp_path / "log.jsonl", tmp_path / "log.parquet"):
        data = prepared(file)
        np.testing.assert_array_equal(data.interactions.reward, [4, 3])
        assert Report.of(data).ignored == ("device", "event", "tags")
        assert 'column "event" was not used: it holds lists or objects.' in notes(data)
        with pytest.raises(InputError, match=r'line 1, column "event": "event" holds an object .*--column COLUMN=NAME'):
            prepared(file, columns={"event_id": "event"})


def test_a_flat_column_is_preferred_to_a_nested_one(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"user":"u","item":"a","timestamp":{"$date":"2020"},"ts":1600000000}\n')
    assert Report.of(prepared(file)).columns["timestamp"] == "ts"
    file.write_text('{"user":"u","item":"a","timestamp":{"$date":"2020"}}\n')
    with pytest.raises(InputError, match=r'line 1, column "timestamp": "timestamp" holds an object'):
        prepared(file)


def test_nan_in_json_is_a_fault_of_its_row(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    line = '{"user":"u","item":"a","time":1600000000,"rating":4,"score":NaN}\n'
    file.write_text(line)
    np.testing.assert_array_equal(prepared(file).interactions.reward, [4])
    file.write_text(line + line.replace("4", "NaN"))
    with pytest.raises(InputError, match=r'log\.jsonl, line 2, column "rating": "nan" is not a finite number'):
        prepared(file)
    file.write_text(line.replace("4", "-Infinity"))
    with pytest.raises(InputError, match=r'line 1, column "rating": "-inf" is not a finite number'):
        prepared(file)


def test_broken_lines_come_before_missing_columns(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("\n" + "{user: 1}\n" * 3)
    with pytest.raises(InputError, match=r"log\.jsonl, line 2: not valid JSON"):
        prepared(file)
    file.write_text("{user: 1}\n" * 3 + '{"time": 1}\n')
    with pytest.raises(InputError, match=r"log\.jsonl, line 1: not valid JSON"):
        prepared(file)


def test_items_of_decimals_lists_and_bad_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "set.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1600000000\n")
    (folder / "set.item").write_text("item_id:token\tprice:float\tsize:float\na\t3\tL\nb\tn/a\tM\nc\t5\t7\n")
    data = prepared(folder)
    assert Report.of(data).items == "set.item"
    np.testing.assert_allclose(data.catalog.features[2:], [[-1], [0], [1]])
    text = notes(data)
    assert (
        'column "price:float": 1 of 3 cells are not numbers, their value is unknown (the first is "n/a", line 3)'
        in (text)
    )
    assert 'column "size:float" is not a feature: 2 of 3 cells are not numbers (the first is "L", line 2).' in text
    assert 'set.item: Kept, but read by no method: 1 column, "size:float".' in text

    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "log.csv").write_text("user,item,time\nu,1,1600000000\n")
    pl.DataFrame(
        {"item_id": [Decimal(1)], "title": ["One"], "price": [Decimal("2.50")], "categories": [["x", "y"]]}
    ).write_parquet(folder / "items.parquet")
    data = prepared(folder)
    assert (data.catalog.num_items, data.catalog.title(2)) == (1, "One")
    assert data.catalog.group_names[data.catalog.group[2]] == "x"
    (folder / "items.parquet").unlink()
    (folder / "items.jsonl").write_text('{"item_id":1,"title":"One","categories":["x","y"],"image":{"url":"z"}}\n')
    data = prepared(folder)
    assert data.catalog.group_names[data.catalog.group[2]] == "x"
    assert 'items.jsonl: Not used: 1 column, "image".' in notes(data)


def test_an_item_table_obeys_the_rule_for_names(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "log.csv").write_text("user,item,time\nu,1,1600000000\n")
    (folder / "items.csv").write_text('item_id,title\n1,One\n"2\n3",Two\n')
    with pytest.raises(InputError, match=r'items\.csv, line 3, column "item_id": "2·3" has a control character'):
        prepared(folder)


def test_an_item_table_may_have_dates(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "log.csv").write_text("user,item,time\nu,1,1600000000\n")
    (folder / "items.csv").write_text("item_id,title,date\n1,One,2020-01-01\n")
    assert prepared(folder).catalog.title(2) == "One"


DAY = 86_400_000_000


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        ("19700102", DAY),
        (19700102, DAY),
        (19700102.0, DAY),
        (197001020001, DAY + 60_000_000),
        ("19700102000001", DAY + 1_000_000),
        ("1970-01-02T02:00:00+0200", DAY),
        ("1970-01-02 02:00:00.5+02", DAY + 500_000),
        ("1970-01-01 19:00 -05:00", DAY),
        ("1970-01-02 00:00:00 UTC", DAY),
        ("1970-01-02T00:00:00z", DAY),
    ],
)
def test_dates_and_zones_by_hand(value: str | float, microseconds: int) -> None:
    times, faults = to_microseconds(pl.Series([value]))
    assert times.to_list() == [microseconds]
    assert not any(len(fault.rows) for fault in faults)


def test_dates_that_do_not_exist_and_serial_dates_are_faults() -> None:
    times, faults = to_microseconds(pl.Series(["20220421", "20220431", "20221", "20220422"]))
    assert times.is_null().to_list() == [False, True, True, False]
    assert [fault.rows.tolist() for fault in faults] == [[1, 2]]
    _, faults = to_microseconds(pl.Series([44000.5, 44001.0, None, 44002.25]))
    fault = next(each for each in faults if "serial" in each.check)
    assert fault.rows.tolist() == [0, 3]
    assert "(days - 25569) * 86400" in fault.advice
    assert to_microseconds(pl.Series([44000.5]), "s")[0].to_list() == [44_000_500_000]
    assert to_microseconds(pl.Series([0.5, 90_000.25]))[0].to_list() == [500_000, 90_000_250_000]
    _, faults = to_microseconds(pl.Series([2**64 - 1], dtype=pl.UInt64))
    assert [fault.rows.tolist() for fault in faults if len(fault.rows)] == [[0]]


def test_the_finest_clock_is_read(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user,item,date,time_ms\nu,a,20200913,1600000000123\nu,b,20200913,1600000001456\n")
    data = prepared(file)
    assert data.interactions.time.tolist() == [1_600_000_000_123_000, 1_600_000_001_456_000]
    assert 'column "date" was not used: "time_ms" is the finer clock' in notes(data)
    file.write_text("user,item,date,time_ms\nu,a,20200913,noon\nu,b,20200913,noon\n")
    assert prepared(file).interactions.time.tolist() == [1_599_955_200_000_000] * 2
    assert prepared(file, columns={"timestamp": "date"}).interactions.time[0] == 1_599_955_200_000_000
    assert [resolution(pl.Series([text])) for text in ("20200913", "2020-09-13 12:00", "1600000000", "noon")] == [
        DAY,
        3_600_000_000,
        10_000_000 // 10,
        None,
    ]


def test_two_kinds_of_logs_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    (folder / "events").mkdir(parents=True)
    decision = '{"record":"decision","event_id":"e","timestamp":1,"user_id":"u","slate":["a","b"]}\n'
    (folder / "events" / "0.jsonl").write_text(decision)
    (folder / "ratings.csv").write_text("user_id,item_id,rating,timestamp\nu,a,1,1600000000\n")
    with pytest.raises(InputError, match=r"two logs of different kinds: ratings\.csv, and decisions .* in events\. "):
        prepared(folder)
    assert not validate(folder).checks[0].passed
    (folder / "ratings.csv").unlink()
    (folder / "notes.txt").write_text("Some words.\n")
    (folder / "old").mkdir()
    assert Report.of(prepared(folder)).passed_over == ("notes.txt", "old/")


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    (folder / "more").mkdir(parents=True)
    (folder / "ratings.csv").write_text("user_id,item_id,rating,timestamp\nu,a,1,1600000000\n")
    (folder / "tags.csv").write_text("user_id,item_id,tag,timestamp\nu,a,good,1600000000\n")
    data = prepared(folder)
    assert Report.of(data).passed_over == ("tags.csv", "more/")
    assert "tags.csv holds users and items too, but no reward: it was not read." in notes(data)
