"""Logs in every form that people keep them in: all of them give the same data set."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from slatewise import cli
from slatewise.data import Dataset, Options, Report, import_path, load
from slatewise.data.batches import trajectories
from slatewise.data.reading.account import Account
from slatewise.data.reading.content import HEAD
from slatewise.data.reading.recognition import recognise
from slatewise.errors import InputError, SlatewiseError
from slatewise.log import Interactions, LogPart

LOG = pl.DataFrame(
    {
        "user_id": ["7", "9", "7", "8"],
        "item_id": ["30", "10", "10", "20"],
        "rating": [4, 5, 1, 3],
        "timestamp": [1600000300, 1600000100, 1600000000, 1600000200],
    }
)
"""In time: 7 uses 10 (1), 9 uses 10 (5), 8 uses 20 (3), 7 uses 30 (4)."""


def rows(delimiter: str, *, header: bool = True, frame: pl.DataFrame = LOG) -> str:
    lines = [delimiter.join(frame.columns)] if header else []
    lines += [delimiter.join(str(value) for value in row) for row in frame.rows()]
    return "\n".join(lines) + "\n"


def made(path: Path, **options: Any) -> Dataset:
    return import_path(path, path.parent / "out", Options(**options))


def check(data: Dataset) -> None:
    log = data.interactions
    assert data.users.names.to_pylist() == ["7", "9", "8"]
    np.testing.assert_array_equal(log.user_offsets, [0, 2, 3, 4])
    assert [data.catalog.vocabulary.name(int(item)) for item in log.item] == ["10", "30", "10", "20"]
    np.testing.assert_array_equal(log.reward, [1, 4, 5, 3])
    np.testing.assert_array_equal(log.time, np.array([1600000000, 1600000300, 1600000100, 1600000200]) * 1_000_000)
    assert data.kind == "uses"


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::", " ", "^", "~"])
def test_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    file = tmp_path / "log.txt"
    file.write_text(rows(delimiter))
    check(made(file))


@pytest.mark.parametrize(
    "header",
    [
        "userId,movieId,rating,timestamp",
        "user,item,label,ts",
        "User ID,Item ID,Stars,Time",
        "user_id:token,item_id:token,rating:float,timestamp:float",
        "uid,iid,weight,datetime",
        "reviewer_id,asin,rating,unix_time",
    ],
)
def test_names_that_columns_go_by(tmp_path: Path, header: str) -> None:
    file = tmp_path / "log.csv"
    file.write_text(header + "\n" + rows(",", header=False))
    check(made(file, kind="uses"))


def test_parquet_gzip_json_and_a_mark_at_the_start(tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "a.parquet")
    LOG.with_columns(pl.col("user_id").cast(pl.Int32), pl.col("item_id").cast(pl.Float64)).write_parquet(
        tmp_path / "b.parquet"
    )
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(rows(",").encode()))
    LOG.write_ndjson(tmp_path / "d.jsonl")
    LOG.with_columns(pl.col("user_id").cast(pl.Int64)).write_ndjson(tmp_path / "e.json")
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + rows(",").replace("\n", "\r\n").encode())
    (tmp_path / "g.csv").write_text("\n\n" + rows(",").replace("\n", "\n\n"))
    (tmp_path / "h.csv").write_text(rows(",").replace(",10,", ',"10",').removesuffix("\n"))
    for file in sorted(tmp_path.iterdir()):
        check(made(file))


def test_times_in_other_units_and_types(tmp_path: Path) -> None:
    when = pl.col("timestamp")
    moments = LOG.with_columns((when * 1_000_000).cast(pl.Datetime("us", "UTC")))
    moments.with_columns(when.dt.convert_time_zone("Asia/Tokyo")).write_parquet(tmp_path / "zone.parquet")
    moments.with_columns(when.dt.replace_time_zone(None).cast(pl.Datetime("ns"))).write_parquet(tmp_path / "ns.parquet")
    for name, factor in (("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        LOG.with_columns(when * factor).write_csv(tmp_path / f"{name}.csv")
    LOG.with_columns(when.cast(pl.Float64)).write_csv(tmp_path / "float.csv")
    for name, pattern in (("iso", "%Y-%m-%dT%H:%M:%SZ"), ("zoned", "%Y-%m-%d %H:%M:%S.000+00:00")):
        moments.with_columns(when.dt.strftime(pattern)).write_csv(tmp_path / f"{name}.csv")
    for file in sorted(tmp_path.iterdir()):
        check(made(file))
    moments.with_columns(when.dt.strftime("%d.%m.%Y %H-%M-%S")).write_csv(tmp_path / "own.csv")
    check(made(tmp_path / "own.csv", time_format="%d.%m.%Y %H-%M-%S"))


def test_without_a_header_or_with_other_names(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(rows(",", header=False))
    check(made(file, header=("user_id", "item_id", "reward", "timestamp")))
    file.write_text(rows(",").replace("rating", "liking").replace("user_id", "person"))
    check(made(file, columns={"reward": "liking", "user_id": "person"}))


def test_order_of_the_file_for_time(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(rows(",", frame=LOG.drop("timestamp")))
    data = made(file, time=False)
    np.testing.assert_array_equal(data.interactions.time, [0, 2_000_000, 1_000_000, 3_000_000])
    assert data.manifest.time.clock is False
    assert "order of the file" in " ".join(Report.of(data).notes)


def test_recbole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (folder / "set.inter").write_text(header + rows("\t", header=False))
    (folder / "set.item").write_text(
        "item_id:token\tmovie_title:token_seq\tyear:token\tclass:token_seq\tprice:float\n"
        '30\tA "quoted word\t1999\tcalm loud\t1\n20\tTwo\t1980\tcalm\t3\n40\tNever seen\t1990\t\t\n'
    )
    (folder / "set.user").write_text("user_id:token\tage:token\n7\t20\n")
    (folder / "set.link").write_text("item_id:token\tentity_id:token\n10\tm.1\n")
    (folder / "set.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\nm.1\tr\tm.2\n")
    data = made(folder)
    check(data)
    catalog = data.catalog
    assert catalog.vocabulary.names.to_pylist() == ["30", "20", "40", "10"]
    assert [catalog.title(item) for item in range(2, 6)] == ['A "quoted word', "Two", "Never seen", "10"]
    assert [catalog.group_names[group] for group in catalog.group[2:]] == ["calm", "calm", "", ""]
    assert catalog.features.shape == (6, 4)  # year, price, calm, loud
    np.testing.assert_allclose(catalog.features[2:, 1], [-1, 1, 0, 0])
    report = Report.of(data)
    assert (report.format, report.items) == ("RecBole atomic files", "set.item")
    assert report.passed_over == ("set.kg", "set.link", "set.user")


def test_movielens_of_tabs_and_bars(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "u.data").write_text(rows("\t", header=False))
    (folder / "u1.base").write_text(rows("\t", header=False, frame=LOG.head(2)))
    flags = ["0|1|0", "1|0|1", "0|0|0"]
    titles = {"10": "Ten", "20": "Café", "30": 'Th"irty'}
    lines = [
        f"{name}|{title}|1-Jan-2000||http://x|{flag}\n"
        for (name, title), flag in zip(titles.items(), flags, strict=True)
    ]
    (folder / "u.item").write_bytes("".join(lines).encode("latin-1"))
    (folder / "u.genre").write_text("unknown|0\nCalm|1\nLoud|2\n")
    (folder / "u.user").write_text("7|24|M|other|00000\n8|50|F|other|00000\n")
    (folder / "u.info").write_text("3 users\n3 items\n4 ratings\n")
    (folder / "README").write_text("The user and the item files are made of lines.\nMore words.\n")
    data = made(folder)
    check(data)
    catalog = data.catalog
    assert [catalog.title(item) for item in (2, 3, 4)] == ["Ten", "Café", 'Th"irty']
    assert [catalog.group_names[group] for group in catalog.group[2:]] == ["Calm", "unknown", ""]
    assert Report.of(data).files == ("u.data",)
    check(made(folder / "u.data"))


def test_movielens_of_double_colons_and_of_csv(tmp_path: Path) -> None:
    dat, csv = tmp_path / "dat", tmp_path / "csv"
    dat.mkdir()
    csv.mkdir()
    (dat / "ratings.dat").write_text(rows("::", header=False))
    (dat / "movies.dat").write_bytes("10::Té (1999)::Calm|Loud\n20::B: C (2000)::Loud\n".encode("latin-1"))
    (dat / "users.dat").write_text("7::F::1::10::48067\n")
    (csv / "ratings.csv").write_text(rows(",").replace("user_id,item_id", "userId,movieId"))
    (csv / "tags.csv").write_text("userId,movieId,tag,timestamp\n7,10,good,1600000000\n")
    (csv / "links.csv").write_text("movieId,imdbId,tmdbId\n10,0114709,862\n")
    (csv / "movies.csv").write_text(
        'movieId,title,genres\n10,"Té (1999)",Calm|Loud\n20,"B: C, The ""2nd"" (2000)",(no genres listed)\n'
    )
    (tmp_path / "out").mkdir()
    first, second = made(dat), import_path(csv, tmp_path / "out2")
    for data in (first, second):
        check(data)
        assert Report.of(data).format == "MovieLens"
        assert data.catalog.title(2) == "Té (1999)"
        assert data.catalog.group_names[data.catalog.group[2]] == "Calm"
    assert first.catalog.title(3) == "B: C (2000)"
    assert second.catalog.title(3) == 'B: C, The "2nd" (2000)'
    assert second.catalog.group[3] == 0
    assert Report.of(second).passed_over == ("links.csv", "tags.csv")


def test_pieces_of_one_log_are_read_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    LOG.head(1).write_parquet(folder / "part-0.parquet")
    LOG.tail(3).write_parquet(folder / "part-1.parquet")
    check(made(folder))
    (folder / "part-0.parquet").unlink()
    (folder / "part-1.parquet").unlink()
    LOG.head(3).write_csv(folder / "a.csv")
    LOG.tail(1).with_columns(rating=pl.lit("?")).write_csv(folder / "b.csv")
    with pytest.raises(InputError, match=r'b\.csv, line 2, column "rating": "\?" is not a number'):
        made(folder)


def test_impressions_with_everything(tmp_path: Path) -> None:
    file = tmp_path / "log.tsv"
    file.write_text(
        "session\tevent\tuser\titem\tclick\ttime\trank\tpscore\tpolicy\tcost\tcontext_hour\tcontext_Day\n"
        "s1\te1\tu\ta\t0\t2020-01-01\t1\t0.5\tp\t0.5\t3\t1\n"
        "s1\te1\tu\tb\t1\t2020-01-01\t2\t\tp\t0\t3\t1\n"
        "s1\te2\tu\ta\tfalse\t2020-01-02\t1\t1\tq\t0\t4\t2\n"
    )
    data = made(file)
    log = data.interactions
    assert data.kind == "impressions"
    np.testing.assert_array_equal(log.event_offsets, [0, 2, 3])
    np.testing.assert_array_equal(log.used, [False, True, False])
    np.testing.assert_array_equal(log.session_end, [False, True])
    np.testing.assert_array_equal(log.logp_known, [True, False, True])
    np.testing.assert_allclose(log.logp, [np.log(0.5), 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(log.cost, [0.5, 0, 0])
    np.testing.assert_array_equal(log.context, [[3, 1], [4, 2]])
    assert data.manifest.context == ("context_hour", "context_day")
    np.testing.assert_array_equal(log.policy_id, [1, 2])


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("user,item,time,click\nu,a,1,0\nu,b,2,1\n", "impressions"),
        ("user,item,time,click\nu,a,1,0\nu,b,2,7\n", "uses"),
        ("user,item,time,rating\nu,a,1,0\nu,b,2,1\n", "uses"),
        ("user,item,time,rating,event\nu,a,1,0,1\nu,b,2,1,2\n", "impressions"),
        ("user,item,time\nu,a,1\nu,b,2\n", "uses"),
    ],
)
def test_kind_of_a_log(tmp_path: Path, text: str, kind: str) -> None:
    file = tmp_path / "log.csv"
    file.write_text(text)
    assert made(file).kind == kind
    assert made(file, kind="uses").kind == "uses"


def test_outcomes_become_rewards_and_add_up(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(
        "user,item,time,event_id,action\nu,a,5,1,click\nu,a,7,1,like\nu,a,9,1,click\nu,b,5,1,\nv,a,6,2,like\n"
    )
    data = made(file, outcomes={"click": 1.0, "like": 2.0})
    np.testing.assert_array_equal(data.interactions.event_offsets, [0, 2, 3])
    np.testing.assert_array_equal(data.interactions.reward, [3, 0, 2])  # the click told twice counts once
    np.testing.assert_array_equal(data.interactions.used, [True, False, True])
    np.testing.assert_array_equal(data.interactions.used_time, [5_000_000, 0, 6_000_000])
    np.testing.assert_array_equal(data.interactions.use_reward, [1, 0, 2])
    np.testing.assert_array_equal(data.interactions.time, [5_000_000, 6_000_000])
    account = Account.of(data.manifest.source)
    assert account is not None
    assert account.set_aside == {"further outcomes of a shown item, whose rewards were added": 2}
    file.write_text("user,item,time,action,weight\nu,a,5,click,3\nu,b,6,like,1\n")
    np.testing.assert_array_equal(made(file).interactions.reward, [3, 1])
    np.testing.assert_array_equal(made(file, outcomes={"click": 2.0, "like": 5.0}).interactions.reward, [6, 5])
    file.write_text("user,item,time,action\nu,a,5,click\nu,b,6,\n")
    data = made(file)
    np.testing.assert_array_equal(data.interactions.reward, [1, 0])
    assert data.kind == "impressions"


def choices(log: Interactions) -> list[int]:
    return trajectories(log, LogPart.whole(log).windows(max_length=100)).choice[0].tolist()


def test_a_header_of_very_many_columns(tmp_path: Path) -> None:
    names = ["user", "item", *(f"measurement_{index}" for index in range(6_000)), "time"]
    assert len(",".join(names)) > HEAD
    file = tmp_path / "log.csv"
    file.write_text(",".join(names) + "\n" + f"u,a{',0' * 6_000},1600000000\n")
    report = Report.of(made(file))
    assert (report.columns["timestamp"], len(report.ignored)) == ("time", 6_000)


def test_the_first_outcome_above_nothing_is_the_use_in_rows_as_in_records(tmp_path: Path) -> None:
    # [a, b] is shown; a is viewed, which is worth nothing; then b is bought
    worth = {"viewed": 0.0, "purchase": 1.0}
    file = tmp_path / "log.csv"
    file.write_text("user,item,time,event_id,rank,action\nu,a,5,1,1,viewed\nu,b,9,1,2,purchase\nu,a,20,2,1,purchase\n")
    records: list[dict[str, Any]] = [
        {"record": "decision", "event_id": "1", "timestamp": 5_000_000, "user_id": "u", "slate": ["a", "b"]},
        {"record": "outcome", "event_id": "1", "timestamp": 6_000_000, "item_id": "a", "type": "viewed"},
        {"record": "outcome", "event_id": "1", "timestamp": 9_000_000, "item_id": "b", "type": "purchase"},
        {"record": "decision", "event_id": "2", "timestamp": 20_000_000, "user_id": "u", "slate": ["a"]},
        {"record": "outcome", "event_id": "2", "timestamp": 20_000_000, "item_id": "a", "type": "purchase"},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for source in (file, tmp_path / "events.jsonl"):
        log = made(source, outcomes=worth).interactions
        np.testing.assert_array_equal(log.used, [False, True, True])
        np.testing.assert_array_equal(log.used_time, [0, 9_000_000, 20_000_000])
        np.testing.assert_array_equal(log.reward, [0, 1, 1])
        assert choices(log) == [1, 0]


def test_a_merged_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(
        "user,item,time,event_id,action,pscore\nu,a,5,1,click,.5\nu,a,7,1,like,.5\nu,a,9,1,share,.5\nu,b,5,1,,7\n"
    )
    with pytest.raises(InputError, match=r'line 5, column "pscore": "7" is not a propensity'):
        made(file, outcomes={"click": 1.0, "like": 2.0, "share": 3.0})


def test_decisions_and_outcomes(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    records: list[dict[str, Any]] = [
        {
            "record": "decision",
            "event_id": "e1",
            "timestamp": 5,
            "user_id": "u",
            "slate": ["a", "b"],
            "logp": [-0.5, -2],
        },
        {"record": "outcome", "event_id": "e1", "timestamp": 6, "item_id": "b", "type": "click"},
    ]
    (folder / "0.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    data = made(folder)
    np.testing.assert_array_equal(data.interactions.used, [False, True])
    np.testing.assert_array_equal(data.interactions.used_time, [0, 6])
    np.testing.assert_array_equal(data.interactions.logp, [-0.5, -2])
    assert Report.of(data).format == "decisions and outcomes"
    assert made(folder / "0.jsonl").fingerprint == data.fingerprint


def test_equal_logs_have_equal_fingerprints(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(rows(","))
    (tmp_path / "b.tsv").write_text(rows("\t", frame=LOG.sort("timestamp")))
    one, two = (import_path(tmp_path / name, tmp_path / name[0]) for name in ("a.csv", "b.tsv"))
    assert one.fingerprint == two.fingerprint
    assert one.name == "a"


def test_doubled_columns_are_told(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user,user_id,item,time,click,rating,colour\nx,7,a,1,1,5,red\n")
    data = made(file)
    assert data.users.names.to_pylist() == ["7"]
    np.testing.assert_array_equal(data.interactions.reward, [5])
    report = Report.of(data)
    assert report.ignored == ("user", "click", "colour")
    assert any('"user" was not used' in note for note in report.notes)


def test_recognised_without_reading(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text(rows(";") + "1;2\n")
    source = recognise(file)
    assert source.format == "values separated by semicolons"
    assert source.log[0].names == tuple(LOG.columns)


def test_lines_of_json_that_name_their_columns_late(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "b.jsonl").write_text('{"pscore":0.5,"click":1,"time":500,"item":"b","user":"u","event":999}\n')
    lines = [f'{{"user":"u","item":"a","time":{time},"event":{time},"click":0}}' for time in range(200)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "b.jsonl").write_text('{"pscore":0.5,"click":1,"time":500,"item":"b","user":"u","event":999}\n')
    log = made(folder).interactions
    assert (log.num_events, int(log.logp_known.sum())) == (201, 1)
    assert made(folder, columns={"propensity": "pscore"}).interactions.logp_known[-1]


def test_a_disk_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log.csv"
    file.write_text(rows(","))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(SlatewiseError, match=r"out: No space left on device\. Nothing was imported"):
        made(file)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
    with pytest.raises(SlatewiseError, match="File name too long"):
        made(tmp_path / ("x" * 300))


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from slatewise.data import import_path

saved, save = [], np.save

def slow(file, array, **options):
    save(file, array, **options)
    saved.append(file)
    if len(saved) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

np.save = slow
import_path(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("before", [False, True])
def test_killed_halfway_and_run_again(tmp_path: Path, before: bool) -> None:
    file, out = tmp_path / "log.csv", tmp_path / "data" / "out"
    file.write_text(rows(","))
    if before:
        import_path(file, out)
    expected = {path.name: path.read_bytes() for path in out.iterdir()} if before else {}
    killed = subprocess.run([sys.executable, "-c", KILLED, file, out], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    # half of it lies beside the folder, which is as it was
    assert any(path.name.endswith(".partial") for path in out.parent.iterdir())
    assert ({path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else {}) == expected
    check(import_path(file, out))
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    check(load(out))


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["slatewise", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plays.csv").write_text(rows(",").replace("rating", "seconds"))
    assert run(monkeypatch, "data", "import", "plays.csv", "--column", "reward=seconds") == 0
    printed = capsys.readouterr()
    assert "4 rows in 4 events of 3 users, 3 items, uses" in printed.out
    assert "reward ← seconds" in printed.out
    assert printed.err == ""
    check(load(Path("data/plays")))
    assert run(monkeypatch, "data", "import", "plays.csv", "--json", "--name", "mine", "--simulated") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["path"] == "data/mine"
    assert answer["simulated"] is True
    assert answer["counts"]["rows"] == 4
    assert answer["report"]["ignored"] == ["seconds"]
    for command in ("import", "validate"):
        assert run(monkeypatch, "data", command, "--help") == 0
        assert "Example: slatewise data" in capsys.readouterr().out
    assert run(monkeypatch, "data", "import") == 2
    assert run(monkeypatch, "data", "import", "plays.csv", "--kind", "plays") == 2
