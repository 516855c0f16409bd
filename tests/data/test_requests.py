"""Conditions of logged slates: from the records of a log to the request that a policy is asked again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slatewise.data import Dataset, import_path, load
from slatewise.data.catalogs import catalog_version, mask_version, read_mask, write_items, write_mask
from slatewise.data.decisions_and_outcomes import CatalogRecord, Decision, Outcome, Record, decode, encode
from slatewise.data.event_log import load_events
from slatewise.data.item_columns import ItemColumns
from slatewise.data.prepared import read_manifest
from slatewise.data.reading.validation import validate
from slatewise.data.requests import excluded_items, like_conditions, logged_slates, seen_items, slate_request
from slatewise.errors import InputError
from slatewise.types import Exploration

DRAW = {"top_m": 7, "keep": 1, "temperature": 0.1}


def decision(event: str, slate: str, *, time: int, user: str = "ann", **fields: object) -> Decision:
    items = slate.split()
    table = {"record": "decision", "event_id": event, "timestamp": time, "user_id": user, "slate": items}
    return msgspec.convert({**table, "logp": [-0.5] * len(items), **fields}, Decision)


def click(event: str, item: str, *, time: int) -> Outcome:
    return Outcome(event_id=event, timestamp=time, item_id=item, type="click")


RECORDS: list[Record] = [
    CatalogRecord(timestamp=1, catalog_version="v1", items=6, file="catalog-v1.parquet"),
    decision("1", "a b", time=10, k=2, exclude_seen=True, catalog_version="v1"),
    click("1", "b", time=11),
    decision(
        "2",
        "c a",
        time=20,
        k=3,
        exploration=DRAW,
        exclude=["d", "nonsense", "d"],
        exclude_seen=True,
        candidates=["c", "a", "e"],
        fixed=[{"position": 1, "item_id": "a"}],
        catalog_version="v1",
    ),
    click("2", "a", time=21),
    decision("3", "c e", time=30, k=3, exploration=DRAW, exclude_seen=True, candidates=["c", "e", "b"]),
    decision("4", "a", time=40),  # of a time when nobody wrote the conditions down
    decision("5", "a c", time=15, user="ben", k=2),
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "events-1.jsonl").write_bytes(encode(RECORDS))
    write_items(tmp_path / "log", "v1", ItemColumns(names=pa.array(["a", "b", "c", "d", "e", "f"], pa.string())))
    return tmp_path / "log"


def names(data: Dataset, items: list[int]) -> list[str]:
    return [data.catalog.vocabulary.name(item) if item else "" for item in items]


def test_the_conditions_of_every_event(log: Path, tmp_path: Path) -> None:
    data = import_path(log, tmp_path / "data")
    requests = data.interactions.requests
    assert requests is not None
    assert data.interactions.event_id.tolist() == [1, 2, 3, 4, 5]
    assert requests.k.tolist() == [2, 3, 3, 0, 2]
    assert requests.top_m.tolist() == [0, 7, 7, 0, 0]
    assert requests.keep.tolist() == [0, 1, 1, 0, 0]
    assert requests.temperature.tolist() == [1.0, 0.1, 0.1, 1.0, 1.0]
    assert requests.exclude_seen.tolist() == [True, True, True, False, False]
    assert requests.catalog.tolist() == [1, 1, 0, 0, 0]
    assert data.catalogs.names.to_pylist() == ["", "v1"]
    assert requests.exclude is not None
    assert requests.candidates is not None
    assert requests.fixed is not None
    assert [names(data, requests.exclude.of(event).tolist()) for event in range(5)] == [[], ["d", "d"], [], [], []]
    assert [names(data, requests.candidates.of(event).tolist()) for event in range(5)] == [
        [], ["c", "a", "e"], ["c", "e", "b"], [], [],
    ]  # fmt: skip
    assert [names(data, requests.fixed.of(event).tolist()) for event in range(5)] == [[], ["", "a", ""], [], [], []]
    # all of the recorded catalog, in its order: e was never shown and f never named; "nonsense" is nowhere but excluded
    assert data.catalog.vocabulary.names.to_pylist() == ["a", "b", "c", "d", "e", "f"]
    again = load(data.path).interactions.requests
    assert again is not None
    assert isinstance(again.k, np.memmap)
    assert again.candidates is not None
    assert again.candidates.item.tolist() == requests.candidates.item.tolist()
    assert all(check.passed for check in validate(data.path).checks if check.stops_import)


def test_a_request_is_made_again(log: Path, tmp_path: Path) -> None:
    data = import_path(log, tmp_path / "data")
    log_ = data.interactions
    request = slate_request(log_, np.array([1]), num_rows=8)
    assert request.exclude is not None
    assert request.candidates is not None
    assert request.fixed is not None
    # d was excluded, b used before; a is used after
    assert names(data, request.exclude[0].tolist()) == ["d", "d", "b"]
    assert names(data, request.candidates[0].tolist()) == ["c", "a", "e"]
    assert names(data, request.fixed[0].tolist()) == ["", "a", ""]
    assert (request.k, request.exploration) == (3, Exploration(top_m=7, keep=1, temperature=0.1))
    both = slate_request(log_, np.array([1, 2]), num_rows=8)
    assert both.exclude is not None
    assert both.fixed is not None
    assert [names(data, row) for row in both.exclude.tolist()] == [["d", "d", "b"], ["a", "b", ""]]
    assert [names(data, row) for row in both.fixed.tolist()] == [["", "a", ""], ["", "", ""]]
    greedy = slate_request(log_, np.array([0]), num_rows=8)
    assert (greedy.k, greedy.exploration, greedy.candidates, greedy.fixed) == (2, None, None, None)
    assert greedy.exclude is not None
    assert greedy.exclude.shape == (1, 0)


def test_a_use_that_arrived_later_had_not_been_seen(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    decisions = [decision(str(number), "a b", time=10 * number, k=2, exclude_seen=True) for number in (1, 2, 3)]
    late = [click("1", "b", time=25), click("1", "a", time=20)]  # of the first slate, the one after the second decision
    file.write_bytes(encode([*decisions, *late]))
    data = import_path(file, tmp_path / "data")
    seen = [names(data, items.tolist()) for items in seen_items(data.interactions, np.arange(3))]
    assert [sorted(items) for items in seen] == [[], ["a"], ["a", "b"]]


def test_the_numbers_of_another_catalog(log: Path, tmp_path: Path) -> None:
    data = import_path(log, tmp_path / "data")
    # a policy that knows a, b and e by other numbers
    others = {"a": 5, "b": 2, "e": 3}
    numbers = np.array([0, 1, *(others.get(name, 1) for name in data.catalog.vocabulary.names.to_pylist())])
    request = slate_request(data.interactions, np.array([1]), num_rows=8, numbers=numbers)
    assert request.exclude is not None
    assert request.candidates is not None
    assert request.exclude.tolist() == [[2]]
    assert request.candidates.tolist() == [[1, 5, 3]]
    slates = logged_slates(data.interactions, np.array([1, 2]), 3, numbers=numbers)
    assert slates.items.tolist() == [[1, 5, 0], [1, 3, 0]]
    assert slates.logp.tolist() == [[-0.5, -0.5, 0.0]] * 2
    assert [seen.tolist() for seen in seen_items(data.interactions, np.array([1, 2, 4]), numbers)] == [[2], [2, 5], []]


def test_events_of_like_conditions(log: Path, tmp_path: Path) -> None:
    interactions = import_path(log, tmp_path / "data").interactions
    groups = like_conditions(interactions, np.array([4, 0, 2, 1]))
    assert sorted(group.tolist() for group in groups) == [[2, 1], [4, 0]]
    with pytest.raises(ValueError, match="4 events under 2 conditions"):
        slate_request(interactions, np.array([4, 0, 2, 1]), num_rows=8)
    with pytest.raises(ValueError, match="0 events under 0 conditions"):
        slate_request(interactions, np.array([], np.int64), num_rows=8)
    with pytest.raises(InputError, match="under which conditions the slate of event 4 was drawn"):
        slate_request(interactions, np.array([0, 3]), num_rows=8)


def test_a_log_without_conditions_has_no_columns_of_them(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode([RECORDS[6], click("4", "a", time=50)]))
    data = import_path(file, tmp_path / "data")
    assert data.interactions.requests is None
    assert not [name for name in read_manifest(data.path).files if "request" in name or "catalogs" in name]
    with pytest.raises(InputError, match="under which conditions the slate of event 4 was drawn"):
        slate_request(data.interactions, np.array([0]), num_rows=8)


def test_only_the_columns_that_are_needed_are_written(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode([RECORDS[1]]))
    data = import_path(file, tmp_path / "data")
    assert sorted(name for name in read_manifest(data.path).files if "request" in name) == [
        "request_catalog.npy", "request_exclude_seen.npy", "request_k.npy", "request_keep.npy",
        "request_temperature.npy", "request_top_m.npy",
    ]  # fmt: skip


def test_without_the_file_of_a_catalog_every_excluded_name_is_an_item(log: Path, tmp_path: Path) -> None:
    (log / "catalog-v1.parquet").unlink()
    events = load_events(log)
    assert events.tally.catalogs_missing == ("catalog-v1.parquet",)
    assert "catalog-v1.parquet" in events.tally.sentences()[-1]
    assert "nonsense" in import_path(log, tmp_path / "data").catalog.vocabulary.names.to_pylist()
    (log / "catalog-v1.parquet").write_text("no Parquet")
    with pytest.raises(InputError, match=r"catalog-v1\.parquet: no items of a catalog"):
        load_events(log)


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("request_k", -1, "k, top_m and keep are 0 or more"),
        ("request_temperature", 0.0, "temperatures are above 0"),
        ("request_candidates_item", 99, "every candidate item is in the catalog"),
        ("request_exclude_item", 0, "every excluded item is in the catalog"),
        ("request_fixed_item", 1, "every fixed item is in the catalog"),
        ("request_fixed_offsets", 9, "offsets of fixed items ascend from 0"),
    ],
)
def test_conditions_are_checked(log: Path, tmp_path: Path, column: str, value: float, check: str) -> None:
    path = import_path(log, tmp_path / "data").path
    broken = np.load(path / f"{column}.npy")
    broken[1] = value
    np.save(path / f"{column}.npy", broken)
    assert [each.name for each in validate(path).checks if each.stops_import and not each.passed] == [
        "every file is unchanged", check,
    ]  # fmt: skip
    np.save(path / f"{column}.npy", broken[:-1])
    assert validate(path).checks[0].examples[0].count(f"{column}.npy: it has")


def test_a_catalog_alone_is_no_log(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode(RECORDS[:1]))
    with pytest.raises(InputError, match="there is no decision or outcome"):
        import_path(file, tmp_path / "data")


def test_decisions_that_differ_in_their_conditions_are_different(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(encode([RECORDS[3], RECORDS[3]]))
    assert load_events(file).tally.repeated_decisions == 1
    for fields in ({"k": 4}, {"k": 3, "candidates": ["c", "a"]}):
        file.write_bytes(encode([decision("2", "c a", time=20, k=3), decision("2", "c a", time=20, **fields)]))
        with pytest.raises(InputError, match="different decisions with one event_id: 2"):
            load_events(file)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 1}, "the slate has 2 items for k = 1"),
        ({"exclude": ["d"]}, "need k"),
        ({"exploration": DRAW}, "need k"),
        ({"k": 2, "fixed": [{"position": 1, "item_id": "c"}]}, "position 1 shows 'c'; the slate does not"),
        ({"k": 3, "fixed": [{"position": 2, "item_id": "c"}]}, "position 2 shows 'c'; the slate does not"),
        ({"k": 3, "fixed": [{"position": 0, "item_id": "c"}] * 2}, "fixed names a position twice"),
        ({"k": 2, "candidates": []}, "length >= 1"),
        ({"k": 2, "exploration": {"top_m": 0, "keep": 0, "temperature": 1.0}}, ">= 1"),
    ],
)
def test_conditions_that_cannot_be(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decision("1", "c a", time=1, **fields)  # type: ignore[arg-type]  # any fields at all


def test_a_temperature_survives_bit_for_bit() -> None:
    (back,) = decode(encode([decision("1", "a", time=1, k=1, exploration={**DRAW, "temperature": 0.1 + 0.2})]))
    assert isinstance(back, Decision)
    assert back.exploration is not None
    assert back.exploration.temperature == 0.1 + 0.2


def test_a_version_names_the_items_and_the_mask(tmp_path: Path) -> None:
    items = pa.array(["ab", "c"], pa.string())
    version = catalog_version(items)
    assert len(version) == 16
    assert version == catalog_version(pa.array(["x", "ab", "c"], pa.string())[1:])
    assert version == mask_version(version, pa.array([], pa.string()))
    others = {
        catalog_version(pa.array(["a", "bc"], pa.string())),
        catalog_version(pa.array(["c", "ab"], pa.string())),
        mask_version(version, pa.array(["ab"])),
        mask_version(version, pa.array(["c"])),
        catalog_version(pa.array([], pa.string())),
    }
    assert len(others | {version}) == 6
    priced = catalog_version(items, columns=pa.table({"price": [1.0, None]}))
    changed = [{"price": [1.0, 2.0]}, {"price": [None, 1.0]}, {"cost": [1.0, None]}, {"price": ["1.0", None]}]
    assert len({version, priced, *(catalog_version(items, columns=pa.table(table)) for table in changed)}) == 6
    # as another file would hold the same values
    halves = pa.concat_tables(
        [pa.table({"price": [1.0]}), pa.table({"price": [None]}).cast(pa.schema({"price": "f8"}))]
    )
    assert catalog_version(items, columns=halves) == priced
    name = write_items(tmp_path, version, ItemColumns(names=items, columns=pa.table({"price": [1, None]})))
    assert pq.read_table(tmp_path / name).to_pydict() == {
        "item_id": ["ab", "c"],
        "columns": [{"price": 1}, {"price": None}],
    }
    name = write_mask(tmp_path, "m", pa.array(["c"]))
    assert read_mask(tmp_path / name).to_pylist() == ["c"]


def test_a_changed_byte_in_the_items_of_a_catalog_is_noticed(log: Path) -> None:
    file = log / "catalog-v1.parquet"
    content = file.read_bytes()
    place = content.index(b"c\x01\x00\x00\x00d")  # the names stand there as they are
    file.write_bytes(content[:place] + b"x" + content[place + 1 :])
    with pytest.raises(InputError, match=r"catalog-v1\.parquet: no items of a catalog: .*CRC"):
        load_events(log)


def test_a_fixed_item_may_have_been_seen() -> None:
    explicit, seen, fixed = np.array([4, 1, 4]), np.array([2, 3]), np.array([0, 3])
    assert excluded_items(explicit, seen, fixed).tolist() == [4, 4, 2]
