from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slatewise.catalog_file import read_catalog, write_catalog
from slatewise.data.collecting import append_logs, catalog_at, import_logs
from slatewise.data.item_columns import ColumnChanges, ItemColumns, arrow_table, join_columns
from slatewise.data.reading.item_types import of_one_type
from slatewise.data.reading.raw_log import Options
from slatewise.log import FIRST_ITEM, Catalog, Vocabulary

LOG = "user_id,item_id,timestamp\n1,a,10\n1,b,20\n2,b,30\n2,c,40\n"
ITEMS = "item_id,title,category,price,in_stock,code,since,seen\n" + (
    "a,Ant,x,9.5,true,007,2024-01-31,2024-01-31T10:00:00Z\nb,Bee,y,20,false,010,,\nd,Dog,x,,TRUE,1a,2023-05-06,\n"
)


def silent(what: str, done: int, total: int | None) -> None:
    del what, done, total


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def imported(tmp_path: Path, items: Path, **options: Any) -> Catalog:
    log = written(tmp_path / "log.csv", LOG)
    data, _ = import_logs([log], tmp_path / "data", Options(**options), items=items, progress=silent)
    return data.catalog


def catalog(names: str, **columns: pl.Series) -> Catalog:
    return Catalog(
        vocabulary=Vocabulary(names=pa.array(list(names), pa.string())),
        text=("",) * (len(names) + FIRST_ITEM),
        group=np.zeros(len(names) + FIRST_ITEM, np.int64),
        group_names=("",),
        features=np.zeros((len(names) + FIRST_ITEM, 0), np.float32),
        columns=arrow_table(columns),
    )


def rows(table: pa.Table | None) -> list[dict[str, Any]]:
    assert table is not None
    result: list[dict[str, Any]] = table.to_pylist()
    return result


def test_every_column_of_an_item_table_is_kept_with_the_type_of_its_cells(tmp_path: Path) -> None:
    items = imported(tmp_path, written(tmp_path / "items.csv", ITEMS))
    assert items.vocabulary.names.to_pylist() == ["a", "b", "d", "c"]
    nothing = dict.fromkeys(("title", "category", "price", "in_stock", "code", "since", "seen"))
    assert rows(items.columns) == [
        {
            "title": "Ant",
            "category": "x",
            "price": 9.5,
            "in_stock": True,
            "code": "007",
            "since": date(2024, 1, 31),
            "seen": datetime(2024, 1, 31, 10, tzinfo=UTC),
        },
        {**nothing, "title": "Bee", "category": "y", "price": 20.0, "in_stock": False, "code": "010"},
        {**nothing, "title": "Dog", "category": "x", "in_stock": True, "code": "1a", "since": date(2023, 5, 6)},
        nothing,
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1", " 2", None], pl.Series([1, 2, None])),
        (["-1", "0", "12345678901234567890"], pl.Series([-1.0, 0.0, 12345678901234567890.0])),
        ([".5", "1e3", "2"], pl.Series([0.5, 1000.0, 2.0])),
        (["1", "01"], pl.Series(["1", "01"])),
        (["1", "NA"], pl.Series(["1", "NA"])),
        (["True", "false", ""], pl.Series([True, False, None])),
        (["2024-02-30"], pl.Series(["2024-02-30"])),
        (["-", "."], pl.Series(["-", "."])),
        (["yes", "no"], pl.Series(["yes", "no"])),
    ],
)
def test_text_has_the_type_of_all_its_cells(cells: list[str | None], expected: pl.Series) -> None:
    typed = of_one_type(pl.Series(cells, dtype=pl.String))
    assert typed is not None
    assert (typed.dtype, typed.to_list()) == (expected.dtype, expected.to_list())


def test_parquet_keeps_its_types_and_leaves_objects_out(tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": ["a", "b"],
            "tags": pa.array([["p", "q"], None]),
            "vector": pa.array([[1.0], [2.0]]),
            "owner": pa.array([{"name": "z"}, None]),
            "rank": pa.array([3, None], pa.uint8()),
            "genres": pa.array([["x"], ["y", "z"]]),
        }
    )
    pq.write_table(table, tmp_path / "items.parquet")
    items = imported(tmp_path, tmp_path / "items.parquet")
    assert rows(items.columns)[:2] == [
        {"tags": ["p", "q"], "rank": 3, "genres": ["x"]},
        {"tags": None, "rank": None, "genres": ["y", "z"]},
    ]


