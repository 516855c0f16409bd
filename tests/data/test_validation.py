"""Every check of a log, on logs that are wrong in one known way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slatewise import cli
from slatewise.data import Options, import_path
from slatewise.data.reading.log_checks import Check
from slatewise.data.reading.validation import validate
from slatewise.errors import InputError

GOOD = [
    "user_id,item_id,rating,timestamp",
    *(
        f"{user},{item},{1 + (user + item) % 5},{1600000000 + 10 * item + user}"
        for item in range(4)
        for user in range(3)
    ),
]


def checked(path: Path, lines: list[str], options: Options | None = None) -> dict[str, Check]:
    path.write_text("\n".join(lines) + "\n")
    return {check.name: check for check in validate(path, options).checks}


def test_a_good_log_passes_every_check(tmp_path: Path) -> None:
    checks = checked(tmp_path / "log.csv", GOOD)
    assert len(checks) >= 15
    assert [name for name, check in checks.items() if not check.passed] == []


@pytest.mark.parametrize(
    ("name", "row", "example", "stops"),
    [
        ("times are in order", "0,9,1,1500000000", "log.csv, line 14: 2017-07-14T02:40:00+00:00", False),
        ("no row is repeated", GOOD[-1], 'log.csv, line 14: "3"', False),
        ("no time is in the future", "0,9,1,4102444800", "log.csv, line 14: 2100-01-01T00:00:00+00:00", False),
        ("no time is before 1990", "0,9,1,7", "log.csv, line 14: 1970-01-01T00:00:07+00:00", False),
        ("reward is a finite number", "0,9,nan,1600000100", 'line 14: "nan" is not a finite number', True),
        ("reward can be read", "0,9,good,1600000100", 'line 14: "good" is not a number', True),
        ("timestamp can be read", "0,9,1,soon", 'line 14: "soon" is not a time', True),
        ("item_id is not empty", "0,,1,1600000100", "line 14: an empty cell is not an item", True),
        ("user_id is not empty", ",9,1,1600000100", "line 14: an empty cell is not a user", True),
        ("every line has as many fields as the first", "0,9,1", "line 14: 3 fields; expected 4", True),
        ("there are no NUL bytes", "0,9,1,16000\0", "line 14: a NUL byte", True),
        ("times have one unit", "0,9,1,1600000100000", 'line 14: "1600000100000" has another unit', True),
    ],
)
def test_one_bad_row_fails_one_check(tmp_path: Path, name: str, row: str, example: str, stops: bool) -> None:
    checks = checked(tmp_path / "log.csv", [*GOOD, row])
    failed = {key: check for key, check in checks.items() if not check.passed}
    assert failed.keys() - {"times are in order"} <= {name}
    assert (checks[name].count, checks[name].stops_import) == (1, stops)
    assert example in checks[name].examples[0]
    try:
        import_path(tmp_path / "log.csv", tmp_path / "out")
    except InputError:
        assert stops
    else:
        assert not stops


SHOWN = ["user,item,time,click,event,position,pscore,session"]


def test_slates(tmp_path: Path) -> None:
    rows = [
        "u,a,1600000000,1,e1,0,0.5,s1",
        "u,a,1600000009,0,e1,1,0.25,s1",  # the same item again, at another time
        "v,b,1600000010,0,e2,0,1.5,s1",  # no probability; and a session of u
        "v,c,1600000011,0,e3,0,,s3",
        "w,e,1600000012,0,e3,1,1,s2",  # an event of v
        "v,d,1600000013,0,e3,0,1,s3",  # position 0 again
    ]
    checks = checked(tmp_path / "log.csv", SHOWN + rows)
    failed = {name: check.examples for name, check in checks.items() if not check.passed}
    assert failed == {
        "propensity lies in (0, 1]": (checks["propensity lies in (0, 1]"].examples[0],),
        "an event has one user": (checks["an event has one user"].examples[0],),
        "a position occurs once in an event": (checks["a position occurs once in an event"].examples[0],),
        "the rows of an event have one time": (
            "log.csv, line 3: 2020-09-13T12:26:49+00:00",
            "log.csv, line 6: 2020-09-13T12:26:52+00:00",
            "log.csv, line 7: 2020-09-13T12:26:53+00:00",
        ),
        "no item is repeated in an event": ('log.csv, line 3: "a"',),
        "half of the users or more have 3 events": ("3 of 3 users have fewer",),
    }
    assert 'line 4: "1.5" is not a propensity' in checks["propensity lies in (0, 1]"].examples[0]
    assert 'line 6: "e3" has rows of different users' in checks["an event has one user"].examples[0]
    assert checks["a session has one user"].passed
    again = checked(tmp_path / "log.csv", [*SHOWN, *rows[:2], rows[2].replace("1.5", "1")])
    assert again["a session has one user"].examples == ('session "s1"',)


def test_one_user_one_item_one_reward(tmp_path: Path) -> None:
    checks = checked(tmp_path / "log.csv", [GOOD[0], "u,a,3,1600000000", "u,a,3,1600000001", "u,a,3,1600000002"])
    failed = [name for name, check in checks.items() if not check.passed]
    assert failed == ["there are two users or more", "there are two items or more", "rewards differ"]


def test_items_that_the_table_lacks(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "log.csv").write_text("\n".join(GOOD) + "\n")
    (tmp_path / "log" / "items.csv").write_text("item_id,title\n0,Zero\n2,Two\n")
    checks = {check.name: check for check in validate(tmp_path / "log").checks}
    check = checks["every item of the log is in the item table"]
    assert (check.passed, check.count, check.examples) == (False, 2, ('item "1"', 'item "3"'))
    (tmp_path / "log" / "items.csv").write_text("item_id,title\n0,Zero\n0,Two\n")
    checks = {check.name: check for check in validate(tmp_path / "log").checks}
    assert not checks["the item table can be read"].passed


def test_nothing_but_bad_rows_and_no_log_at_all(tmp_path: Path) -> None:
    for lines, name in (
        ([GOOD[0], "u,a,x,1"], "there are rows that can be used"),
        ([GOOD[0], "u,a,nan,1"], "there are rows that can be used"),
        (["colour,size", "red,3"], "the log can be read"),
        ([GOOD[0]], "the log can be read"),
    ):
        checks = checked(tmp_path / "log.csv", lines)
        assert not checks[name].passed
        assert checks[name].stops_import
    assert [check.name for check in validate(tmp_path / "nothing").checks] == ["the log can be read"]


def test_outcomes_without_reward_are_shown(tmp_path: Path) -> None:
    lines = ["user,item,time,action,event", "u,a,1600000000,click,1", "u,a,1600000000,like,1", "v,b,1600000001,buy,2"]
    checks = checked(tmp_path / "log.csv", lines, Options(outcomes={"click": 1.0, "like": 2.0}))
    assert checks["every outcome has a reward"].examples[0].startswith('log.csv, line 4: "buy" is an outcome without')
    assert checks["no row is repeated"].passed  # two outcomes of one item are one row


def test_decisions_and_outcomes(tmp_path: Path) -> None:
    decision = {"record": "decision", "event_id": "e", "timestamp": 1600000000000000, "user_id": "u", "slate": ["a"]}
    orphan = {"record": "outcome", "event_id": "x", "timestamp": 1600000000000001, "position": 0, "type": "click"}
    file = tmp_path / "events.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in (decision, orphan)))
    checks = {check.name: check for check in validate(tmp_path).checks}
    assert checks["every line is a decision, an outcome or a catalog"].passed
    assert "outcomes" in checks["every record counts once and has its decision"].examples[0]
    assert not checks["there are two users or more"].passed
    file.write_text(json.dumps(decision) + '\n{"record":"decision"}\n')
    checks = {check.name: check for check in validate(tmp_path).checks}
    assert "line 2" in checks["every line is a decision, an outcome or a catalog"].examples[0]


def test_prepared_data(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("\n".join(GOOD) + "\n")
    data = import_path(tmp_path / "log.csv", tmp_path / "out")
    checks = validate(data.path).checks
    assert [check.name for check in checks if not check.passed] == []
    for file, change, name in (
        ("reward", np.nan, "rewards and costs are finite numbers"),
        ("item", 99, "every item is in the catalog"),
        ("used_time", 7, "no use is before its event"),
        ("use_reward", np.inf, "uses have finite rewards"),
        ("used", False, "only uses have times and rewards of use"),
        ("time", 2**50, "events of a user are in order of time"),
        ("logp", 0.5, "propensities lie in (0, 1]"),
        ("user_offsets", 9, "offsets are ascending from 0"),
    ):
        column = np.load(data.path / f"{file}.npy")
        broken = column.copy()
        broken[1] = change
        np.save(data.path / f"{file}.npy", broken)
        found = {check.name: check for check in validate(data.path).checks}
        assert not found[name].passed
        assert found["every file is unchanged"].examples == (f"{file}.npy",)
        np.save(data.path / f"{file}.npy", column)
    (data.path / "item.npy").unlink()
    assert [check.passed for check in validate(data.path).checks] == [False]


def test_prepared_slates_are_checked_like_the_log(tmp_path: Path) -> None:
    rows = ["u,a,1600000000,1,e1,0,0.5,s1", "u,a,1600000000,0,e1,1,0.25,s1", "v,b,10,0,e2,0,1,s2"]
    (tmp_path / "log.csv").write_text("\n".join([*SHOWN, *rows]) + "\n")
    data = import_path(tmp_path / "log.csv", tmp_path / "out")
    failed = [check.name for check in validate(data.path).checks if not check.passed]
    assert failed == [
        "no time is before 1990",
        "half of the users or more have 3 events",
        "no item is repeated in an event",
    ]


def test_many_examples_are_cut(tmp_path: Path) -> None:
    rows = [f"0,{item},nan,16000001{item}" for item in range(10, 20)]
    check = checked(tmp_path / "log.csv", GOOD + rows)["reward is a finite number"]
    assert (check.count, len(check.examples)) == (10, 3)


def test_types_of_a_raw_frame_do_not_matter(tmp_path: Path) -> None:
    pl.DataFrame(
        {"user": [1, 2, None], "item": [1, 2, 3], "time": [1, 2, 3], "rating": [1.0, float("inf"), 2]}
    ).write_parquet(tmp_path / "log.parquet")
    checks = {check.name: check for check in validate(tmp_path / "log.parquet").checks}
    assert checks["user_id is not empty"].examples[0].startswith("log.parquet, line 3: an empty cell")
    assert checks["reward is a finite number"].examples[0].startswith("log.parquet, line 2: inf is no")


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["slatewise", "data", "validate", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0)

    file = tmp_path / "log.csv"
    file.write_text("\n".join(GOOD) + "\n")
    assert run(str(file)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["rows      12 read, 12 kept", "repeats   0 of 12 uses (0.0%)"]
    assert all(line.startswith("PASS  ") for line in lines[2:])
    file.write_text("\n".join([*GOOD, *(f"0,{item},nan,1600000100" for item in range(5))]) + "\n")
    assert run(str(file)) == 1
    printed = capsys.readouterr()
    assert "FAIL  reward is a finite number: fails 5 times\n" in printed.out
    assert 'log.csv, line 14: "nan" is not a finite number' in printed.out
    assert "and 2 more" in printed.out
    assert "Correct the cell or remove the row." in printed.out
    assert run(str(file), "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert [check["count"] for check in answer["checks"] if not check["passed"]] == [5]
    assert run(str(tmp_path / "nothing")) == 2


def test_what_the_import_accepts_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["slatewise", "data", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr().out

    # three of five users have two events; the rows of the others are sorted by item; all rewards are equal
    rows = [f"u{user},{item},1" for user in range(5) for item in range(2 if user < 3 else 6)]
    file, out = tmp_path / "log.csv", tmp_path / "out"
    file.write_text("\n".join(["user,item,rating", *rows, rows[-1]]) + "\n")
    order = "note      The rows of 100% of the users are sorted by item: the order of the file is not that of time."
    assert run("import", str(file), "--no-time", "--out", str(out))[0] == 0
    for path in (file, out):
        code, printed = run("validate", str(path), "--no-time")
        assert code == 0
        assert order in printed
        assert "NOTE  half of the users or more have 3 events: fails once\n      3 of 5 users have fewer\n" in printed
        assert "NOTE  rewards differ: fails once\n" in printed
        assert "more\n" not in printed.replace("or more", "")
        assert "1990" not in printed
        assert "FAIL" not in printed


def test_what_the_import_refuses_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    for lines in (
        ["user,item,time,rating", "nan,NULL,1600000000,1"],
        ["user,item,time,rating", "u,a,1600000000,1", "v,b,99999999999999,1"],
        [*SHOWN, "u,a,1600000000,1,e1,0,0.5,s1", "v,a,1600000000,1,e1,1,0.5,s1"],
    ):
        file.write_text("\n".join(lines) + "\n")
        options = Options(set_aside_missing=True)
        with pytest.raises(InputError):
            import_path(file, tmp_path / "out", options)
        assert any(check.stops_import for check in validate(file, options).checks)
