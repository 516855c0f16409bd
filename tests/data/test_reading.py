"""Lines, dialects and times: the exact pass against Python's own reader, and values worked out by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slatewise.data import load
from slatewise.data.reading import lines as exact
from slatewise.data.reading.column_aliases import name_columns, plain
from slatewise.data.reading.dialect import find_dialect
from slatewise.data.reading.importing import import_path
from slatewise.data.reading.lines import find_broken, scan
from slatewise.data.reading.times import to_microseconds
from slatewise.errors import InputError


def test_lines_by_hand() -> None:
    text = b'a,b\n\n"x,\ny",2\r\n\r\nlast'
    records = scan(text, delimiter=",", quoted=True)
    np.testing.assert_array_equal(records.starts, [0, 4, 5, 15, 17])
    np.testing.assert_array_equal(records.ends, [4, 5, 15, 17, 21])
    np.testing.assert_array_equal(records.numbers, [1, 2, 3, 5, 6])
    np.testing.assert_array_equal(records.fields, [2, 1, 2, 1, 1])
    np.testing.assert_array_equal(records.blank, [False, True, False, True, False])
    assert not records.open_quote
    found = find_broken(text, records, num_fields=2)
    assert [(each.lines.tolist(), each.column) for each in found] == [([6], 1)]
    assert scan(text, delimiter=",", quoted=False).fields.tolist() == [2, 1, 2, 2, 1, 1]
    assert scan(b'a\n"b', delimiter=",", quoted=True).open_quote
    assert len(scan(b"", delimiter=",", quoted=True).starts) == 0


cells = st.text(st.sampled_from(["a", "é", ",", "\n", '"', " ", "7"]), max_size=5)


@given(rows=st.lists(st.lists(cells, min_size=2, max_size=4), min_size=1, max_size=8), block=st.integers(1, 40))
def test_records_are_those_of_the_csv_module(rows: list[list[str]], block: int) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    text = buffer.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_BLOCK", block)
        records = scan(text, delimiter=",", quoted=True)
        assert find_broken(text, records, num_fields=None) == []
    np.testing.assert_array_equal(records.fields, [len(row) for row in rows])
    for index, row in enumerate(rows):
        piece = text[int(records.starts[index]) : int(records.ends[index])].decode()
        assert next(csv.reader(io.StringIO(piece, newline=""))) == row
        assert records.numbers[index] == text[: int(records.starts[index])].count(b"\n") + 1


def test_blocks_do_not_cut_characters_or_hide_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_BLOCK", 3)
    text = "é,é\nü,ü\n".encode() + b"\xff,a\n\0,b\nc,\xc3\n"
    found = find_broken(text, scan(text, delimiter=",", quoted=False), num_fields=2)
    assert {each.check: each.lines.tolist() for each in found} == {
        "there are no NUL bytes": [4],
        "the text is UTF-8": [3, 5],
    }


@pytest.mark.parametrize(
    ("head", "delimiter", "quoted"),
    [
        ("user,item\n", ",", True),
        ("user\titem\n1\t2\n", "\t", False),
        ('"user"\t"item"\n', "\t", True),
        ("user::item\n", "::", False),
        ("user item time\n1 2 3\n", " ", False),
        ("user_id:token\titem_id:token\n", "\t", False),
        ("a,title;user;item\n", ";", True),
    ],
)
def test_dialects(head: str, delimiter: str, quoted: bool) -> None:
    dialect = find_dialect(head.encode(), file=Path("log"))
    assert (dialect.delimiter, dialect.quoted, dialect.header) == (delimiter, quoted, True)


def test_prose_is_no_table() -> None:
    dialect = find_dialect(b"The user and the item are words.\nMore words here.\n", file=Path("README"))
    assert not dialect.header


def test_names_and_their_rank() -> None:
    assert [plain(name) for name in ("movieId", "Movie ID", "movie-id", "movie_id:token")] == ["movie_id"] * 4
    named = name_columns(["click", "rating", "userId", "context_Hour", "x"], {"item_id": "x"})
    assert named.columns == {"reward": "rating", "user_id": "userId", "context_hour": "context_Hour", "item_id": "x"}
    assert named.doubles == {"click": "reward"}


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("1", 1_000_000),
        ("1.5", 1_500_000),
        (" 86400 ", 86_400_000_000),
        ("881250949", 881_250_949_000_000),
        ("881250949123", 881_250_949_123_000),
        ("881250949123456", 881_250_949_123_456),
        ("1574553634762830123", 1_574_553_634_762_830),
        ("1.6e9", 1_600_000_000_000_000),
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01 00:00:01.25", 1_250_000),
        ("1970-01-01 02:00:00+02:00", 0),
        ("1970-01-01T02:30+02:00", 1_800_000_000),
        ("1970-01-01 00:01", 60_000_000),
    ],
)
def test_times_by_hand(text: str, microseconds: int) -> None:
    times, faults = to_microseconds(pl.Series(["", text]))
    assert times.to_list() == [None, microseconds]
    assert not any(len(fault.rows) for fault in faults)


def test_iso_times_with_and_without_fractions_and_zones() -> None:
    times, _ = to_microseconds(pl.Series(["1970-01-01 00:00:01+00:00", "1970-01-01 00:00:01.5+00:00", "1970-01-01"]))
    assert times.to_list() == [1_000_000, 1_500_000, 0]


@given(seconds=st.integers(315_532_800, 7_258_118_399), unit=st.sampled_from(["s", "ms", "us", "ns"]))
def test_units_are_found_by_size(seconds: int, unit: str) -> None:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    values = pl.Series([seconds * scale])
    for given_unit in (None, unit):
        times, faults = to_microseconds(values, given_unit)
        assert times.to_list() == [seconds * 10**6]
        assert not any(len(fault.rows) for fault in faults)


GOOD = b"user_id,item_id,rating,timestamp\nann,tea,4,1600000000\nbob,gin,2,1600000100\n"


@settings(max_examples=150, deadline=None)
@given(where=st.integers(0, len(GOOD) - 1), put=st.binary(max_size=6), cut=st.integers(0, 6))
def test_damage_of_any_kind_is_told_not_raised(
    tmp_path_factory: pytest.TempPathFactory, where: int, put: bytes, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    (folder / "log.csv").write_bytes(GOOD[:where] + put + GOOD[where + cut :])
    told = ""
    try:
        import_path(folder / "log.csv", folder / "out")
    except InputError as error:
        told = str(error)
    if told:
        assert str(folder / "log.csv") in told
        assert not (folder / "out").exists()
    else:
        assert np.isfinite(load(folder / "out").interactions.reward).all()


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_told_not_raised(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "log").write_bytes(content)
    with pytest.raises(InputError, match="log"):
        import_path(folder / "log", folder / "out")
    with pytest.raises(InputError):
        import_path(folder, folder.parent / "out")
