"""slatewise recommend."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from tests.cli.conftest import Command
from tests.serve.world import catalog, priced, save_artifact

from slatewise.log import FIRST_ITEM
from slatewise.testing import toy_dataset, written_log


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Of eleven users, user u used u of the forty items."""
    users = [[{"items": [FIRST_ITEM + 3 * user + place]} for place in range(user)] for user in range(11)]
    toy_dataset(tmp_path / "data", written_log(users), catalog=catalog())
    save_artifact(tmp_path / "run" / "artifact", tables={"data": {"path": str(tmp_path / "data")}})
    return tmp_path / "run"


def test_the_command(run: Path, tmp_path: Path, slatewise: Command) -> None:
    out = tmp_path / "recs.csv"
    said = slatewise("recommend", run, "--all", "--k", "3", "--greedy", "--out", out)
    assert (said.code, said.out) == (0, f"{out}: 33 rows for 11 users\n")
    assert set(pl.read_csv(out)["logp"]) == {0.0}
    users = tmp_path / "users.txt"
    users.write_text("user_id\nu0\nu3\nnobody\nu3\n", encoding="utf-8")
    (tmp_path / "never.csv").write_text("item_id\ni1\ni2\nno such item\n", encoding="utf-8")
    arguments = ("recommend", run, "--users", users, "--exclude", tmp_path / "never.csv", "--out", out)
    said = slatewise(*arguments)
    assert said.code == 2
    assert "it is there already" in said.err
    value = slatewise(*arguments, "--overwrite", "--k", "37", "--json").value
    assert (value["users"], value["unknown_users"], value["short_slates"]) == (3, 1, 1)
    assert value["notes"] == [
        "1 row of users.txt names a user again; the first one counts",
        "1 item of never.csv not in the catalog of the run",
        "1 user not in the log: what an unknown user gets",
        "1 user with fewer than 37 items: no more were left",
    ]
    assert not {"i1", "i2"} & set(pl.read_csv(out)["item_id"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "users.csv: the file is empty"),
        ("user_id\n", "users.csv: it lists no user_id"),
        ("item_id\ni1\n", "users.csv: no column user_id; the file has: item_id"),
        ("user_id,age\nu1,3\n ,4\n", 'users.csv, line 3, column "user_id": the cell is empty or unreadable'),
        ("name;age\nu1;3\n", "users.csv, line 1: its first line names no column user_id"),
    ],
)
def test_a_users_file_that_cannot_be_read(
    content: str, message: str, run: Path, tmp_path: Path, slatewise: Command
) -> None:
    (tmp_path / "users.csv").write_text(content, encoding="utf-8")
    said = slatewise("recommend", run, "--users", tmp_path / "users.csv", "--out", tmp_path / "recs.csv")
    assert said.code == 2
    assert message in said.err
    assert not (tmp_path / "recs.csv").exists()


def test_a_log_that_was_moved_is_an_error(run: Path, tmp_path: Path, slatewise: Command) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    said = slatewise("recommend", run, "--all", "--out", tmp_path / "recs.csv")
    assert said.code == 2
    assert f'[data] path = "{tmp_path / "data"}" is not the folder of a prepared data set' in said.err


def test_only_items_whose_columns_match(tmp_path: Path, slatewise: Command) -> None:
    users = [[{"items": [FIRST_ITEM + user]}] for user in range(3)]
    toy_dataset(tmp_path / "data", written_log(users), catalog=catalog())
    run, out = tmp_path / "run", tmp_path / "recs.csv"
    save_artifact(run / "artifact", tables={"data": {"path": str(tmp_path / "data")}}, columns=priced())
    arguments = ("recommend", run, "--all", "--k", "3", "--out", out, "--overwrite")
    result = slatewise(*arguments, "--where", "in_stock and price <= 5", "--json").value
    # u1 and u2 have used one of i1, i2, i4 and i5, which match
    assert (result["rows"], result["short_slates"], result["notes"]) == (9, 0, ["4 of 40 items match --where"])
    slates = pl.read_csv(out)
    assert set(slates["item_id"]) <= {"i1", "i2", "i4", "i5"}
    (tmp_path / "these.txt").write_text("item_id\ni4\ni9\n", encoding="utf-8")
    both = slatewise(*arguments, "--where", "price <= 5", "--candidates", tmp_path / "these.txt", "--json").value
    assert (both["rows"], set(pl.read_csv(out)["item_id"])) == (3, {"i4"})
    (tmp_path / "mask.csv").write_text("item_id\ni1\ni2\nnever heard of\n", encoding="utf-8")
    masked = slatewise(*arguments, "--where", "price <= 5", "--mask", tmp_path / "mask.csv", "--json").value
    assert masked["notes"][1] == "1 item of mask.csv not in the catalog of the run"
    assert set(pl.read_csv(out)["item_id"]) <= {"i0", "i3", "i4", "i5"}
    refused = slatewise(*arguments, "--where", "price in (1, 2)", "--mask", tmp_path / "mask.csv")
    assert (refused.code, "mask.csv: every item that may be shown is masked" in refused.err) == (2, True)
    for where, message in (
        (
            "prise <= 5",
            'where: the items have no column "prise"; do you mean "price"? (expected one of: item_id (text)',
        ),
        ("price > 99", "where: no item of 40 matches 'price > 99'"),
    ):
        refused = slatewise(*arguments, "--where", where)
        assert refused.code == 2
        assert message in refused.err


def test_columns_of_a_later_log_count(tmp_path: Path, slatewise: Command) -> None:
    users = [[{"items": [FIRST_ITEM]}]]
    prices = pa.table({"price": pa.array([99.0, 98.0, *[None] * 38])})
    toy_dataset(tmp_path / "data", written_log(users), catalog=catalog(columns=prices))
    save_artifact(tmp_path / "run" / "artifact", tables={"data": {"path": str(tmp_path / "data")}}, columns=priced())
    out = tmp_path / "recs.csv"
    arguments = ("recommend", tmp_path / "run", "--all", "--k", "40", "--allow-repeats", "--out", out)
    slatewise(*arguments, "--where", "price > 37")
    # i0 and i1 have new prices, the others those of the run
    assert set(pl.read_csv(out)["item_id"]) == {"i0", "i1", "i38", "i39"}
