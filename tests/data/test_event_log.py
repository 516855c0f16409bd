"""Records of served slates: the same bits again, and joined as they should be."""

from __future__ import annotations

import json
import math
import re
import zlib
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from slatewise.data import Report, import_path, prepare
from slatewise.data.decisions_and_outcomes import Decision, Outcome, Record, decode, encode
from slatewise.data.event_log import load_events, read_events
from slatewise.data.reading.validation import validate
from slatewise.data.segments import is_events
from slatewise.errors import InputError

RECORD = "not a decision, outcome or catalog"


def decision(event: str, slate: str, *, time: int = 1_000, user: str = "ann", **fields: object) -> Decision:
    items = slate.split()
    logp = [-0.5 * position for position in range(len(items))]
    return msgspec.convert(
        {
            "record": "decision",
            "event_id": event,
            "timestamp": time,
            "user_id": user,
            "slate": items,
            "logp": logp,
            "policy_version": "v1",
            **fields,
        },
        Decision,
    )


def outcome(event: str, item: str | None = None, *, time: int = 2_000, **fields: object) -> Outcome:
    table = {"record": "outcome", "event_id": event, "timestamp": time, "type": "click", **fields}
    return msgspec.convert(table if item is None else {**table, "item_id": item}, Outcome)


def write(path: Path, *records: Record) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(records))
    return path


def rewards(frame: pl.DataFrame) -> dict[tuple[str, str], tuple[float, bool]]:
    return {(row["event_id"], row["item_id"]): (row["reward"], row["used"]) for row in frame.iter_rows(named=True)}


def uses(frame: pl.DataFrame) -> dict[tuple[str, str], tuple[int, float]]:
    """When each used item was used, and what that was worth."""
    rows = frame.filter("used").iter_rows(named=True)
    return {(row["event_id"], row["item_id"]): (row["used_time"], row["use_reward"]) for row in rows}


def test_a_line_names_its_kind_and_leaves_out_what_is_not_known() -> None:
    lines = encode([decision("e1", "a b"), outcome("e1", "b", value=3.5)])
    assert lines.endswith(b"\n")
    first, second = (json.loads(line) for line in lines.splitlines())
    assert first == {
        "record": "decision",
        "event_id": "e1",
        "timestamp": 1_000,
        "user_id": "ann",
        "slate": ["a", "b"],
        "logp": [-0.0, -0.5],
        "policy_version": "v1",
        "crc32": f"{zlib.crc32(lines.splitlines()[0][:-20]):08x}",
    }
    assert second == {
        "record": "outcome",
        "event_id": "e1",
        "timestamp": 2_000,
        "item_id": "b",
        "type": "click",
        "value": 3.5,
        "crc32": f"{zlib.crc32(lines.splitlines()[1][:-20]):08x}",
    }
    assert all(is_events(line) for line in lines.splitlines())
    assert not any(
        is_events(line) for line in (b'{"event_id": 1}', b'{"record": "song"}', b"user,item", b"[1]", b"\xff")
    )


def test_a_line_ends_with_the_checksum_of_what_stands_before_it() -> None:
    (line,) = encode([outcome("e1", "b")]).splitlines()
    before = b'{"record":"outcome","event_id":"e1","timestamp":2000,"item_id":"b","type":"click"'
    assert zlib.crc32(before) == 0x4D73452C
    assert line == before + b',"crc32":"%08x"}' % zlib.crc32(before)


def test_a_changed_byte_is_noticed_wherever_it_stands(tmp_path: Path) -> None:
    good, (line,) = encode([decision("e1", "a b")]), encode([outcome("e1", "b", value=2.5)]).splitlines()
    file = tmp_path / "1.jsonl"
    in_key = range(len(line) - 20, len(line) - 10)  # the name under which the checksum stands
    for place in range(len(line)):
        changed = bytearray(line)
        changed[place] ^= 4
        file.write_bytes(good + changed + b"\n")
        events = load_events(file)
        if place in in_key and not events.tally.set_aside:
            assert rewards(events.frame)["e1", "b"] == (2.5, True)
        else:
            assert [reason.count for reason in events.tally.set_aside] == [1]
            assert events.tally.set_aside[0].places[0].startswith("1.jsonl, line 2: ")
            assert rewards(events.frame)["e1", "b"] == (0.0, False)