def test_recbole_json_and_flag_columns(tmp_path: Path) -> None:
    recbole = "item_id:token\tclass:token_seq\tsize:float\na\tp q\t3\nb\tq\t\n"
    assert rows(imported(tmp_path, written(tmp_path / "set.item", recbole)).columns)[:2] == [
        {"class": ["p", "q"], "size": 3},
        {"class": ["q"], "size": None},
    ]
    lines = '{"item_id": "a", "tags": ["p", "q"], "n": 1}\n{"item_id": "b", "tags": null, "n": 2.5, "o": {"x": 1}}\n'
    assert rows(imported(tmp_path, written(tmp_path / "items.jsonl", lines)).columns)[:2] == [
        {"tags": ["p", "q"], "n": 1.0},
        {"tags": None, "n": 2.5},
    ]


def test_bars_and_sequences_make_lists_of_any_column_but_the_title(tmp_path: Path) -> None:
    table = "item_id,title,tags,note\na,A|B,p|q,one | two\nb,C,p,three|four\nc,D,,\n"
    assert rows(imported(tmp_path, written(tmp_path / "items.csv", table)).columns)[:2] == [
        {"title": "A|B", "tags": ["p", "q"], "note": "one | two"},
        {"title": "C", "tags": ["p"], "note": "three|four"},
    ]
    recbole = "item_id:token\tcast:token_seq\nb\tann bob\n"
    assert rows(imported(tmp_path, written(tmp_path / "set.item", recbole)).columns)[0] == {"cast": ["ann", "bob"]}


def test_the_file_keeps_the_columns_and_files_without_them_still_open(tmp_path: Path) -> None:
    items = catalog("ab", price=pl.Series([1.5, None]), tags=pl.Series([["p"], []], dtype=pl.List(pl.String)))
    write_catalog(tmp_path / "items.parquet", items)
    assert read_catalog(tmp_path / "items.parquet").columns == items.columns
    write_catalog(tmp_path / "items.parquet", catalog("ab"))
    assert read_catalog(tmp_path / "items.parquet").columns is None


def test_later_values_count_and_unknown_ones_replace_nothing() -> None:
    earlier = catalog("abc", price=pl.Series([1, 2, 3]), stock=pl.Series([True, None, False]))
    later = catalog("cbd", price=pl.Series([30.5, None, 4.0]), colour=pl.Series(["r", None, "g"]))
    table, changes = join_columns(pa.array(list("abcd")), ItemColumns.of(earlier), ItemColumns.of(later))
    assert changes == ColumnChanges(items=1)
    assert rows(table) == [
        {"price": 1.0, "stock": True, "colour": None},
        {"price": 2.0, "stock": None, "colour": None},
        {"price": 30.5, "stock": False, "colour": "r"},
        {"price": 4.0, "stock": None, "colour": "g"},
    ]
    text = ItemColumns.of(catalog("a", price=pl.Series(["cheap"])))
    table, changes = join_columns(pa.array(["a"]), ItemColumns.of(earlier), text)
    assert rows(table) == [{"price": "cheap", "stock": True}]
    assert changes.sentences() == [
        "1 known items have other values in their columns: the later ones count.",
        'column "price" of the items is text now: the two hold different types.',
    ]


def test_an_appended_item_table_changes_known_items_and_adds_new_ones(tmp_path: Path) -> None:
    imported(tmp_path, written(tmp_path / "items.csv", ITEMS))
    log = written(tmp_path / "more.csv", "user_id,item_id,timestamp\n3,e,50\n")
    prices = written(tmp_path / "prices.csv", "item_id,price\nb,15\ne,5\n")
    data, accounts = append_logs(tmp_path / "data", [log], Options(), items=prices, progress=silent)
    assert accounts[0].columns == ColumnChanges(items=1)
    price = {row: each["price"] for row, each in zip("abdce", rows(data.catalog.columns), strict=True)}
    assert price == {"a": 9.5, "b": 15.0, "d": None, "c": None, "e": 5.0}
    assert catalog_at(tmp_path / "data").columns == data.catalog.columns
