from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slatewise.features import FeatureScale
from slatewise.log import Vocabulary
from slatewise.user_file import UserTable, read_users, write_users

SCALES = (
    FeatureScale(name="age", mean=30.0, deviation=10.0),
    FeatureScale(name="land=a", mean=0.5, deviation=0.5),
    FeatureScale(name="land=b", mean=0.5, deviation=0.5),
)


def table(names: list[str], values: list[list[float]], scales: tuple[FeatureScale, ...] = SCALES) -> UserTable:
    users = Vocabulary(names=pa.array(names, pa.string()), first=0, unknown=-1)
    return UserTable(users=users, values=np.array(values, np.float32), scales=scales)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    users = table(["ann", "日本"], [[1.0, 1.0, -1.0], [-0.5, -1.0, 1.0]])
    write_users(tmp_path / "users.parquet", users)
    loaded = read_users(tmp_path / "users.parquet")
    assert loaded.users.names.to_pylist() == ["ann", "日本"]
    np.testing.assert_array_equal(loaded.values, users.values)
    assert loaded.scales == SCALES
    pq.write_table(pa.table({"user_id": ["ann"]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="no features of users"):
        read_users(tmp_path / "other.parquet")


def test_an_unknown_user_is_average() -> None:
    users = table(["ann", "bob"], [[1.0, 1.0, -1.0], [2.0, -1.0, 1.0]])
    assert users.of(pa.array(["bob", "eve"], pa.string())).tolist() == [[2.0, -1.0, 1.0], [0.0, 0.0, 0.0]]
    assert users.row("ann").tolist() == [1.0, 1.0, -1.0]
    assert users.row("eve").tolist() == [0.0, 0.0, 0.0]
    assert users.columns() == {"age": (), "land": ("a", "b")}


def test_values_of_a_request_by_hand() -> None:
    # (45 − 30) / 10, and the two indicators (1 − .5) / .5, (0 − .5) / .5
    assert table(["ann"], [[0.0] * 3]).encode({"age": 45.0, "land": "a"}) == {0: 1.5, 1: 1.0, 2: -1.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 1.0}, 'no feature "size"; there are: age, land'),
        ({"land": "c"}, '"c" is no value of land; there are: a, b'),
        ({"age": "old"}, '"old" is no number; age is one'),
    ],
)
def test_values_that_cannot_be_used(values: dict[str, float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(["ann"], [[0.0] * 3]).encode(values)


def test_later_features_count_on_the_scales_of_the_first() -> None:
    # ages of 20 and 40: (20 − 30) / 10 and (40 − 30) / 10
    later = table(["bob", "eve"], [[0.0], [2.0]], (FeatureScale(name="age", mean=20.0, deviation=10.0),))
    both = table(["ann", "bob"], [[1.0, 1.0, -1.0], [2.0, 1.0, -1.0]]).joined_by(later)
    assert both.users.names.to_pylist() == ["ann", "bob", "eve"]
    assert both.values.tolist() == [[1.0, 1.0, -1.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert both.scales == SCALES