def test_lines_without_checksum_are_read(tmp_path: Path) -> None:
    lines = encode([decision("e1", "a b"), outcome("e1", "b")]).splitlines()
    (tmp_path / "1.jsonl").write_bytes(b"\n".join(line[:-20] + b"}" for line in lines) + b"\n")
    events = load_events(tmp_path)
    assert rewards(events.frame) == {("e1", "a"): (0.0, False), ("e1", "b"): (1.0, True)}
    assert events.tally.sentences() == []


@given(lists(floats(max_value=-0.0, allow_infinity=False, allow_nan=False, width=32), min_size=1, max_size=20))
def test_float32_survives_bit_for_bit(logp: list[float]) -> None:
    sent = np.array(logp, np.float32)
    record = decision("e", " ".join("abcdefghijklmnopqrst"[: len(logp)]), logp=sent.astype(float).tolist())
    (back,) = decode(encode([record]))
    assert isinstance(back, Decision)
    assert back.logp is not None
    assert np.array(back.logp, np.float32).tobytes() == sent.tobytes()


@given(floats(max_value=-0.0, min_value=-1e300))
def test_float64_survives_bit_for_bit(logp: float) -> None:
    (back,) = decode(encode([decision("e", "a", logp=[logp])]))
    assert isinstance(back, Decision)
    assert back.logp is not None
    assert np.float64(back.logp[0]).tobytes() == np.float64(logp).tobytes()


@pytest.mark.parametrize("logp", [[0.1], [math.nan], [-math.inf], [-0.5, -0.5]])
def test_a_decision_refuses_what_is_no_log_propensity(logp: list[float]) -> None:
    with pytest.raises(ValueError, match="logp"):
        Decision(event_id="e", timestamp=0, user_id="u", slate=["a"], logp=logp)


def test_an_outcome_needs_its_item() -> None:
    with pytest.raises(ValueError, match="item_id or position"):
        Outcome(event_id="e", timestamp=0, type="click")


def test_slates_become_rows(tmp_path: Path) -> None:
    write(
        tmp_path / "events-1.jsonl",
        decision("e1", "a b c", session_id="s", context=[0.5, 1.0]),
        outcome("e1", "b"),
        decision("e2", "c", time=3_000, user="bob", logp=None, policy_version=None),
    )
    frame = read_events(tmp_path)
    expected = pl.DataFrame(
        {
            "position": [0, 1, 2, 0],
            "item_id": ["a", "b", "c", "c"],
            "logp": [0.0, -0.5, -1.0, None],
            "reward": pl.Series([0, 1, 0, 0], dtype=pl.Float32),
            "used": [False, True, False, False],
            "used_time": [None, 2_000, None, None],
            "use_reward": pl.Series([None, 1, None, None], dtype=pl.Float32),
            "event_id": ["e1"] * 3 + ["e2"],
            "timestamp": [1_000] * 3 + [3_000],
            "user_id": ["ann"] * 3 + ["bob"],
            "session_id": ["s"] * 3 + [None],
            "policy_id": ["v1"] * 3 + [None],
            "context_0": pl.Series([0.5] * 3 + [0], dtype=pl.Float32),
            "context_1": pl.Series([1.0] * 3 + [0], dtype=pl.Float32),
        }
    )
    assert frame.select(expected.columns).equals(expected)
    assert set(frame.columns) == set(expected.columns)


