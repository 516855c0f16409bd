"""Input that cannot be used: exit code 2, the place and a way out, and no byte of the output folder changed."""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from slatewise import cli
from slatewise.data import import_path

HEADER = "user_id,item_id,rating,timestamp\n"
ROWS = ["ann,tea,4,1600000000\n", "bob,gin,2,1600000100\n", "ann,rum,5,1600000200\n", "bob,tea,1,1600000300\n"]
GOOD = HEADER + "".join(ROWS)
SHOWN = "user_id,item_id,click,timestamp,event_id,position,propensity\n"
SHOWN_ROWS = ["ann,tea,1,1600000000,e1,0,0.5\n", "ann,gin,0,1600000000,e1,1,0.25\n", "bob,tea,0,1600000100,e2,0,1\n"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One class of malformed input."""

    make: Callable[[Path], Path]
    """Writes the input into a folder; what to import."""
    says: str
    """Regular expression: what is wrong."""
    advice: str
    """Regular expression: the way out."""
    file: str = ""
    line: int | None = None
    column: str | None = None
    arguments: tuple[str, ...] = ()


def text(content: str | bytes, name: str = "log.csv") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def changed(line: int, row: str, *, header: str = HEADER, rows: list[str] = ROWS) -> Callable[[Path], Path]:
    """A good log with one line (2 = first row) exchanged."""
    lines = [header, *rows]
    lines[line - 1] = row + "\n"
    return text("".join(lines))


def folder(**files: str | bytes) -> Callable[[Path], Path]:
    """A folder of files; two underscores in a name stand for a dot."""

    def make(base: Path) -> Path:
        path = base / "log"
        path.mkdir()
        for name, content in files.items():
            text(content, name.replace("__", "."))(path)
        return path

    return make


def parquet(frame: pl.DataFrame, *, cut: int = 0, zero: slice | None = None) -> Callable[[Path], Path]:
    def make(base: Path) -> Path:
        path = base / "log.parquet"
        frame.write_parquet(path)
        content = bytearray(path.read_bytes())
        if zero is not None:
            content[zero] = b"\xff" * len(content[zero])
        path.write_bytes(bytes(content[: len(content) - cut]))
        return path

    return make


FRAME = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "rating": [1.0, 2.0], "timestamp": [1, 2]})
RATINGS = "1\t10\t5\t881250949\n1\t11\t3\t881250950\n2\t10\t1\t881250951\n"
DECISION = '{"record":"decision","event_id":"e","timestamp":1,"user_id":"u","slate":["a","b"],"logp":[-0.5,-1]}\n'


def _no_file(base: Path) -> Path:
    return base / "nothing.csv"


def _pipe(base: Path) -> Path:
    path = base / "pipe"
    os.mkfifo(path)
    return path


CASES: dict[str, Case] = {
    # the file as a whole
    "no such path": Case(make=_no_file, file="nothing.csv", says="no such file", advice="Check the path"),
    "neither file nor folder": Case(make=_pipe, file="pipe", says="neither a file nor", advice="to a file first"),
    "empty file": Case(make=text(""), file="log.csv", says="the file is empty", advice="copied or downloaded whole"),
    "blank lines only": Case(make=text("\n\n \n"), file="log.csv", says="the file is empty", advice="Check that"),
    "header only": Case(make=text(HEADER), file="log.csv", says="no rows", advice="written to its end"),
    "binary": Case(
        make=text(bytes(range(256)) * 20), file="log.csv", says="the file is binary", advice="Export the log as CSV"
    ),
    "UTF-16": Case(
        make=text(GOOD.encode("utf-16")), file="log.csv", line=1, says="UTF-16", advice="iconv -f UTF-16 -t UTF-8"
    ),
    "UTF-16 without a mark": Case(
        make=text(GOOD.encode("utf-16-le")), file="log.csv", line=1, says="UTF-16", advice="iconv"
    ),
    "archive": Case(make=text(b"PK\x03\x04" + b"\0" * 30), file="log.csv", says="zip archive", advice="Unzip it"),
    "gzip cut short": Case(
        make=text(gzip.compress(GOOD.encode() * 50)[:-20], "log.csv.gz"),
        file="log.csv.gz",
        says="cut short",
        advice="download it again",
    ),
    "web page": Case(
        make=text("<!DOCTYPE html><html>503</html>"), file="log.csv", line=1, says="web page", advice="fetch it again"
    ),
    "pointer of Git LFS": Case(
        make=text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        file="log.csv",
        line=1,
        says="LFS pointer",
        advice="git lfs pull",
    ),
    "truncated Parquet": Case(
        make=parquet(FRAME, cut=10), file="log.parquet", says="cut short", advice="Copy or download it again"
    ),
    "damaged Parquet": Case(
        make=parquet(FRAME, zero=slice(4, 200)), file="log.parquet", says="amaged", advice="Copy or download it again"
    ),
    "prepared already": Case(
        make=lambda base: base / "out",
        file="out",
        says="prepared data set already",
        advice="Train on it",
        arguments=("--out", "other"),
    ),
    # the header
    "wrong delimiter": Case(
        make=text(GOOD.replace(",", "a")),
        file="log.csv",
        line=1,
        column="user_id",
        says="no known column name",
        advice="--header",
    ),
    "delimiter that changes": Case(
        make=changed(3, "bob;gin;2;1600000100"),
        file="log.csv",
        line=3,
        column="item_id",
        says="1 field; expected 4",
        advice="needs quotes",
    ),
    "no header": Case(
        make=text("".join(ROWS)),
        file="log.csv",
        line=1,
        column="user_id",
        says="no known column name",
        advice="--header",
    ),
    "missing column": Case(
        make=text(GOOD.replace("item_id", "thing")),
        file="log.csv",
        line=1,
        column="item_id",
        says="no such column; the file has: user_id, thing",
        advice="--column item_id=NAME",
    ),
    "missing time": Case(
        make=text("user_id,item_id\na,b\n"),
        file="log.csv",
        line=1,
        column="timestamp",
        says="no such column",
        advice="--no-time",
    ),
    "duplicate header": Case(
        make=text(GOOD.replace("rating", "item_id")),
        file="log.csv",
        line=1,
        column="item_id",
        says="names this column twice",
        advice="Rename or remove",
    ),
    "RecBole header with types here and there": Case(
        make=text("user_id:token\titem_id\ttimestamp:float\na\tb\t1\n", "log.inter"),
        file="log.inter",
        line=1,
        column="item_id",
        says="has no type",
        advice="every column a type",
    ),
    # lines
    "10 MB line": Case(
        make=changed(3, "bob,g" + "i" * 10_000_000 + "n,2,1600000100"),
        file="log.csv",
        line=3,
        says="10,000,020 bytes; expected at most 1,048,576",
        advice="split or remove the line",
    ),
    "first line without an end": Case(
        make=text("user,item" * 200_000),
        file="log.csv",
        line=1,
        says="first line has more than 1,048,576 bytes",
        advice="Keep the columns",
    ),
    "NUL bytes": Case(
        make=changed(4, "ann,r\0m,5,1600000200"), file="log.csv", line=4, says="NUL byte", advice="copy it again"
    ),
    "mixed encodings": Case(
        make=text(GOOD.encode() + "ann,thé,1,1600000400\n".encode("latin-1")),
        file="log.csv",
        line=6,
        says="byte 0xE9 at position 7 is not valid UTF-8",
        advice="iconv",
    ),
    "too few fields": Case(
        make=changed(3, "bob,gin,2"),
        file="log.csv",
        line=3,
        column="timestamp",
        says="3 fields; expected 4",
        advice="needs quotes",
    ),
    "too many fields": Case(
        make=changed(5, "bob,tea,1,1600000300,more"),
        file="log.csv",
        line=5,
        says="5 fields; expected 4",
        advice="needs quotes",
    ),
    "unclosed quote": Case(
        make=changed(3, 'bob,"gin,2,1600000100'), file="log.csv", line=3, says="never closed", advice="Close it"
    ),
    "quote closed elsewhere": Case(
        make=text(HEADER + 'ann,"tea,4,1600000000\nbob",gin,2,1600000100\nbob,tea,1,1600000300\n'),
        file="log.csv",
        line=2,
        says="5 fields; expected 4 as in the first line .the record spans 2 lines: a quote may not be closed",
        advice="needs quotes",
    ),
    "quote closed on another line": Case(
        make=text(HEADER + 'ann,"tea,4,1600000000\nbob,gin",2,1600000100\nbob,tea,1,1600000300\n'),
        file="log.csv",
        line=2,
        column="item_id",
        says="has a control character",
        advice="a quote may not be closed",
    ),
    "line ends of another time": Case(
        make=text(GOOD.replace("\n", "\r")), file="log.csv", line=1, says="carriage return", advice="tr "
    ),
    # cells
    "text in a number": Case(
        make=changed(4, "ann,rum,good,1600000200"),
        file="log.csv",
        line=4,
        column="rating",
        says='"good" is not a number',
        advice="Correct the cell",
    ),
    "decimal comma": Case(
        make=text("user_id;item_id;rating;timestamp\na;b;3,5;1600000000\n"),
        file="log.csv",
        line=2,
        column="rating",
        says='"3,5" is not a number .*with a decimal point',
        advice="Correct the cell",
    ),
    "NaN reward": Case(
        make=changed(3, "bob,gin,nan,1600000100"),
        file="log.csv",
        line=3,
        column="rating",
        says='"nan" is not a finite number',
        advice="remove the row",
    ),
    "infinite reward": Case(
        make=changed(3, "bob,gin,inf,1600000100"),
        file="log.csv",
        line=3,
        column="rating",
        says='"inf" is not a finite number',
        advice="remove the row",
    ),
    "reward beyond float32": Case(
        make=changed(3, "bob,gin,1e60,1600000100"),
        file="log.csv",
        line=3,
        column="rating",
        says='"1e60" is not a finite number',
        advice="remove the row",
    ),
    "empty reward": Case(
        make=changed(2, "ann,tea,,1600000000"),
        file="log.csv",
        line=2,
        column="rating",
        says="an empty cell is not a finite number",
        advice="remove the row",
    ),
    "empty user": Case(
        make=changed(5, ",tea,1,1600000300"),
        file="log.csv",
        line=5,
        column="user_id",
        says="an empty cell is not a user",
        advice="Fill the cell",
    ),
    "blank item": Case(
        make=changed(5, "bob,  ,1,1600000300"),
        file="log.csv",
        line=5,
        column="item_id",
        says="is not an item",
        advice="Fill the cell",
    ),
    "bad date": Case(
        make=changed(2, "ann,tea,4,2021-13-02", rows=[row.replace("1600000", "2021-01-01 00:00:00.") for row in ROWS]),
        file="log.csv",
        line=2,
        column="timestamp",
        says='"2021-13-02" is not a time',
        advice="--time-format",
    ),
    "time in words": Case(
        make=changed(3, "bob,gin,2,yesterday"),
        file="log.csv",
        line=3,
        column="timestamp",
        says='"yesterday" is not a time',
        advice="--time-format",
    ),
    "empty time": Case(
        make=changed(3, "bob,gin,2,"),
        file="log.csv",
        line=3,
        column="timestamp",
        says="an empty cell is not a usable time",
        advice="Nothing was imported",
    ),
    "time out of range": Case(
        make=changed(3, "bob,gin,2,-5"),
        file="log.csv",
        line=3,
        column="timestamp",
        says='"-5" is out of range',
        advice="--time-format",
    ),
    "mixed units of time": Case(
        make=changed(4, "ann,rum,5,1600000200000"),
        file="log.csv",
        line=4,
        column="timestamp",
        says='"1600000200000" has another unit',
        advice="to one unit",
    ),
    "mixed units of time, the smaller one later": Case(
        make=text(HEADER + "a,b,1,1600000200000\na,c,1,1600000200\n"),
        file="log.csv",
        line=3,
        column="timestamp",
        says='"1600000200" has another unit',
        advice="to one unit",
    ),
    "time in another format than said": Case(
        make=text(GOOD),
        file="log.csv",
        line=2,
        column="timestamp",
        says="is not a time",
        advice="--time-format",
        arguments=("--time-format", "%d/%m/%Y"),
    ),
    "propensity 0": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,1,0", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="propensity",
        says='"0" is not a propensity',
        advice="Leave the cell empty",
    ),
    "propensity above 1": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,1,1.5", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="propensity",
        says='"1.5" is not a propensity',
        advice="Leave the cell empty",
    ),
    "propensity NaN": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,1,nan", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="propensity",
        says='"nan" is not a propensity',
        advice="Leave the cell empty",
    ),
    "propensity below 0": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,1,-.5", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="propensity",
        says='"-.5" is not a propensity',
        advice="Leave the cell empty",
    ),
    "negative position": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,-1,.5", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="position",
        says='"-1" is not a position',
        advice="Nothing was imported",
    ),
    "half a position": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,1.5,.5", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="position",
        says='"1.5" is not a position',
        advice="Correct the cell",
    ),
    "one position twice in an event": Case(
        make=changed(3, "ann,gin,0,1600000000,e1,0,.5", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=3,
        column="position",
        says="twice in one event",
        advice="Remove the repeated row",
    ),
    "two users in an event": Case(
        make=changed(4, "bob,tea,0,1600000100,e1,2,1", header=SHOWN, rows=SHOWN_ROWS),
        file="log.csv",
        line=4,
        column="event_id",
        says='"e1" has rows of different users',
        advice="--column outcome=",
    ),
    "propensities without rewards": Case(
        make=text("user,item,time,pscore\na,b,1,.5\n"),
        file="log.csv",
        line=1,
        column="reward",
        says="no such column",
        advice="--column reward=",
    ),
    "text in a context": Case(
        make=text("user,item,time,context_hour\na,b,1,3\na,c,2,noon\n"),
        file="log.csv",
        line=3,
        column="context_hour",
        says='"noon" is not a number',
        advice="Correct the cell",
    ),
    "neither true nor false": Case(
        make=text("user,item,time,chosen\na,b,1,1\na,c,2,perhaps\n"),
        file="log.csv",
        line=3,
        column="chosen",
        says='"perhaps" is neither true nor false',
        advice="Correct the cell",
    ),
    "outcomes without rewards": Case(
        make=text("user,item,time,action\na,b,1,view\na,c,2,buy\n"),
        file="log.csv",
        column="action",
        says="2 types and no rewards: buy, view",
        advice="--outcome buy=… --outcome view=…",
    ),
    "an outcome that the table does not name": Case(
        make=text("user,item,time,action\na,b,1,view\na,c,2,buy\n"),
        file="log.csv",
        line=3,
        column="action",
        says='"buy" is an outcome without a reward',
        advice="--outcome TYPE=REWARD",
        arguments=("--outcome", "view=1"),
    ),
    # other formats
    "NaN in Parquet": Case(
        make=parquet(FRAME.with_columns(rating=pl.Series([1.0, float("nan")]))),
        file="log.parquet",
        line=2,
        column="rating",
        says="nan is not a finite number",
        advice="remove the row",
    ),
    "lists in Parquet": Case(
        make=parquet(FRAME.with_columns(item_id=pl.Series([["x"], ["y"]]))),
        file="log.parquet",
        line=1,
        column="item_id",
        says='"item_id" holds a list',
        advice="into a column of its own",
    ),
    "no column in Parquet": Case(
        make=parquet(FRAME.drop("user_id")),
        file="log.parquet",
        column="user_id",
        says="no such column",
        advice="--column user_id=",
    ),
    "JSON array": Case(
        make=text('[{"user": "a"}]', "log.json"), file="log.json", line=1, says="JSON array", advice="jq -c"
    ),
    "JSON over several lines": Case(
        make=text('{\n  "user": "a"\n}\n', "log.json"),
        file="log.json",
        line=1,
        says="over several lines",
        advice="jq -c",
    ),
    "truncated line of JSON": Case(
        make=text('{"user":"a","item":"b","time":1}\n{"user":"a","it', "log.jsonl"),
        file="log.jsonl",
        line=2,
        says="cut short",
        advice="Correct or remove the line",
    ),
    "line of JSON that is not an object": Case(
        make=text('{"user":"a","item":"b","time":1}\n[1, 2]\n', "log.jsonl"),
        file="log.jsonl",
        line=2,
        says="is not an object",
        advice="Correct or remove the line",
    ),
    "nested value in JSON": Case(
        make=text('{"user":"a","item":"b","time":1}\n{"user":"a","item":{"id":1},"time":2}\n', "log.jsonl"),
        file="log.jsonl",
        line=2,
        says='"item" holds an object',
        advice="Correct or remove the line",
    ),
    "broken JSON": Case(
        make=text('{"user":"a","item":"b","time":1}\n{user: a}\n', "log.jsonl"),
        file="log.jsonl",
        line=2,
        says="not valid JSON",
        advice="Correct or remove the line",
    ),
    "unknown type of record": Case(
        make=folder(events__jsonl=DECISION + '{"record":"applause","event_id":"e"}\n' * 2),
        file="events.jsonl",
        line=2,
        says="2 lines are no records, 1 are",
        advice="Correct or remove the lines",
    ),
    "NUL in JSON": Case(
        make=text(b'{"user":"a","item":"b","time":1}\n{"user":"a\0","item":"b","time":1}\n', "log.jsonl"),
        file="log.jsonl",
        line=2,
        says="NUL byte",
        advice="remove the line",
    ),
    "NaN in lines of JSON": Case(
        make=text('{"user":"a","item":"b","time":1}\n{"user":"a","item":"b","time":2,"rating":NaN}\n', "log.jsonl"),
        file="log.jsonl",
        line=1,
        column="rating",
        says="an empty cell is not a finite number",
        advice="Correct the cell",
    ),
    "nothing but broken JSON": Case(
        make=text("{user: a}\n" * 3, "log.jsonl"),
        file="log.jsonl",
        line=1,
        says="not valid JSON",
        advice="Correct or remove the line",
    ),
    # clocks
    "serial dates of a spreadsheet": Case(
        make=text("user,item,time\na,b,44000.5\na,c,44001.25\n"),
        file="log.csv",
        line=2,
        column="time",
        says='"44000.5" is a serial date of a spreadsheet',
        advice="25569",
    ),
    "a date that does not exist": Case(
        make=text("user,item,date\na,b,20220430\na,c,20220431\n"),
        file="log.csv",
        line=3,
        column="date",
        says='"20220431" is not a time',
        advice="--time-format",
    ),
    # filters
    "core of slates": Case(
        make=text(SHOWN + "".join(SHOWN_ROWS)),
        file="log.csv",
        says="--core 2 for a log of slates",
        advice="Leave --core out",
        arguments=("--core", "2"),
    ),
    "empty core": Case(
        make=text(GOOD), file="log.csv", says="the 3-core is empty", advice="smaller number", arguments=("--core", "3")
    ),
    "nothing but missing names": Case(
        make=text(HEADER + "nan,tea,4,1600000000\nbob,NULL,2,1600000100\n"),
        file="log.csv",
        line=2,
        says="every row has a user or an item whose name looks like a missing value",
        advice="--column user_id=NAME",
        arguments=("--set-aside-missing",),
    ),
    "filters of decisions": Case(
        make=folder(events__jsonl=DECISION),
        file="log",
        says="are for tables",
        advice="Leave them out",
        arguments=("--core", "1"),
    ),
    # folders
    "a table beside decisions": Case(
        make=folder(events__jsonl=DECISION, ratings__csv=GOOD),
        file="log",
        says="two logs of different kinds: ratings.csv, and decisions and outcomes in events.jsonl",
        advice="slatewise data import .*ratings.csv .*events.jsonl",
    ),
    "empty folder": Case(make=folder(), file="log", says="no log in this folder", advice="Pass the file itself"),
    "folder with nothing to use": Case(
        make=folder(README="Some words.\n", picture__png=b"\x89PNG\r\n\x1a\n" + bytes(200)),
        file="log",
        says="README, picture.png",
        advice="Pass the file itself",
    ),
    "several logs": Case(
        make=folder(a__csv=GOOD, b__csv="user,item,time,rating\na,b,1,1\n"),
        file="log",
        says="several logs that are not pieces of one: a.csv, b.csv",
        advice="Pass one of the files",
    ),
    "one piece of a log is damaged": Case(
        make=folder(a__csv=GOOD, b__csv=b"\0\1\2\3" * 100),
        file="b.csv",
        says="binary",
        advice="Export",
    ),
    "MovieLens without its items": Case(
        make=folder(**{"u__data": RATINGS}), file="log", says="without their item table", advice="whole archive"
    ),
    "one item twice in its table": Case(
        make=folder(log__csv=GOOD, items__csv="item_id,title\ntea,Tea\ntea,More tea\n"),
        file="items.csv",
        line=3,
        column="item_id",
        says='"tea" is here a second time',
        advice="one row per item",
    ),
    "ragged table of items": Case(
        make=folder(log__csv=GOOD, items__csv="item_id,title\ntea,Tea,Green\n"),
        file="items.csv",
        line=2,
        says="3 fields; expected 2",
        advice="needs quotes",
    ),
    # arguments
    "output holds the input": Case(
        make=text(GOOD), file="", says="would replace the input", advice="--out DIR", arguments=("--out", ".")
    ),
    "output is a file": Case(
        make=text(GOOD), file="log.csv", says="would replace the input", advice="--out", arguments=("--out", "log.csv")
    ),
    "column of no log": Case(
        make=text(GOOD), says="--column colour", advice="Expected one of user_id", arguments=("--column", "colour=red")
    ),
    "column that is not there": Case(
        make=text(GOOD),
        file="log.csv",
        line=1,
        column="reward",
        says="no such column",
        advice="--column reward=",
        arguments=("--column", "reward=score"),
    ),
    "no pair": Case(make=text(GOOD), says="is not a pair", advice="click=1", arguments=("--outcome", "click")),
    "reward in words": Case(
        make=text(GOOD), says='"much" is not a number', advice="click=1", arguments=("--outcome", "click=much")
    ),
    "infinite reward of an outcome": Case(
        make=text(GOOD), says="not a finite number", advice="click=1", arguments=("--outcome", "click=inf")
    ),
    "time format": Case(
        make=text(GOOD), says="not a time format", advice="iso", arguments=("--time-format", "yesterday")
    ),
}


@pytest.fixture(scope="module")
def prepared_before(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a good data set, as they lie in the output folder before each case."""
    base = tmp_path_factory.mktemp("before")
    (base / "good.csv").write_text(GOOD)
    out = import_path(base / "good.csv", base / "out").path
    return {file.name: file.read_bytes() for file in out.iterdir()}


def _content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_malformed_input(
    name: str,
    tmp_path: Path,
    prepared_before: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for file, content in prepared_before.items():
        (tmp_path / "out" / file).write_bytes(content)
    path = case.make(tmp_path)
    before = _content(tmp_path)
    out = () if "--out" in case.arguments else ("--out", "out")
    monkeypatch.setattr(sys, "argv", ["slatewise", "data", "import", str(path), *out, *case.arguments])

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    printed = capsys.readouterr()
    assert stopped.value.code == 2, printed.err
    assert printed.out == ""
    assert "Traceback" not in printed.err
    place, _, rest = printed.err.removeprefix("Error: ").partition(": ")
    if case.file:
        assert re.search(rf"{re.escape(case.file)}(,|$)", place), printed.err
    if case.line is not None:
        assert f", line {case.line:,}" in place, printed.err
    else:
        assert ", line" not in place, printed.err
    if case.column is not None:
        assert f'column "{case.column}"' in place, printed.err
    assert re.search(case.says, printed.err), printed.err
    assert re.search(case.advice, rest or place), printed.err
    assert _content(tmp_path) == before


def test_classes_are_many() -> None:
    assert len(CASES) >= 28


@contextmanager
def _nobody(folder: Path) -> Iterator[None]:
    """As a user who is not root, for whom permissions count, and who may reach the folder."""
    if os.geteuid() != 0:
        yield
        return
    above = [folder, *folder.parents]
    modes = {path: path.stat().st_mode for path in above if path.owner() == "root" and path != Path("/")}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def test_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = text(GOOD)(tmp_path)
    monkeypatch.setattr(sys, "argv", ["slatewise", "data", "import", str(path), "--out", str(tmp_path / "first")])
    with pytest.raises(SystemExit):
        cli.main()  # what is loaded late must be there before root is given up
    path.chmod(0)
    monkeypatch.setattr(sys, "argv", ["slatewise", "data", "import", str(path), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stopped, _nobody(tmp_path):
        cli.main()
    assert stopped.value.code == 2
    assert "log.csv: cannot be read: Permission denied. Check its permissions." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
