from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.cli.conftest import Command

from slatewise.data import Options, exporting, import_path, prepared
from slatewise.data.exporting import export
from slatewise.data.prepared import Dataset
from slatewise.errors import InputError

COLUMNS = (
    "user_id,event_id,position,item_id,timestamp,reward,used,used_time,use_reward,session_id,policy_id,propensity,cost,"
    "context_age\n"
)
SLATES = (
    COLUMNS
    + """\
ann,e1,0,a,2026-05-01T10:00:00.000001,1.5,1,2026-05-01T10:00:09,1,s1,p1,.5,0,30
ann,e1,1,b,2026-05-01T10:00:00.000001,0,0,,,s1,p1,.25,1,30
ann,e2,0,b,2026-05-01T11:00:00,2,1,2026-05-02T00:00:00,2,s1,,,0,31
bob,e3,0,a,2026-05-01T10:30:00,0,0,,,,p2,1,0,40
ann,e4,0,"c, d",2026-05-03T00:00:00,-1,1,2026-05-03T00:00:00,-1,s2,p2,.125,0,32
bob,e5,0,b,2026-05-04T00:00:00,0,0,,,s3,p2,1,0,41
"""
)
PLAYS = "user_id,item_id,timestamp,reward\nann,1,100,3\nann,2,200,-1\nbob,1,150,0\nann,1,300,2\n"


def log_of(tmp_path: Path, text: str, **options: object) -> Dataset:
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    return import_path(tmp_path / "log.csv", tmp_path / "data", Options(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("text", [SLATES, PLAYS], ids=["slates", "plays"])
def test_what_is_exported_imports_to_the_same_log(
    text: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "EVENTS_AT_ONCE", 2)
    data = log_of(tmp_path, text)
    assert export(data, tmp_path / f"table.{suffix}") == ()
    again = import_path(tmp_path / f"table.{suffix}", tmp_path / "again", Options(kind=data.kind))
    for column in fields(data.interactions):
        if column.name != "requests":
            one, other = (getattr(log.interactions, column.name) for log in (data, again))
            np.testing.assert_array_equal(one, other, err_msg=column.name)
    for names in ("users", "policies"):
        assert getattr(data, names).names.equals(getattr(again, names).names)
    assert data.catalog.vocabulary.names.equals(again.catalog.vocabulary.names)
    assert data.manifest.context == again.manifest.context


def test_a_log_without_a_clock_is_exported_without_times(tmp_path: Path) -> None:
    data = log_of(tmp_path, "user_id,item_id,reward\nann,1,3\nbob,2,1\nann,2,2\n", time=False)
    notes = export(data, tmp_path / "table.csv")
    assert pl.read_csv(tmp_path / "table.csv").to_dicts() == [
        {"user_id": "ann", "item_id": 1, "reward": 3.0},
        {"user_id": "ann", "item_id": 2, "reward": 2.0},
        {"user_id": "bob", "item_id": 2, "reward": 1.0},
    ]
    assert notes[0].startswith("There are no times: import the table with --no-time")


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    data = log_of(tmp_path, PLAYS)
    (tmp_path / "there.csv").write_text("kept", encoding="utf-8")
    with pytest.raises(InputError, match="it is there already"):
        export(data, tmp_path / "there.csv")
    with pytest.raises(InputError, match="is not a name of a table"):
        export(data, tmp_path / "table.xlsx")
    export(data, tmp_path / "there.csv", overwrite=True)
    assert pl.read_csv(tmp_path / "there.csv").height == 4


def test_titles_and_conditions_are_named_as_missing(tmp_path: Path) -> None:
    data = log_of(tmp_path, PLAYS)
    titled = replace(data, catalog=replace(data.catalog, text=("", "", "One", "Two")))
    assert export(titled, tmp_path / "table.csv") == (
        f"Titles, features and columns of the items stay in the data set: import with --items {data.path}.",
    )


def test_a_bad_time_of_use_is_named(tmp_path: Path, slatewise: Command) -> None:
    text = SLATES.replace("2026-05-02T00:00:00,2,s1", "soon,2,s1")
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    said = slatewise("data", "import", tmp_path / "log.csv", "--out", tmp_path / "data")
    assert said.code == 2
    assert 'line 4, column "used_time": "soon" is not a time' in said.err


def test_the_command(tmp_path: Path, slatewise: Command) -> None:
    log_of(tmp_path, SLATES)
    said = slatewise("data", "export", tmp_path / "data", "--out", tmp_path / "table.parquet")
    assert (said.code, said.out) == (0, f"{tmp_path / 'table.parquet'}: 6 rows\n")
    assert prepared.load(tmp_path / "data").manifest.counts.rows == pl.read_parquet(tmp_path / "table.parquet").height