def test_late_and_repeated_outcomes_count_once(tmp_path: Path) -> None:
    write(
        tmp_path / "1.jsonl",
        outcome("e1", "b", time=5_000, outcome_id="o1"),  # before its decision in the file
        decision("e1", "a b c"),
        outcome("e1", "b", time=9_000, outcome_id="o1"),  # delivered again
        outcome("e1", "b", time=9_100, outcome_id="o2"),  # a second click
        outcome("e1", "c", time=4_000),
        outcome("e1", time=4_500, position=2),  # the same click on c, named by its position
        outcome("e1", "c", time=4_600, type="like", value=10.0),
    )
    write(tmp_path / "2.jsonl", decision("e2", "a b"), outcome("e1", "c", time=1 << 50))  # very late, and again
    events = load_events(tmp_path)
    assert rewards(events.frame) == {
        ("e1", "a"): (0.0, False),
        ("e1", "b"): (2.0, True),
        ("e1", "c"): (11.0, True),
        ("e2", "a"): (0.0, False),
        ("e2", "b"): (0.0, False),
    }
    # a use is the first outcome of its item: later ones raise the reward alone
    assert uses(events.frame) == {("e1", "b"): (5_000, 1.0), ("e1", "c"): (4_000, 1.0)}
    assert (events.tally.outcomes, events.tally.repeated_outcomes) == (7, 3)
    assert events.tally.sentences() == ["repeated outcomes, counted once: 3"]


def test_a_use_is_the_first_outcome_above_nothing_in_the_order_of_arrival(tmp_path: Path) -> None:
    write(
        tmp_path / "1.jsonl",
        decision("e1", "a b c", time=1_000),
        outcome("e1", "a", time=1_500, type="viewed", value=0.0, received=3_000),
        outcome("e1", "b", time=1_600, type="purchase", value=4.0, received=3_300),
        outcome("e1", "a", time=1_400, type="purchase", value=9.0, received=3_200),
        outcome("e1", "b", time=1_200, type="like", value=1.0, received=3_100),
        outcome("e1", "c", type="dislike", value=-1.0, received=3_400),
    )
    frame = read_events(tmp_path)
    assert uses(frame) == {("e1", "a"): (3_200, 9.0), ("e1", "b"): (3_100, 1.0)}
    assert rewards(frame) == {("e1", "a"): (9.0, True), ("e1", "b"): (5.0, True), ("e1", "c"): (-1.0, False)}


def test_a_use_that_came_before_its_decision_is_counted_at_its_time(tmp_path: Path) -> None:
    write(
        tmp_path / "1.jsonl",
        decision("e1", "a b", time=1_000),
        outcome("e1", "a", time=400),
        outcome("e1", "b", time=400, received=1_000),
        outcome("e2", "c", time=10, user_id="ann"),
    )
    events = load_events(tmp_path)
    assert uses(events.frame) == {("e1", "a"): (1_000, 1.0), ("e1", "b"): (1_000, 1.0), ("e2", "c"): (10, 1.0)}
    assert events.tally.early == 1
    assert "uses that came before their decision, counted at its time: 1" in events.tally.sentences()


