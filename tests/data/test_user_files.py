"""Tables of users: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from slatewise.data.reading.user_files import encode_users, fit_users, read_user_columns
from slatewise.errors import InputError


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "users.csv").write_text(text, encoding="utf-8")
    return tmp_path / "users.csv"


def test_numbers_and_categories_by_hand(tmp_path: Path) -> None:
    users = fit_users(read_user_columns(written(tmp_path, "user_id,age,land\nann,20,a\nbob,40,b\ncid,,\n")))
    assert [scale.name for scale in users.scales] == ["age", "land=a", "land=b"]
    assert users.values.tolist() == [[-1.0, 1.0, -1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0]]


def test_the_file_of_users_of_movielens(tmp_path: Path) -> None:
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n3|23|M|writer|32067\n", "utf-8")
    users = fit_users(read_user_columns(tmp_path / "u.user"))
    assert users.users.names.to_pylist() == ["1", "2", "3"]
    assert {"attribute_1", "attribute_2=F"} <= {scale.name for scale in users.scales}


def test_another_table_on_the_same_scales(tmp_path: Path) -> None:
    users = fit_users(read_user_columns(written(tmp_path, "user_id,age,land\nann,20,a\nbob,40,b\n")))
    later = read_user_columns(written(tmp_path, "user_id,land,size,age\ndan,c,7,50\neve,a,8,\n"))
    encoded, notes = encode_users(later, users.scales)
    assert encoded.values.tolist() == [[2.0, -1.0, -1.0], [0.0, 1.0, -1.0]]
    assert any('1 cells of column "land" hold a value that is new' in note for note in notes)
    assert any('column "size" is no feature of the users here: not used.' in note for note in notes)


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    rows = "".join(f"u{n},n{n},{'x' if n == 3 else n},\n" for n in range(200))
    users = read_user_columns(written(tmp_path, f"user_id,name,age,nothing\n{rows}"))
    assert list(users.columns) == ["age"]
    assert [note.removeprefix("users.csv: ") for note in users.notes] == [
        'column "name" has 200 different values, more than 128: not used.',
        'column "age": 1 of 200 cells are not numbers, their value is unknown (the first is "x", line 5).',
        'column "nothing" is empty: not used.',
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,age\nann,1\nann,2\n", r'line 3, column "user_id": "ann" is here a second time .*every user once'),
        ("user_id,age\n,1\nbob,2\n", r'line 2, column "user_id": a user without a name'),
        ("item_id,price\n1,2\n", "it is no table of users; its columns are item_id, price"),
        ("user_id,item_id,age\n1,2,3\n", "it is no table of users"),
    ],
)
def test_tables_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_user_columns(written(tmp_path, text))


def test_a_table_that_describes_nothing(tmp_path: Path) -> None:
    rows = "".join(f"u{n},n{n}\n" for n in range(200))
    with pytest.raises(InputError, match="no column describes the users"):
        fit_users(read_user_columns(written(tmp_path, f"user_id,name\n{rows}")))
    with pytest.raises(InputError, match="no such file"):
        read_user_columns(tmp_path / "missing.csv")
