"""From a canonical frame to the data set on disk, on logs small enough to work out by hand."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slatewise.data import Dataset, Provenance, load, prepare
from slatewise.data.manifest import Counts
from slatewise.data.preparation import assemble, hash_names, stable_order
from slatewise.data.prepared import COLUMNS, changed_files, check_output
from slatewise.data.reading.faults import RowError
from slatewise.errors import InputError

SHOWN = pl.DataFrame(
    {
        # ann's later event stands first, bob's rows between its rows
        "user_id": ["ann", "bob", "ann", "ann", "ann", "ann"],
        "item_id": ["tea", "tea", "rum", "gin", "rum", "ale"],
        "timestamp": [50, 20, 50, 10, 10, 50],
        "reward": [0.0, 0.0, 3.0, 1.0, 1.0, 3.0],
        "event_id": [7, 9, 7, 4, 4, 7],
        "position": [1, 1, 3, 2, 1, 2],
        "propensity": [0.5, 1.0, 0.25, None, None, 0.125],
        "policy_id": ["new", "old", "new", None, None, "new"],
        "session_id": ["s2", "s1", "s2", "s2", "s2", "s2"],
        "context_hour": [5.0, 2.0, 5.0, 1.0, 1.0, 5.0],
    }
)


def test_slates_by_hand(tmp_path: Path) -> None:
    data = prepare(SHOWN, out=tmp_path / "out", name="drinks")
    log = data.interactions
    # by time: ann's event 4 (t=10), bob's 9 (t=20), ann's 7 (t=50); ann was first
    assert data.users.names.to_pylist() == ["ann", "bob"]
    assert data.catalog.vocabulary.names.to_pylist() == ["gin", "rum", "tea", "ale"]
    np.testing.assert_array_equal(log.user_offsets, [0, 2, 3])
    np.testing.assert_array_equal(log.event_offsets, [0, 2, 5, 6])
    np.testing.assert_array_equal(log.event_id, [4, 7, 9])
    np.testing.assert_array_equal(log.time, [10, 50, 20])
    np.testing.assert_array_equal(log.item, [3, 2, 4, 5, 3, 4])
    # event 4: both rows are worth 1; event 7: positions 2 and 3 are worth 3; bob used nothing
    np.testing.assert_array_equal(log.used, [True, True, False, True, True, False])
    np.testing.assert_array_equal(log.used_time, [10, 10, 0, 50, 50, 0])
    np.testing.assert_array_equal(log.use_reward, [1, 1, 0, 3, 3, 0])
    np.testing.assert_array_equal(log.session_end, [False, True, True])
    np.testing.assert_array_equal(log.logp_known, [False, False, True, True, True, True])
    np.testing.assert_allclose(log.logp, np.log([1, 1, 0.5, 0.125, 0.25, 1]), atol=1e-7)
    np.testing.assert_array_equal(log.policy_id, [0, 2, 1])
    assert data.policies.names.to_pylist() == ["", "old", "new"]
    np.testing.assert_array_equal(log.context, [[1], [5], [2]])
    assert (data.kind, data.simulated, log.slate_size) == ("impressions", False, 3)


def test_every_rating_is_an_event_whose_item_was_used(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"user_id": ["u", "u", "u"], "item_id": ["a", "b", "c"], "timestamp": [3, 1, 1], "reward": [5.0, -1.0, 0.0]}
    )
    log = prepare(frame, out=tmp_path / "out", name="ratings").interactions
    np.testing.assert_array_equal(log.event_id, [0, 1, 2])
    np.testing.assert_array_equal(log.reward, [-1, 0, 5])  # b and c keep their order: equal times
    assert log.used.all()
    np.testing.assert_array_equal(log.used_time, [1, 1, 3])
    np.testing.assert_array_equal(log.use_reward, [-1, 0, 5])
    assert not log.session_end.any()


def test_impressions_without_event_are_slates_of_one(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": ["u", "u"],
            "item_id": ["a", "b"],
            "timestamp": [1, 2],
            "reward": [0.0, 1.0],
            "position": [3, 1],
        }
    )
    log = prepare(frame, out=tmp_path / "out", name="clicks").interactions
    np.testing.assert_array_equal(log.used, [False, True])


def test_what_is_said_to_be_used_stands_above_rewards(tmp_path: Path) -> None:
    frame = SHOWN.with_columns(used=pl.Series([True, False, False, False, True, False]))
    log = prepare(frame, out=tmp_path / "out", name="drinks").interactions
    np.testing.assert_array_equal(log.used, [True, False, True, False, False, False])
    np.testing.assert_array_equal(log.use_reward, [1, 0, 0, 0, 0, 0])


def test_uses_have_times_and_rewards_of_their_own(tmp_path: Path) -> None:
    frame = SHOWN.with_columns(
        used_time=pl.Series([None, None, 70, None, 15, None]), use_reward=pl.Series([None, None, 2.0, None, None, None])
    )
    log = prepare(frame, out=tmp_path / "out", name="drinks").interactions
    np.testing.assert_array_equal(log.used_time, [15, 10, 0, 50, 70, 0])
    np.testing.assert_array_equal(log.use_reward, [1, 1, 0, 3, 2, 0])
    np.testing.assert_array_equal(log.reward, [1, 1, 0, 3, 3, 0])
    early = frame.with_columns(used_time=pl.Series([None, None, 49, None, 15, None]))
    with pytest.raises(RowError, match="is before the timestamp of its row"):
        prepare(early, out=tmp_path / "early", name="drinks")
    broken = frame.with_columns(use_reward=pl.Series([None, None, float("inf"), None, None, None]))
    with pytest.raises(RowError, match="is no finite number"):
        prepare(broken, out=tmp_path / "broken", name="drinks")


def test_items_of_the_table_come_first_and_bring_words(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "item_id": ["ale", "mead", "rum"],
            "text": ["Pale ale", "Mead", None],
            "labels": [["beer", "cold"], ["wine"], None],
            "feature_price": [1.0, 3.0, None],
        }
    )
    catalog = prepare(SHOWN, out=tmp_path / "out", name="drinks", items=items).catalog
    assert catalog.vocabulary.names.to_pylist() == ["ale", "mead", "rum", "gin", "tea"]
    assert [catalog.title(item) for item in range(2, 7)] == ["Pale ale", "Mead", "rum", "gin", "tea"]
    assert [catalog.group_names[group] for group in catalog.group] == ["", "", "beer", "wine", "", "", ""]
    # price: mean 2, deviation 1, unknown at the mean; then one column each for beer, cold, wine
    np.testing.assert_allclose(catalog.features[:, 0], [0, 0, -1, 1, 0, 0, 0])
    np.testing.assert_allclose(catalog.features[2:, 1], [2, -0.5, -0.5, -0.5, -0.5], rtol=1e-6)
    assert catalog.features.shape == (7, 4)


def test_written_and_loaded_are_the_same_and_mapped(tmp_path: Path) -> None:
    written = prepare(
        SHOWN, out=tmp_path / "out", name="drinks", provenance=Provenance(source={"format": "frame"}, simulated=True)
    )
    read = load(tmp_path / "out")
    assert read.manifest == written.manifest
    assert read.simulated
    assert read.manifest.counts == Counts(
        users=2, items=4, events=3, rows=6, policies=2, known_propensities=4, sessions=2
    )
    assert isinstance(read.interactions.item, np.memmap)
    assert not read.interactions.item.flags.writeable
    assert changed_files(tmp_path / "out") == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@given(order=st.permutations(range(SHOWN.height)))
def test_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    log, users, names, policies, _ = assemble(SHOWN[order], kind="impressions")
    expected, *others = assemble(SHOWN, kind="impressions")
    again = {item: str(names[int(item) - 2]) for item in log.item}
    assert [again[item] for item in log.item] == [str(others[1][int(item) - 2]) for item in expected.item]
    assert users.names.equals(others[0].names)
    np.testing.assert_array_equal(log.used, expected.used)
    np.testing.assert_array_equal(log.event_id, expected.event_id)
    assert set(policies.names.to_pylist()) == set(others[2].names.to_pylist())


def test_fingerprint_follows_the_data_not_the_name(tmp_path: Path) -> None:
    one = prepare(SHOWN, out=tmp_path / "one", name="one")
    two = prepare(SHOWN, out=tmp_path / "two", name="two")
    other = prepare(SHOWN.with_columns(reward=pl.lit(1.0)), out=tmp_path / "three", name="one")
    assert one.fingerprint == two.fingerprint != other.fingerprint


def test_event_names_hash_to_63_bits() -> None:
    numbers = hash_names(["a", "b"])
    # first 8 bytes of BLAKE2b (digest size 8), little endian, halved
    assert numbers.tolist() == [0x2F42665B399EF840 >> 1, 0x754F854DE3C27284 >> 1]


def test_names_of_numbers_keep_their_number(tmp_path: Path) -> None:
    frame = SHOWN.with_columns(event_id=pl.col("event_id").cast(pl.String))
    log = prepare(frame, out=tmp_path / "out", name="drinks").interactions
    np.testing.assert_array_equal(log.event_id, [4, 7, 9])


def test_colliding_hashes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same:
        def __init__(self, *_: object, **__: object) -> None: ...
        def digest(self) -> bytes:
            return b"12345678"

    monkeypatch.setattr("slatewise.data.preparation.hashlib.blake2b", Same)
    with pytest.raises(InputError, match="hash to the same number"):
        hash_names(["a", "b"])


def _with(column: str, row: int, value: Any) -> pl.DataFrame:
    values = SHOWN[column].to_list() if column in SHOWN.columns else [None] * SHOWN.height
    values[row] = value
    return SHOWN.with_columns(pl.Series(column, values, dtype=SHOWN[column].dtype if column in SHOWN.columns else None))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("reward", float("nan"), "not a finite number"),
        ("reward", float("inf"), "not a finite number"),
        ("reward", None, "not a finite number"),
        ("propensity", 0.0, "not a propensity"),
        ("propensity", 1.5, "not a propensity"),
        ("propensity", -0.5, "not a propensity"),
        ("propensity", float("nan"), "not a propensity"),
        ("position", -1, "not a position"),
        ("user_id", "", "not a user"),
        ("item_id", None, "not an item"),
        ("timestamp", -1, "not a usable time"),
        ("timestamp", 1_600_000_000_000_000_000, "not a usable time"),
        ("context_hour", float("inf"), "not a finite number"),
    ],
)
def test_a_bad_value_is_named_with_its_row(tmp_path: Path, column: str, value: Any, words: str) -> None:
    with pytest.raises(RowError, match=words) as caught:
        prepare(_with(column, 3, value), out=tmp_path / "out", name="bad")
    assert (caught.value.row, caught.value.column) == (3, column)
    assert "row 4" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_log_of_log_propensities(tmp_path: Path) -> None:
    frame = SHOWN.drop("propensity").with_columns(logp=pl.Series([-1.0, 0.0, -2.0, None, None, -3.0]))
    log = prepare(frame, out=tmp_path / "out", name="drinks").interactions
    np.testing.assert_array_equal(log.logp, [0, 0, -1, -3, -2, 0])
    for value in (0.1, float("nan"), float("-inf")):
        bad = frame.with_columns(logp=pl.Series([value, 0, 0, 0, 0, 0], dtype=pl.Float64))
        with pytest.raises(RowError, match="not a log-propensity"):
            prepare(bad, out=tmp_path / "bad", name="bad")


def test_an_event_has_one_user_and_a_position_once(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="different users"):
        prepare(_with("user_id", 5, "bob"), out=tmp_path / "out", name="bad")
    with pytest.raises(RowError, match="twice in one event"):
        prepare(_with("position", 5, 3), out=tmp_path / "out", name="bad")


def test_missing_and_unknown_columns_and_no_rows(tmp_path: Path) -> None:
    for frame, words in (
        (SHOWN.drop("item_id"), 'no column "item_id"'),
        (SHOWN.with_columns(colour=pl.lit(1)), '"colour" is not a column'),
        (SHOWN.head(0), "no rows"),
        (SHOWN.with_columns(timestamp=pl.lit("soon")), "cannot become"),
    ):
        with pytest.raises(InputError, match=words):
            prepare(frame, out=tmp_path / "out", name="bad")


def test_uses_are_events_of_one_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every row is an event"):
        prepare(SHOWN, out=tmp_path / "out", name="bad", kind="uses")


def test_a_table_with_one_item_twice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='"ale" twice'):
        prepare(SHOWN, out=tmp_path / "out", name="bad", items=pl.DataFrame({"item_id": ["ale", "ale"]}))


def test_only_prepared_data_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("all of it")
    with pytest.raises(InputError, match="would be replaced"):
        prepare(SHOWN, out=precious, name="drinks")
    with pytest.raises(InputError, match="not a folder"):
        prepare(SHOWN, out=precious / "thesis.txt", name="drinks")
    with pytest.raises(InputError, match="replace the input"):
        check_output(precious, source=precious / "thesis.txt")
    assert (precious / "thesis.txt").read_text() == "all of it"
    prepare(SHOWN, out=tmp_path / "out", name="one")
    assert prepare(SHOWN, out=tmp_path / "out", name="two").name == "two"
    monkeypatch.chdir(tmp_path / "out")
    for place in (".", "..", str(tmp_path / "out")):
        with pytest.raises(InputError, match="current folder"):
            check_output(Path(place))


def _damage(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(bytes(len(content)))


def _manifest(folder: Path, **changes: Any) -> None:
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_damaged_data_sets_say_what_is_wrong(tmp_path: Path) -> None:
    numbers = itertools.count()

    def fresh() -> Path:
        return prepare(SHOWN, out=tmp_path / str(next(numbers)), name="drinks").path

    with pytest.raises(InputError, match="is missing"):
        load(tmp_path / "nothing")
    for file in ("item.npy", "items.parquet", "users.parquet"):
        folder = fresh()
        (folder / file).unlink()
        with pytest.raises(InputError, match=f"{file}: the file is missing"):
            load(folder)
        folder = fresh()
        with (folder / file).open("ab") as stream:
            stream.write(b"x")
        with pytest.raises(InputError, match=rf"{file}: it has [\d,]+ bytes"):
            load(folder)
        folder = fresh()
        _damage(folder, file)
        assert changed_files(folder) == [file]
        with pytest.raises(InputError, match=f"{file}: no "):
            load(folder, verify=False)
        with pytest.raises(InputError, match=f"{file}: its bytes have changed"):
            load(folder)
    for changes, words in (
        ({"format": 99}, "format 99"),
        ({"format": 1}, r"format 1; this version reads format 2.*`slatewise data import LOG --out .*\d`"),
        ({"format": 1, "source": {"files": ["log.csv"]}}, r"Make it again: `slatewise data import log\.csv --out "),
        ({"format": 1, "source": {"dataset": "ml-100k"}}, r"Make it again: `slatewise data fetch ml-100k --out "),
        ({"what": "a cake"}, "not the manifest of"),
        ({"files": {"../../etc/passwd": {"bytes": 0, "sha256": ""}}}, "list of files"),
        ({"files": {"time.npy": {}}}, r"missing required field `bytes`.*Make it again: `slatewise data import"),
        ({"counts": {"users": "two"}}, r"manifest\.json: Expected `int`, got `str` - at `\$\.counts\.users`"),
    ):
        folder = fresh()
        _manifest(folder, **changes)
        with pytest.raises(InputError, match=words):
            load(folder)
    folder = fresh()
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load(folder)


def test_a_flipped_byte_in_any_file_is_noticed(tmp_path: Path) -> None:
    folder = prepare(
        SHOWN, out=tmp_path / "data", name="drinks", provenance=Provenance(source={"files": ["log.csv"]})
    ).path
    files = [file for file in sorted(folder.iterdir()) if file.name != "manifest.json"]
    assert len(files) > len(COLUMNS)
    command = f"`slatewise data import log.csv --out {folder}`"
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=f"{re.escape(str(file))}: its bytes have changed .*{re.escape(command)}"):
            load(folder)
        file.write_bytes(content)
    load(folder)


def test_columns_that_do_not_fit_together(tmp_path: Path) -> None:
    long: Dataset = prepare(SHOWN, out=tmp_path / "long", name="long")
    short = prepare(SHOWN.head(2), out=tmp_path / "short", name="short")
    for file in ("reward.npy", "users.parquet"):
        (long.path / file).write_bytes((short.path / file).read_bytes())
    files = json.loads((long.path / "manifest.json").read_text())["files"]
    files = {file: {"bytes": (long.path / file).stat().st_size, "sha256": ""} for file in files}
    _manifest(long.path, files=files)
    with pytest.raises(InputError, match="different lengths: reward"):
        load(long.path, verify=False)
    np.save(long.path / "reward.npy", np.zeros(6))
    files["reward.npy"]["bytes"] = (long.path / "reward.npy").stat().st_size
    _manifest(long.path, files=files)
    with pytest.raises(InputError, match="it holds float64"):
        load(long.path, verify=False)


def test_names_are_plain_text(tmp_path: Path) -> None:
    data = prepare(SHOWN, out=tmp_path / "out", name="drinks")
    assert data.users.encode(pa.array(["bob", "nobody"])).tolist() == [1, -1]


@given(
    keys=st.lists(st.integers(0, 2**40), min_size=1, max_size=30) | st.lists(st.integers(0, 2**62), max_size=4),
    few=st.booleans(),
)
def test_order_of_packed_keys_is_stable(keys: list[int], few: bool) -> None:
    key = np.array([each % 3 for each in keys] if few else keys, np.int64)
    np.testing.assert_array_equal(stable_order(key), np.argsort(key, kind="stable"))