def test_outcomes_without_their_decision(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(
        tmp_path / "1.jsonl",
        decision("7", "a b"),
        outcome("gone", "a"),  # whose?
        outcome("gone", position=0, user_id="ann"),  # which item?
        outcome("8", "z", user_id="bob", value=4.0, type="rating"),
        outcome("8", "z", user_id="bob", value=2.0, type="seconds"),
        outcome("8", "z", user_id="bob", value=2.0, type="seconds"),  # again
        outcome("8", "y", user_id="bob", time=2_500),
        outcome("7", "not shown"),
        outcome("7", position=2),
        outcome("7", "a", position=1),  # b stands there
    )
    events = load_events(tmp_path)
    outside = events.frame.filter(pl.col("user_id") == "bob").sort("timestamp")
    assert outside.select("item_id", "timestamp", "reward", "used", "position", "logp", "policy_id").rows() == [
        ("z", 2_000, 6.0, True, 0, None, None),
        ("y", 2_500, 1.0, True, 0, None, None),
    ]
    assert outside["event_id"][0] == "8"
    assert outside["event_id"][1].isdecimal()
    assert outside["event_id"][1] != "8"
    assert set(uses(events.frame).values()) == {(2_000, 4.0), (2_500, 1.0)}
    tally = events.tally
    assert (tally.uses, tally.orphans.count, tally.strangers.count, tally.repeated_outcomes) == (2, 2, 3, 1)
    with caplog.at_level("WARNING"):
        assert read_events(tmp_path).equals(events.frame)
    assert [record.getMessage() for record in caplog.records] == tally.sentences()
    assert tally.sentences()[0].startswith(
        "records set aside, outcomes whose decision is not in the log, without a user and an item: 2 (1.jsonl, line "
    )


def test_a_table_turns_types_into_rewards(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", decision("e", "a"), outcome("e", "a", type="seconds", value=30.0), outcome("e", "a"))
    frame = read_events(tmp_path, rewards={"click": 1.0, "seconds": 0.1, "like": 5.0})
    assert frame["reward"].to_list() == [4.0]
    with pytest.raises(InputError, match=r'type "seconds" or any other of the log; the table of rewards names clik\.'):
        read_events(tmp_path, rewards={"clik": 1.0})


def test_outcomes_of_a_type_without_reward_are_set_aside(tmp_path: Path) -> None:
    write(
        tmp_path / "1.jsonl",
        decision("e", "a b"),
        outcome("e", "a", type="x", value=30.0),
        outcome("e", "b"),
        outcome("e", "b", type="x", value=5.0),
    )
    events = load_events(tmp_path, rewards={"click": 2.0})
    assert rewards(events.frame) == {("e", "a"): (0.0, False), ("e", "b"): (2.0, True)}
    assert events.tally.sentences() == [
        'records set aside, outcomes of type "x", the table of rewards names click: 2 (1.jsonl, line 2: event "e"; '
        '1.jsonl, line 4: event "e")'
    ]


def test_a_reward_that_no_sum_can_hold_is_set_aside(tmp_path: Path) -> None:
    write(
        tmp_path / "1.jsonl",
        decision("e", "a b c"),
        outcome("e", "a", value=1e30),
        outcome("e", "b", value=2.0),
        outcome("e", "c", value=-1e29),
    )
    events = load_events(tmp_path, rewards={"click": 10.0})
    assert rewards(events.frame) == {
        ("e", "a"): (0.0, False),
        ("e", "b"): (20.0, True),
        ("e", "c"): (pytest.approx(-1e30), False),
    }
    assert events.tally.sentences() == [
        'records set aside, outcomes with a reward beyond ±1e+30: 1 (1.jsonl, line 2: event "e")'
    ]


@pytest.mark.parametrize("tail", [b'{"record":"decision","event_id":"e9","times', b"\x00\x00\x00"])
def test_a_torn_last_line_is_reported_and_left_out(tmp_path: Path, tail: bytes) -> None:
    file = write(tmp_path / "1.jsonl", decision("e1", "a"))
    with file.open("ab") as stream:
        stream.write(tail)
    write(tmp_path / "2.jsonl", decision("e2", "a"))
    events = load_events(tmp_path)
    assert events.frame["event_id"].to_list() == ["e1", "e2"]
    assert events.tally.torn == (str(file),)
    assert events.tally.sentences() == [f"last line cut short by the end of its writer, left out: {file}"]


def test_a_whole_last_line_needs_no_newline(tmp_path: Path) -> None:
    file = write(tmp_path / "1.jsonl", decision("e1", "a"), decision("e2", "b"))
    file.write_bytes(b"\n" + file.read_bytes().rstrip(b"\n"))
    events = load_events(file)
    assert events.frame["event_id"].to_list() == ["e1", "e2"]
    assert events.tally.sentences() == []


@pytest.mark.parametrize(
    ("line", "reason", "what"),
    [
        (b'{"record":"decision","event_id":"e9","times', "not valid JSON", "truncated"),
        (b"\x00", "not valid JSON", "malformed"),
        (b'{"record":"song"}', RECORD, "song"),
        (
            b'{"record":"decision","event_id":"e","timestamp":1,"user_id":"u","slate":["a"],"logp":[0.5]}',
            RECORD,
            "logp is",
        ),
        (b'{"record":"decision","event_id":"e","timestamp":1,"user_id":"u","slate":[3]}', RECORD, "slate"),
        (b'{"record":"decision","event_id":"e","timestamp":1,"user_id":"u","slate":[]}', RECORD, "slate"),
        (
            b'{"record":"decision","event_id":"e","timestamp":1700000000000000000,"user_id":"u","slate":["a"]}',
            RECORD,
            "timestamp",
        ),
        (b'{"record":"outcome","event_id":"e","timestamp":1,"type":"click"}', RECORD, "item_id or position"),
        (
            b'{"record":"outcome","event_id":"e","timestamp":1,"item_id":"a","type":"click","value":1e999}',
            RECORD,
            "range",
        ),
        (
            b'{"record":"outcome","event_id":"\xff","timestamp":1,"item_id":"a","type":"click"}',
            "not valid JSON",
            "utf-8",
        ),
        (
            b'{"record":"outcome","event_id":"e","timestamp":1,"item_id":"a\\t","type":"click"}',
            "a name that cannot be used",
            r"item_id has a control character \(U\+0009\)",
        ),
    ],
)
def test_a_bad_line_is_set_aside_counted_and_named(tmp_path: Path, line: bytes, reason: str, what: str) -> None:
    file = write(tmp_path / "1.jsonl", decision("e1", "a"), decision("e2", "a"))
    file.write_bytes(file.read_bytes() + b"\n" + line + b"\n" + encode([decision("e3", "a")]))
    events = load_events(tmp_path)
    assert events.frame["event_id"].to_list() == ["e1", "e2", "e3"]
    (set_aside,) = events.tally.set_aside
    assert (set_aside.reason, set_aside.count) == (reason, 1)
    assert re.fullmatch(f"1.jsonl, line 4: .*({what}).*", set_aside.places[0])
    assert events.tally.sentences() == [f"records set aside, {reason}: 1 ({set_aside.places[0]})"]


def test_a_bad_line_is_named_beyond_the_first_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slatewise.data.segments.BLOCK", 100)
    file = write(tmp_path / "1.jsonl", *(decision(f"e{number}", "a b c d") for number in range(30)))
    assert read_events(file)["event_id"].n_unique() == 30
    file.write_bytes(file.read_bytes() + b"{}\n" * 5)
    events = load_events(file)
    assert events.frame["event_id"].n_unique() == 30
    (set_aside,) = events.tally.set_aside
    assert set_aside.count == 5
    assert [place.partition(":")[0] for place in set_aside.places] == [f"1.jsonl, line {line}" for line in (31, 32, 33)]
    assert str(set_aside).endswith("; and 2 more)")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "1.jsonl", decision("e1", "a"), decision("e2", "a"))
    file.write_bytes(file.read_bytes() + b'{"song": 1}\n' * 3)
    with pytest.raises(InputError, match=r"1\.jsonl, line 3: .*; 3 lines are no records, 2 are\. Nothing was imported"):
        load_events(tmp_path)


def test_what_a_service_logged_before_it_refused_names_is_imported_without_it(tmp_path: Path) -> None:
    good = encode([decision("e1", "a b"), outcome("e1", "b"), decision("e2", "a b")])
    old = encode([decision("e3", "a b")])[:-21] + b"}\n"  # before lines had a checksum
    bad = [old.replace(b'"ann"', name) for name in (b'"a\\nb"', b'" "', b'"a\\u0000"')]
    (tmp_path / "events").mkdir()
    # the very first line is one of them
    (tmp_path / "events" / "events-00000001.jsonl").write_bytes(bad[0] + good + bad[1])
    (tmp_path / "events" / "events-00000002.jsonl").write_bytes(bad[2])
    dataset = import_path(tmp_path / "events", tmp_path / "data")
    assert dataset.users.names.to_pylist() == ["ann"]
    assert dataset.interactions.num_events == 2
    (note,) = Report.of(dataset).notes
    assert note == (
        "records set aside, a name that cannot be used: 3 "
        "(events-00000001.jsonl, line 1: user_id has a control character (U+000A); expected a name on one line; "
        "events-00000001.jsonl, line 5: user_id is empty or blank; expected a name; "
        "events-00000002.jsonl, line 1: user_id has a control character (U+0000); expected a name on one line)"
    )
    (check,) = [check for check in validate(tmp_path / "events").checks if check.name.startswith("every line")]
    assert (check.count, check.stops_import) == (3, False)


def test_a_decision_that_comes_again_counts_once(tmp_path: Path) -> None:
    first, second, third = decision("e1", "a b"), decision("e2", "c"), decision("e3", "b a")
    write(tmp_path / "1.jsonl", first, second, outcome("e1", "b"))
    write(tmp_path / "2.jsonl", second, first, third)
    events = load_events(tmp_path)
    assert events.frame.select("event_id", "item_id").rows() == [
        ("e1", "a"), ("e1", "b"), ("e2", "c"), ("e3", "b"), ("e3", "a"),
    ]  # fmt: skip
    assert events.tally.decisions == 3
    assert events.tally.sentences() == ["repeated decisions, counted once: 2"]


@pytest.mark.parametrize(
    "other", [decision("e1", "b a"), decision("e1", "a b", time=7), decision("e1", "a b", logp=None)]
)
def test_different_decisions_with_one_name_are_set_aside_with_their_outcomes(tmp_path: Path, other: Decision) -> None:
    write(tmp_path / "1.jsonl", decision("e1", "a b"), decision("e2", "b a"), outcome("e1", "b", user_id="ann"))
    write(tmp_path / "2.jsonl", outcome("e2", "a"), other, decision("e1", "a b"))
    events = load_events(tmp_path)
    assert rewards(events.frame) == {("e2", "b"): (0.0, False), ("e2", "a"): (1.0, True)}
    assert events.tally.sentences() == [
        "records set aside, different decisions with one event_id: 3 "
        '(1.jsonl, line 1: event "e1"; 2.jsonl, line 2: event "e1"; 2.jsonl, line 3: event "e1")',
        'records set aside, outcomes of decisions that were set aside: 1 (1.jsonl, line 3: event "e1")',
    ]
    write(tmp_path / "one" / "1.jsonl", decision("e1", "a b"), other)
    message = r"no decision can be used: records set aside, different decisions with one event_id: 2 \(1.jsonl, line 1"
    with pytest.raises(InputError, match=message):
        read_events(tmp_path / "one")


def test_contexts_of_another_width_than_most_are_set_aside(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", decision("e1", "a", context=[1.0]), decision("e2", "b", context=[3.0, 4.0]))
    write(tmp_path / "2.jsonl", decision("e3", "a"), decision("e4", "a", context=[5.0, 6.0]), outcome("e1", "a"))
    events = load_events(tmp_path)
    assert events.frame.select("event_id", "context_0", "context_1").rows() == [
        ("e2", 3.0, 4.0),
        ("e3", 0.0, 0.0),
        ("e4", 5.0, 6.0),
    ]
    assert events.tally.sentences() == [
        'records set aside, contexts of another width than 2: 1 (1.jsonl, line 1: event "e1")',
        'records set aside, outcomes of decisions that were set aside: 1 (2.jsonl, line 3: event "e1")',
    ]
    data = import_path(tmp_path, tmp_path / "data")
    assert Report.of(data).notes[0].startswith("records set aside, contexts of another width than 2: 1 (1.jsonl, line")


def test_of_two_widths_that_are_as_frequent_the_earlier_one_stays(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", decision("e1", "a", context=[1.0]), decision("e2", "b", context=[3.0, 4.0]))
    assert read_events(tmp_path)["event_id"].to_list() == ["e1"]


def test_lines_are_counted_over_blank_and_broken_ones(tmp_path: Path) -> None:
    lines = encode([decision("e1", "a b"), outcome("e1", "z"), outcome("e1", "y")]).splitlines(keepends=True)
    (tmp_path / "1.jsonl").write_bytes(lines[0] + b"\n" + lines[1] + b"\n\n" + lines[2])
    assert load_events(tmp_path).tally.strangers.places == (
        '1.jsonl, line 3: event "e1"',
        '1.jsonl, line 6: event "e1"',
    )
    (tmp_path / "1.jsonl").write_bytes(lines[0] + b"broken\n" + lines[1] + lines[2].rstrip())
    assert load_events(tmp_path).tally.strangers.places == (
        '1.jsonl, line 3: event "e1"',
        '1.jsonl, line 4: event "e1"',
    )


def test_an_early_block_without_context_is_filled(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", decision("e1", "a"))
    write(tmp_path / "2.jsonl", decision("e2", "a", context=[float(index) for index in range(12)]))
    frame = read_events(tmp_path)
    assert frame["context_00"].to_list() == [0.0, 0.0]
    assert frame["context_11"].to_list() == [0.0, 11.0]


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\*\.jsonl"):
        read_events(tmp_path)


def test_only_outcomes_make_a_log_too(tmp_path: Path) -> None:
    write(tmp_path / "1.jsonl", outcome("e1", "a", user_id="ann"), outcome("e2", "b", user_id="ann"))
    assert read_events(tmp_path).select("event_id", "user_id", "item_id", "reward").rows() == [
        ("e1", "ann", "a", 1.0),
        ("e2", "ann", "b", 1.0),
    ]


@given(seed=integers(0, 2**32))
def test_a_random_log_joins_as_a_plain_loop_does(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    slates = {f"e{number}": [f"i{item}" for item in rng.permutation(6)[: rng.integers(1, 4)]] for number in range(5)}
    records: list[Record] = [decision(event, " ".join(slate), time=4) for event, slate in slates.items()]
    for _ in range(20):
        fields: dict[str, object] = {"type": str(rng.choice(["click", "like"])), "value": float(rng.integers(-2, 5))}
        if rng.random() < 0.5:
            fields["outcome_id"] = f"o{rng.integers(10)}"
        if rng.random() < 0.5:
            fields["received"] = int(rng.integers(10))
        event = f"e{rng.integers(7)}"
        records.append(outcome(event, f"i{rng.integers(6)}", time=int(rng.integers(10)), **fields))
    records = [records[place] for place in rng.permutation(len(records))]

    expected = {(event, item): 0.0 for event, slate in slates.items() for item in slate}
    used: dict[tuple[str, str], tuple[int, float]] = {}
    seen: set[tuple[str, ...]] = set()

    def arrived(outcome: Outcome) -> int:
        return outcome.timestamp if outcome.received is None else outcome.received

    for record in sorted((record for record in records if isinstance(record, Outcome)), key=arrived):
        item = record.item_id or ""
        if (record.event_id, item) not in expected:
            continue
        key = ("id", record.event_id, record.outcome_id) if record.outcome_id else (record.event_id, item, record.type)
        if key not in seen:
            seen.add(key)
            expected[record.event_id, item] += record.value
            if record.value > 0:
                used.setdefault((record.event_id, item), (max(arrived(record), 4), record.value))

    file = write(tmp_path_factory.mktemp("log") / "1.jsonl", *records)
    frame = read_events(file)
    assert {place: reward for place, (reward, _) in rewards(frame).items()} == expected
    assert uses(frame) == used


def test_what_was_served_is_what_a_data_set_holds(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    served = np.log(rng.random((50, 4), np.float32))
    records: list[Record] = []
    for number, logp in enumerate(served):
        records.append(decision(str(10**12 + number), "d c b a", time=number, logp=logp.astype(float).tolist()))
        if number % 2:
            records.append(outcome(str(10**12 + number), "bcad"[number % 4], time=number + 100, value=2.0))
    write(tmp_path / "events" / "1.jsonl", *records)
    log = prepare(
        read_events(tmp_path / "events"), out=tmp_path / "data", name="served", kind="impressions"
    ).interactions
    assert np.asarray(log.logp).tobytes() == served.tobytes()
    assert log.logp_known.all()
    np.testing.assert_array_equal(log.event_id, 10**12 + np.arange(50))
    np.testing.assert_array_equal(log.time, np.arange(50))
    np.testing.assert_array_equal(np.flatnonzero(log.used)[:2], [4 * 1 + 1, 4 * 3])  # of d c b a: c, then d
    np.testing.assert_array_equal(log.used_time[log.used], 100 + np.arange(1, 50, 2))
    assert log.reward.sum() == 50.0
